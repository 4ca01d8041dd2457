/** For tests alone: control planes on one store with their admin API, and nodes that enrol and hold a control stream as real ones do, but decide nothing. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMethod, fromJson, type JsonValue, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Config } from "@sluice/core/config.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { ManifestService } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { NodeService } from "@sluice/proto/sluice/admin/v1/node_pb.ts";
import { PolicyService } from "@sluice/proto/sluice/admin/v1/policy_pb.ts";
import { PrincipalService } from "@sluice/proto/sluice/admin/v1/principal_pb.ts";
import { SessionService } from "@sluice/proto/sluice/admin/v1/session_pb.ts";
import { SignedContentSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import {
  type Directory,
  type HelloSchema,
  NodeControlService,
  type StatusSchema,
  type WatchResponse,
} from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { DuplexCall, GrpcChannel } from "@sluice/rpc/grpc.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import { toPlainJson } from "@sluice/rpc/plain-json.ts";
import { openNodeIdentity } from "@sluice/rpc/identity/open.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { pino } from "pino";
import { type ControlPlane, type ControlPlaneOptions, startControlPlane } from "../control-plane.ts";
import type { ManifestFile } from "../interface.ts";

const log = pino({ level: "silent" });

export interface Replica {
  readonly plane: ControlPlane;
  readonly limits: Limits;
  call(method: string, body: unknown): Promise<Readonly<Record<string, unknown>>>;
  close(): Promise<void>;
}

export interface ReplicaOptions {
  /** Of the store. */
  readonly url: string;
  readonly manifestFiles?: readonly ManifestFile[];
  readonly limits?: Partial<Limits>;
  readonly port?: number;
  readonly developmentIssuer?: boolean;
  readonly own?: Partial<Pick<ControlPlaneOptions, "explainer" | "recordings">>;
}

export async function startReplica(options: ReplicaOptions): Promise<Replica> {
  const dataDirectory = mkdtempSync(join(tmpdir(), "sluice-replica-"));
  const keyFile = join(dataDirectory, "given.key");
  writeFileSync(keyFile, Buffer.alloc(32, 7).toString("base64"), { mode: 0o600 });
  const limits = { ...defaultLimits, nodeHeartbeatMs: 100, nodeReportMs: 200, ...options.limits };
  const config: Config = {
    node: null,
    controlPlane: {
      store: { kind: "postgres", url: options.url },
      listen: { host: "127.0.0.1", port: 0 },
      hosts: [],
      developmentIssuer: options.developmentIssuer ?? false,
      nodes: { listen: { host: "127.0.0.1", port: options.port ?? 0 }, hosts: [] },
      encryptionKey: { kind: "file", path: keyFile },
      workloads: [],
      lease: { ms: 4 * 3_600_000, strictMs: 3_600_000 },
    },
    dataPlane: { listeners: [], tls: { mode: "self-signed", hosts: [] }, links: null },
    agent: { secrets: [], nearest: 2, vaults: [], kubernetes: null },
    events: { bus: "embedded" },
    recorder: { directory: join(dataDirectory, "recordings"), listen: null, advertise: null },
    operations: { listen: null },
    telemetry: { tracesEndpoint: null, sampleRatio: 0 },
    limits: {},
    manifests: [],
  };
  const plane = await startControlPlane({
    config,
    dataDirectory,
    manifestFiles: options.manifestFiles ?? [],
    limits,
    clock: systemClock,
    random: systemRandom,
    log,
    explainer: options.own?.explainer ?? null,
    recordings: options.own?.recordings ?? null,
  });
  return {
    plane,
    limits,
    call: async (method, body) => await callAdmin(plane, method, body),
    close: async () => {
      await plane.close();
      rmSync(dataDirectory, { recursive: true, force: true });
    },
  };
}

/** Throws the answer's code and message when it is a refusal. */
async function callAdmin(plane: ControlPlane, method: string, body: unknown): Promise<Readonly<Record<string, unknown>>> {
  const text = await new Promise<string>((resolve, reject) => {
    const outgoing = request(
      new URL(`/sluice.admin.v1.${method}`, plane.adminUrl),
      {
        ca: readFileSync(plane.caFile),
        method: "POST",
        agent: false,
        headers: { authorization: `Bearer ${plane.adminToken}`, "content-type": "application/json" },
      },
      (response) => {
        let received = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => {
          received += part;
        });
        response.on("end", () => (response.statusCode === 200 ? resolve(received) : reject(new Error(received))));
      },
    );
    outgoing.on("error", reject);
    outgoing.end(JSON.stringify(body));
  });
  const { output } = methodOf(method);
  return toPlainJson(output, fromJson(output, JSON.parse(text) as JsonValue)); // just parsed
}

function methodOf(name: string): DescMethod {
  const services = [ManifestService, NodeService, PolicyService, PrincipalService, SessionService];
  const method = services.flatMap(({ methods }) => methods).find((one) => `${one.parent.name}/${one.name}` === name);
  if (method === undefined) throw new Error(`no such method: ${name}`);
  return method;
}

export type FakeRole = "gateway" | "agent" | "recorder";

/** With a join token of this replica. */
export async function enrolAt(
  replica: Replica,
  role: FakeRole,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<NodeIdentity> {
  const { token } = await replica.call("NodeService/CreateJoinToken", { role, name, labels, hosts: [], ttlSeconds: 60 });
  const directory = mkdtempSync(join(tmpdir(), "sluice-node-"));
  const identity = await openNodeIdentity({
    role,
    node: { name, region: "", controlPlanes: [addressOf(replica)], join: { kind: "tokenEnv", name: "TOKEN" } },
    directory: join(directory, "identity"),
    hosts: [],
    clock: systemClock,
    random: systemRandom,
    log,
    readEnvironment: () => String(token),
  });
  rmSync(directory, { recursive: true, force: true });
  return identity;
}

export function addressOf({ plane }: Replica): string {
  if (plane.nodesAddress === null) throw new Error("nodes cannot join this control plane");
  return plane.nodesAddress;
}

type Instruction = WatchResponse["instruction"];
type InstructionCase = NonNullable<Instruction["case"]>;
type ValueOf<Case extends InstructionCase> = Extract<Instruction, { case: Case }> extends { value: infer Value } ? Value : never;

/** A control stream to one replica. Keeps all that it heard. */
export class FakeNode {
  readonly heard: WatchResponse[] = [];
  /** What ended the stream; null: it was ended in order. */
  ended: { readonly error: unknown } | undefined;
  readonly #channel: GrpcChannel;
  readonly #call: DuplexCall<typeof NodeControlService.method.watch>;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #beating: NodeJS.Timeout | undefined;
  #status: MessageInitShape<typeof StatusSchema> = {};

  constructor(replica: Replica, identity: NodeIdentity, hello: MessageInitShape<typeof HelloSchema> = {}) {
    const peer = { address: addressOf(replica), role: "control-plane", name: "" } as const;
    this.#channel = dialGrpc(peer, { identity, log, messageBytesMax: defaultLimits.nodeMessageBytesMax });
    this.#call = this.#channel.duplex(NodeControlService.method.watch, { signal: this.#stopping.signal });
    this.#call.send({ report: { case: "hello", value: { capability: 2, capabilityMin: 1, softwareVersion: "test", ...hello } } });
    this.#running = this.#listen();
    this.#beating = setInterval(() => this.report(this.#status), replica.limits.nodeHeartbeatMs);
  }

  /** Says so now and at each heartbeat. */
  report(status: MessageInitShape<typeof StatusSchema>): void {
    this.#status = status;
    if (this.ended === undefined) this.#call.send({ report: { case: "status", value: status } });
  }

  send(message: Parameters<DuplexCall<typeof NodeControlService.method.watch>["send"]>[0]): void {
    this.#call.send(message);
  }

  /** Of one kind, in order. */
  all<Case extends InstructionCase>(kind: Case): readonly ValueOf<Case>[] {
    // The compiler does not narrow by a case that is a variable.
    return this.heard.flatMap(({ instruction }) => (instruction.case === kind ? [instruction.value as ValueOf<Case>] : []));
  }

  /** The last snapshot as it came, serialised. */
  get snapshot(): Uint8Array | undefined {
    const last = this.all("snapshot").at(-1);
    return last === undefined ? undefined : toBinary(SignedContentSchema, create(SignedContentSchema, last));
  }

  get directory(): Directory | undefined {
    return this.all("directory").at(-1);
  }

  async stop(): Promise<void> {
    clearInterval(this.#beating);
    this.#call.end();
    this.#stopping.abort();
    await this.#running;
    this.#channel.close();
  }

  async #listen(): Promise<void> {
    try {
      for await (const message of this.#call.received) this.heard.push(message);
      this.ended = { error: null };
    } catch (error) {
      this.ended = { error };
    }
    clearInterval(this.#beating);
  }
}

/** Asks every few milliseconds until it is so. Throws what it last was when it does not come in time. */
export async function until<Value>(
  read: () => Value | Promise<Value>,
  isSo: (value: Value) => boolean,
  withinMs = 5_000,
): Promise<Value> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    const value = await read();
    if (isSo(value)) return value;
    if (performance.now() > deadlineMs) throw new Error(`not within ${withinMs} ms; last: ${describe(value)}`);
    await delay(10);
  }
}

function describe(value: unknown): string {
  const shown: unknown = JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? String(part) : part));
  return String(shown).slice(0, 1_000);
}
