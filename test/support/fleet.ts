/**
 * An installation spread over processes, as a platform team would run it: control-plane replicas on one store, gateways, agents, a
 * recorder, NATS. Every process is `sluice …` as in production, joined by tokens made on the command line; a test stops, kills and
 * starts each as it likes. Ports are chosen once, so that what comes back comes back at its place.
 */
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { type AdminClient, createAdminClient } from "sluice/admin-client.ts";
import { type FleetNode, type FleetRole, launcher, NodeProcess } from "./fleet-node.ts";
import { type Issuer, startIssuer } from "./issuer.ts";
import { type Nats, startNats } from "./nats.ts";
import { contractManifests } from "./orders.ts";
import { ordersSchema, planted } from "./orders-schema.ts";
import type { ReplayedItem } from "./replayed.ts";
import { type CommandResult, runCommand } from "./sluice.ts";
import { type FleetStore, startStore } from "./fleet-store.ts";
import { APP_PASSWORD, startTarget, type Target } from "./targets.ts";

const CONNECT_TIMEOUT_MS = 60_000;
const AUDIENCE = "sluice-fleet";

export interface FleetOptions {
  readonly controlPlanes?: number;
  readonly gateways?: number;
  readonly agents?: number;
  /** A target that runs already and stays when the fleet stops; nothing is made in it. */
  readonly target?: Target;
  /** What the target needs besides the contract's schema. */
  readonly prepare?: (target: Target) => Promise<void>;
  /** Changes the manifests' text before they are applied. */
  readonly manifests?: (text: string) => string;
  /** Added to a process's Config, as YAML at the top level. */
  readonly config?: (role: FleetRole, index: number) => string;
  /** Changes a process's whole Config, e.g. whom it reaches through which proxy. */
  readonly rewrite?: (role: FleetRole, index: number, config: string) => Promise<string>;
  /** The ports that others are told, e.g. of a delay proxy; called with what is listened on. `portOf` says where callers are listened for. */
  readonly advertise?: (gateway: number, kind: AdvertisedKind, port: number) => Promise<number>;
}

export type AdvertisedKind = "control" | "sessions" | "callers";

export interface Fleet {
  readonly target: Target;
  readonly store: FleetStore;
  readonly nats: Nats;
  readonly issuer: Issuer;
  readonly controlPlanes: readonly FleetNode[];
  readonly gateways: readonly FleetNode[];
  readonly agents: readonly FleetNode[];
  readonly recorder: FleetNode;
  readonly directory: string;
  /** Where nodes enrol. */
  readonly controlPlaneAddresses: readonly string[];
  /** At a control plane that runs (the first that does, or the one given). */
  cli(args: readonly string[], controlPlane?: FleetNode): Promise<CommandResult>;
  /** The same without a process between, for what is timed: `SessionService/Kill` with its body. */
  admin(method: string, body: Readonly<Record<string, unknown>>, controlPlane?: FleetNode): Promise<unknown>;
  /** Everything of a recording, as `sessions replay --json` gives it. */
  replay(sessionId: string, controlPlane?: FleetNode): Promise<readonly ReplayedItem[]>;
  token(subject: string, groups: readonly string[], claims?: Readonly<Record<string, unknown>>): Promise<string>;
  connect(gateway: FleetNode, token: string, options?: pg.ClientConfig): Promise<pg.Client>;
  psql(gateway: FleetNode, token: string, script: string, ...args: string[]): Promise<CommandResult>;
  /** Waits until `nodes list` shows this many connected nodes of the role. */
  untilConnected(role: string, count: number): Promise<void>;
  stop(): Promise<void>;
}

interface Port {
  readonly port: number;
}

/** Ports that were free a moment ago, all held at the same time so that they differ. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", () => resolve()));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as Port).port); // TCP servers
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-fleet-"));
  await chmod(directory, 0o711);
  const [target, store, nats, issuer] = await Promise.all([
    options.target ?? startTarget(15),
    startStore(),
    startNats(),
    startIssuer(AUDIENCE),
  ]);
  if (options.target === undefined) await target.createDatabase("orders", ordersSchema(planted));
  await options.prepare?.(target);
  await mkdir(join(directory, "manifests"));
  const manifests = await contractManifests(target.port);
  await writeFile(join(directory, "manifests", "orders.yaml"), options.manifests?.(manifests) ?? manifests);
  await writeFile(
    join(directory, "manifests", "identity.yaml"),
    `apiVersion: sluice/v1\nkind: IdentityProvider\nmetadata: { name: corporate }\nspec:\n  issuer: ${issuer.url}\n  audiences: [${AUDIENCE}]\n  caFile: ${issuer.caFile}\n`,
  );
  await writeFile(join(directory, "store.key"), Buffer.alloc(32, 7).toString("base64"), { mode: 0o600 });
  const builder = new FleetBuilder(directory, { target, store, nats, issuer }, options);
  try {
    return await builder.build();
  } catch (error) {
    await builder.stop();
    throw error;
  }
}

interface Surroundings {
  readonly target: Target;
  readonly store: FleetStore;
  readonly nats: Nats;
  readonly issuer: Issuer;
}

class FleetBuilder {
  readonly #directory: string;
  readonly #around: Surroundings;
  readonly #options: FleetOptions;
  readonly #nodes: FleetNode[] = [];
  #nodesPorts: readonly number[] = [];

  constructor(directory: string, around: Surroundings, options: FleetOptions) {
    this.#directory = directory;
    this.#around = around;
    this.#options = options;
  }

  async build(): Promise<Fleet> {
    const { controlPlanes: replicas = 2, gateways: gatewayCount = 3, agents: agentCount = 2 } = this.#options;
    this.#nodesPorts = await freePorts(replicas);
    const controlPlanes = await Promise.all(this.#nodesPorts.map((port, index) => this.#controlPlane(index, port)));
    // One after the other: the second must find what the first has made, as after a rollout. Racing starts have a test of their own.
    for (const node of controlPlanes) await node.start();
    const recorder = await this.#recorder();
    const gateways: FleetNode[] = [];
    for (let index = 0; index < gatewayCount; index++) gateways.push(await this.#gateway(index));
    const agents: FleetNode[] = [];
    for (let index = 0; index < agentCount; index++) agents.push(await this.#agent(index));
    await Promise.all([recorder, ...gateways, ...agents].map((node) => node.start()));
    const fleet = this.#fleet(controlPlanes, gateways, agents, recorder);
    await fleet.untilConnected("gateway", gatewayCount);
    await fleet.untilConnected("agent", agentCount);
    return fleet;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.kill()));
    const { target, store, nats, issuer } = this.#around;
    const stops = [store.stop(), nats.stop(), issuer.stop()];
    if (this.#options.target === undefined) stops.push(target.stop());
    await Promise.all(stops);
    await rm(this.#directory, { recursive: true, force: true });
  }

  #fleet(
    controlPlanes: readonly FleetNode[],
    gateways: readonly FleetNode[],
    agents: readonly FleetNode[],
    recorder: FleetNode,
  ): Fleet {
    const running = (): FleetNode => controlPlanes.find((node) => node.running) ?? controlPlanes[0]!;
    const cli = (args: readonly string[], controlPlane?: FleetNode): Promise<CommandResult> =>
      this.#cli(args, controlPlane ?? running());
    return {
      ...this.#around,
      controlPlanes,
      gateways,
      agents,
      recorder,
      directory: this.#directory,
      controlPlaneAddresses: this.#nodesPorts.map((port) => `127.0.0.1:${port}`),
      cli,
      admin: async (method, body, controlPlane) => await (await adminOf(controlPlane ?? running())).call(method, body),
      replay: async (sessionId, controlPlane) => {
        const items: ReplayedItem[] = [];
        const stream = (await adminOf(controlPlane ?? running())).stream("SessionService/Replay", { id: sessionId });
        for await (const message of stream) items.push(...(message as { items: readonly ReplayedItem[] }).items); // by the contract
        return items;
      },
      token: (subject, groups, claims = {}) => this.#around.issuer.token({ sub: subject, groups, ...claims }),
      connect: (gateway, token, more = {}) => connectTo(gateway, token, more),
      psql: (gateway, token, script, ...args) => runPsql(this.#directory, gateway, token, script, args),
      untilConnected: (role, count) => untilConnected(cli, role, count),
      stop: () => this.stop(),
    };
  }

  #cli(args: readonly string[], controlPlane: FleetNode): Promise<CommandResult> {
    return runCommand(process.execPath, [launcher, ...args, "--ready-file", controlPlane.readyFile], this.#directory);
  }

  #controlPlane(index: number, port: number): Promise<FleetNode> {
    const { url, password } = this.#around.store;
    const config = `controlPlane:
  store: ${url}
  listen: 127.0.0.1:0
  developmentIssuer: false
  nodes: { listen: "127.0.0.1:${port}" }
  encryptionKey: { file: ../store.key }
events: { bus: nats, servers: ["${this.#around.nats.url}"] }
manifests: [../manifests]
`;
    return this.#node("control-plane", index, config, { PGPASSWORD: password });
  }

  async #gateway(index: number): Promise<FleetNode> {
    const [callers, control, sessions] = (await freePorts(3)) as [number, number, number]; // as many as asked for
    const told = async (kind: AdvertisedKind, port: number): Promise<number> =>
      (await this.#options.advertise?.(index, kind, port)) ?? port;
    const config = `dataPlane:
  listeners: [{ protocol: postgres, listen: "127.0.0.1:${callers}", advertise: "127.0.0.1:${await told("callers", callers)}" }]
  links:
    control: 127.0.0.1:${control}
    sessions: 127.0.0.1:${sessions}
    advertise: { control: "127.0.0.1:${await told("control", control)}", sessions: "127.0.0.1:${await told("sessions", sessions)}" }
events: { bus: nats, servers: ["${this.#around.nats.url}"] }
`;
    return this.#joining("data-plane", "gateway", index, config, {});
  }

  #agent(index: number): Promise<FleetNode> {
    const config = `agent:
  secrets: [{ env: ORDERS_PASSWORD, targets: ["127.0.0.1:*"] }]
`;
    return this.#joining("agent", "agent", index, config, { ORDERS_PASSWORD: APP_PASSWORD });
  }

  async #recorder(): Promise<FleetNode> {
    const [port] = (await freePorts(1)) as [number]; // as many as asked for
    const config = `recorder: { store: "file:recordings", listen: "127.0.0.1:${port}" }
events: { bus: nats, servers: ["${this.#around.nats.url}"] }
`;
    return await this.#joining("recorder", "recorder", 0, config, {});
  }

  async #joining(
    role: FleetRole,
    nodeRole: string,
    index: number,
    config: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<FleetNode> {
    const name = nameOf(nodeRole, index);
    const created = await this.#cli(
      ["nodes", "join-token", "create", "--role", nodeRole, "--name", name, "--host", "127.0.0.1", "--host", "localhost"],
      this.#nodes.find((node) => node.role === "control-plane" && node.running)!,
    );
    if (created.status !== 0) throw new Error(`no join token for ${name}: ${created.stderr}`);
    const node = `node:
  name: ${name}
  region: eu-${index + 1}
  controlPlanes: [${this.#nodesPorts.map((port) => `"127.0.0.1:${port}"`).join(", ")}]
  join: { tokenEnv: SLUICE_JOIN_TOKEN }
`;
    return await this.#node(role, index, `${node}${config}`, { SLUICE_JOIN_TOKEN: created.stdout.trim(), ...environment });
  }

  async #node(role: FleetRole, index: number, config: string, environment: Readonly<Record<string, string>>): Promise<FleetNode> {
    const more = this.#options.config?.(role, index) ?? "";
    const whole = `apiVersion: sluice/v1\nkind: Config\noperations: { listen: "127.0.0.1:0" }\n${config}${more}`;
    const text = (await this.#options.rewrite?.(role, index, whole)) ?? whole;
    const node = new NodeProcess(role, nameOf(role, index), join(this.#directory, nameOf(role, index)), text, environment);
    this.#nodes.push(node);
    return node;
  }
}

function nameOf(role: string, index: number): string {
  return `${role === "data-plane" ? "gateway" : role}-${index + 1}`;
}

export function portOf(gateway: FleetNode): number {
  return Number(gateway.ready.listeners[0]!.address.split(":").at(-1));
}

async function adminOf(controlPlane: FleetNode): Promise<AdminClient> {
  const { admin, adminToken, caFile } = controlPlane.ready;
  return createAdminClient({
    url: admin!, // a control plane says both
    token: adminToken!,
    ca: await readFile(caFile, "utf8"),
    unreachableHint: "Is the control plane running?",
  });
}

function runPsql(
  directory: string,
  gateway: FleetNode,
  token: string,
  script: string,
  args: readonly string[],
): Promise<CommandResult> {
  const place = `host=127.0.0.1 port=${portOf(gateway)} dbname=orders user=me sslmode=verify-full sslrootcert=${gateway.ready.caFile}`;
  return runCommand("psql", [place, "-X", "-v", "ON_ERROR_STOP=0", ...args], directory, { PGPASSWORD: token }, script);
}

async function connectTo(gateway: FleetNode, token: string, more: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: portOf(gateway),
    user: "me",
    password: token,
    database: "orders",
    ssl: { ca: await readFile(gateway.ready.caFile, "utf8"), rejectUnauthorized: true },
    ...more,
  });
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function untilConnected(
  cli: (args: readonly string[]) => Promise<CommandResult>,
  role: string,
  count: number,
): Promise<void> {
  let last = "";
  for (const deadline = Date.now() + CONNECT_TIMEOUT_MS; Date.now() < deadline; await delay(200)) {
    const { status, stdout, stderr } = await cli(["nodes", "list", "--json"]);
    last = stdout + stderr;
    if (status !== 0) continue;
    const nodes = JSON.parse(stdout) as readonly { readonly role: string; readonly state: string }[]; // the command's own shape
    if (nodes.filter((node) => node.role === role && node.state === "connected").length >= count) return;
  }
  throw new Error(`there were never ${count} connected nodes of role ${role}; last: ${last}`);
}
