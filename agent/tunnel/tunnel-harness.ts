/** For tests alone: a tunnel with a directory that the test writes, and targets that are echoes over real TCP. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { Catalog } from "@sluice/core/catalog.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { AgentLink, OpenTargetRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import { type EncodedCatalog, encodeCatalog } from "@sluice/rpc/encoded-catalog.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { pino } from "pino";
import { openTunnel, type Tunnel, type TunnelOptions } from "./tunnel.ts";

export class TunnelHarness {
  readonly targets: EchoTargets = new EchoTargets();
  readonly logged: string[] = [];
  readonly resources: Map<string, ResourceSpec> = new Map<string, ResourceSpec>();
  readonly tunnel: Tunnel;
  sequence = 7n;
  #directory: readonly DirectoryNode[] = [];
  readonly #listeners = new Set<(nodes: readonly DirectoryNode[]) => void>();

  constructor(
    identity: NodeIdentity,
    options: { readonly limits?: Partial<Limits>; readonly clock?: Clock; readonly nearest?: number } & Pick<
      TunnelOptions,
      "capability"
    > & { readonly agentLink?: AgentLink } = {},
  ) {
    this.resources.set("orders", resource());
    const read = (): bigint => this.sequence;
    const { resources } = this;
    this.tunnel = openTunnel({
      identity,
      control: this,
      resources: {
        get sequence() {
          return read();
        },
        find: (name) => resources.get(name),
      },
      agentLink: options.agentLink ?? this.targets,
      config: { nearest: options.nearest ?? 2, region: "here" },
      limits: { ...defaultLimits, gatewayMeasureMs: 500, drainTimeoutMs: 500, ...options.limits },
      clock: options.clock ?? systemClock,
      random: systemRandom,
      log: pino({ level: "debug" }, { write: (line: string) => void this.logged.push(line) }),
      ...(options.capability === undefined ? {} : { capability: options.capability }),
    });
  }

  get directory(): readonly DirectoryNode[] {
    return this.#directory;
  }

  set directory(nodes: readonly DirectoryNode[]) {
    this.#directory = nodes;
    for (const listener of this.#listeners) listener(nodes);
  }

  onDirectory(listener: (nodes: readonly DirectoryNode[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  statusChanged(): void {}

  async close(): Promise<void> {
    await this.tunnel.close();
    await this.targets.close();
  }
}

/** An agent link whose targets send back what they get. Database `hang` is never opened. */
export class EchoTargets implements AgentLink {
  readonly requests: OpenTargetRequest[] = [];
  readonly opened: Socket[] = [];
  readonly accepted: Socket[] = [];
  readonly released: TargetConnection[] = [];
  cancels = 0;
  /** Whether a target connection may be used again. */
  pooled = false;
  fault: Error | undefined;
  aborted = 0;
  readonly #server: Server = createServer((socket) => {
    socket.on("error", () => undefined);
    this.accepted.push(socket);
    socket.pipe(socket);
  });
  readonly #port: Promise<number>;

  constructor() {
    this.#server.listen(0, "127.0.0.1");
    this.#port = once(this.#server, "listening").then(() => {
      const address = this.#server.address();
      return typeof address === "object" && address !== null ? address.port : 0;
    });
  }

  async openTarget(request: OpenTargetRequest): Promise<TargetConnection> {
    this.requests.push(request);
    if (this.fault !== undefined) throw this.fault;
    if (request.database === "hang") {
      await once(request.signal, "abort");
      this.aborted += 1;
      throw request.signal.reason;
    }
    const socket = connect(await this.#port, "127.0.0.1");
    await once(socket, "connect");
    socket.pause();
    this.opened.push(socket);
    const connection: TargetConnection = {
      stream: socket,
      parameters: [["server_version", "18.0"]],
      cancel: async () => void this.cancels++,
      ...(this.pooled ? { release: () => void this.released.push(connection) } : {}),
    };
    return connection;
  }

  async readCatalog(): Promise<EncodedCatalog> {
    if (this.fault !== undefined) throw this.fault;
    // What a catalog holds is of no matter here.
    return await encodeCatalog({ epoch: "e", relations: [{ name: "x".repeat(600_000) }] } as unknown as Catalog);
  }

  async close(): Promise<void> {
    for (const socket of [...this.opened, ...this.accepted]) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export function resource(changes: Partial<ResourceSpec> = {}): ResourceSpec {
  return {
    name: "orders",
    labels: { team: "shop" },
    protocol: "postgres",
    target: { host: "127.0.0.1", port: 5432, database: "shop", databases: [], tls: { mode: "disable" } },
    credential: { username: { kind: "value", value: "app" } },
    inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
    ...changes,
  };
}
