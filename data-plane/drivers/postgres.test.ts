/** The driver from the first byte to the last, over real sockets. Long because its sides are played here: agent, target, spool, verifier. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { DisabledPrincipal, PolicySpec, ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import type { Spool } from "@sluice/events/spool.ts";
import type { LabelRules } from "@sluice/inspect/policy/label-rules.ts";
import { catalogOf, effectOf, principal, statement } from "@sluice/inspect/policy/sample-input.ts";
import type { Analysis, StatementModel } from "@sluice/inspect/sql/model.ts";
import type { AgentLink, OpenTargetRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import { encodeCatalog } from "@sluice/rpc/encoded-catalog.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import { noGatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import { noTraces } from "@sluice/telemetry/session-trace.ts";
import pino from "pino";
import { afterEach, describe, expect, test } from "vitest";
import type { Analyser, CatalogToLoad } from "../analysis/analyser.ts";
import { catalogFacts } from "../analysis/catalog-facts.ts";
import type { GatewayParts } from "../gateway-parts.ts";
import type { TokenVerifier } from "../identity/token-verifier.ts";
import type { VerifiedToken } from "../identity/verified-token.ts";
import { Admission } from "../listen/admission.ts";
import { type Listener, startListener } from "../listen/listener.ts";
import { PolicyStore } from "../policy-watch/policy-store.ts";
import { CancelKeys } from "../session/cancel-keys.ts";
import { LiveSessions } from "../session/live-sessions.ts";
import { Catalogs } from "../upstream/catalogs.ts";
import { servePostgres } from "./postgres.ts";

const resource: ResourceSpec = {
  name: "orders",
  labels: {},
  protocol: "postgres",
  target: { host: "127.0.0.1", port: 5432, database: "orders", databases: [], tls: { mode: "disable" } },
  credential: { username: { kind: "value", value: "app" } },
  inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "strict" },
};
const everything: PolicySpec = { name: "all", principals: {}, resources: {}, rules: [{ name: "all", effect: "allow" }] };
const snapshot: Snapshot = {
  version: "1",
  resources: [resource],
  classifiers: [],
  policies: [everything],
  identityProviders: [],
};

function analysed(...statements: readonly StatementModel[]): Analysis {
  return { kind: "ok", statements, epoch: "sample" as CatalogEpoch }; // the sample catalog's
}

/** One gateway over real sockets, with an agent, a verifier and a disk that do what the test says. */
class Bench {
  readonly records: SessionRecord[] = [];
  readonly sessions = new LiveSessions();
  readonly admission: Admission;
  readonly targets: Socket[] = [];
  readonly opened: OpenTargetRequest[] = [];
  readonly listener: Listener;
  /** The agent's side of each target connection, paused, without a listener, as the agent link promises. */
  beforeTarget: () => Promise<void> = () => Promise.resolve();
  beforeVerified: () => Promise<void> = () => Promise.resolve();
  durable: () => Promise<void> = () => Promise.resolve();
  cancel: () => Promise<void> = () => Promise.resolve();
  analysis: Analysis = analysed(statement());
  /** What is left of the policy's leases. */
  leases = { strict: 1, other: 1 };
  draining = false;
  readonly #server: Server;
  readonly catalogs: Catalogs;
  readonly #callers: Socket[] = [];

  private constructor(server: Server, start: (bench: Bench) => { listener: Listener; admission: Admission; catalogs: Catalogs }) {
    this.#server = server;
    const { listener, admission, catalogs } = start(this);
    this.listener = listener;
    this.admission = admission;
    this.catalogs = catalogs;
  }

  static async start(limits: Partial<Limits> = {}): Promise<Bench> {
    const far: Socket[] = [];
    const server = createServer((socket) => {
      socket.on("error", () => {});
      far.push(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const made: { bench?: Bench } = {};
    const bench = (): Bench => made.bench!; // nothing is served before it is made
    const all = { ...defaultLimits, ...limits };
    const log = pino({ level: "silent" });
    const listeners: ((snapshot: Snapshot) => void)[] = [];
    const source: SnapshotSource = {
      current: snapshot,
      subscribe: (listener) => (listeners.push(listener), () => {}),
      lease: { remainingMs: (strict) => (strict ? bench().leases.strict : bench().leases.other) },
    };
    const policies = new PolicyStore(source, log);
    const agentLink: AgentLink = {
      openTarget: async (request): Promise<TargetConnection> => {
        bench().opened.push(request);
        await bench().beforeTarget();
        request.signal.throwIfAborted();
        const stream = connect((server.address() as { port: number }).port, "127.0.0.1"); // a TCP server's address
        await new Promise((resolve) => stream.once("connect", resolve));
        stream.pause();
        bench().targets.push(stream);
        return { stream, parameters: [["server_version", "15.0"]], cancel: () => bench().cancel() };
      },
      readCatalog: () => encodeCatalog(catalogOf([])),
      close: () => Promise.resolve(),
    };
    const analyser = Object.assign({} as Analyser, {
      loadCatalog: async (_: string, { rules }: CatalogToLoad) => catalogFacts(catalogOf([]), rules),
      labelCatalog: async (_: string, __: CatalogEpoch, rules: LabelRules) => catalogFacts(catalogOf([]), rules),
      hasCatalog: () => true,
      forgetCatalog: () => {},
      cached: () => bench().analysis,
      analyse: async () => bench().analysis,
    });
    const catalogs = new Catalogs({ agentLink, analyser, policies, limits: all, clock: systemClock, log });
    const admission = new Admission(all);
    const spool: Partial<Spool> = {
      append: (record) => void bench().records.push(record),
      release: (record, pieces) => {
        const bytes = Buffer.concat(pieces);
        bench().records.push({ ...record, bytes });
        return { bytes, sent: () => {} };
      },
      durable: () => bench().durable(),
      crowded: false,
    };
    const verify = async (): Promise<VerifiedToken> => {
      await bench().beforeVerified();
      return { principal: principal(), expiresAtMs: Number.POSITIVE_INFINITY };
    };
    const parts: GatewayParts = {
      agentLink,
      spool: spool as Spool, // a session uses no more of it
      policies,
      catalogs,
      analyser,
      verifier: Object.assign({} as TokenVerifier, { verify }), // a driver uses no more of it
      admission,
      cancelKeys: new CancelKeys(systemRandom),
      get sessions() {
        return bench().sessions;
      },
      certificate: null,
      limits: all,
      clock: systemClock,
      random: systemRandom,
      log,
      draining: () => bench().draining,
      metrics: noGatewayMetrics,
      traces: noTraces,
    };
    const listen = { host: "127.0.0.1", port: 0 };
    const listener = await startListener(
      { protocol: "postgres", listen, proxyProtocolFrom: [], advertise: null },
      servePostgres,
      parts,
    );
    made.bench = new Bench(server, () => ({ listener, admission, catalogs }));
    made.bench.far = far;
    made.bench.apply = (next) => {
      for (const listener of listeners) listener(next);
    };
    return made.bench;
  }

  /** Puts another snapshot in force. */
  apply: (next: Snapshot) => void = () => {};
  /** The target's own side of each connection. */
  far: Socket[] = [];

  /** A caller that has sent everything up to its token. */
  caller(...more: readonly Buffer[]): Caller {
    const socket = connect(Number(this.listener.address.split(":")[1]), "127.0.0.1");
    this.#callers.push(socket);
    const caller = { socket, received: Buffer.alloc(0), closed: false };
    socket.on("data", (chunk: Buffer) => {
      if (caller.received.length < RECEIVED_BYTES_MAX) caller.received = Buffer.concat([caller.received, chunk]);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      caller.closed = true;
    });
    socket.write(Buffer.concat([startup, password, ...more]));
    return caller;
  }

  /** Of what was released. */
  get recordedBytes(): number {
    return this.records.reduce((sum, record) => sum + (record.kind === "released" ? record.bytes.length : 0), 0);
  }

  get kinds(): readonly string[] {
    return this.records.map(({ kind }) => kind);
  }

  async stop(): Promise<void> {
    for (const socket of [...this.#callers, ...this.targets, ...this.far]) socket.destroy();
    this.catalogs.close();
    await this.listener.stop();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Of what a caller gets: enough for what tests look at. */
const RECEIVED_BYTES_MAX = 64 * 1024;

interface Caller {
  readonly socket: Socket;
  readonly received: Buffer;
  readonly closed: boolean;
}

function message(type: string, body: string): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, Buffer.from(body, "latin1")]);
}

function untyped(body: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length + 4);
  return Buffer.concat([head, body]);
}

const startup = untyped(Buffer.concat([Buffer.from([0, 3, 0, 0]), Buffer.from("user\0me\0database\0orders\0\0")]));
const password = message("p", "token\0");
const query = message("Q", "SELECT 1\0");
const cancelRequest = untyped(Buffer.from([4, 210, 22, 46, 0, 0, 0, 1, 1, 2, 3, 4]));

let bench: Bench;
afterEach(async () => {
  await bench.stop();
});

const gone = (): unknown => ({ sessions: bench.sessions.size, admitted: bench.admission.sessions });
const nobody = { sessions: 0, admitted: 0 };

describe("a login", () => {
  test("survives a target that resets the connection before the session listens to it", async () => {
    bench = await Bench.start();
    const disk = Promise.withResolvers<void>();
    bench.durable = () => disk.promise;
    const caller = bench.caller();
    await expect.poll(() => bench.far.length).toBe(1);
    bench.far[0]!.resetAndDestroy();
    await delay(30);
    disk.resolve();
    await expect.poll(() => caller.received.toString("latin1")).toContain("target_closed");
    await expect.poll(gone).toEqual(nobody);
    expect(bench.kinds).toEqual(["opened", "released", "closed"]);
  });

  test("leaves nothing behind when its caller vanishes while the target is opened", async () => {
    bench = await Bench.start();
    const opening = Promise.withResolvers<void>();
    bench.beforeTarget = () => opening.promise;
    const caller = bench.caller();
    await expect.poll(() => bench.opened.length).toBe(1);
    caller.socket.resetAndDestroy();
    await delay(30);
    expect(bench.opened[0]!.signal.aborted).toBe(true);
    opening.resolve();
    await expect.poll(gone).toEqual(nobody);
    await expect.poll(() => bench.targets.every(({ destroyed }) => destroyed)).toBe(true);
  });

  test("leaves nothing behind when its caller vanishes while its first record is on its way to the disk", async () => {
    bench = await Bench.start();
    const disk = Promise.withResolvers<void>();
    bench.durable = () => disk.promise;
    const caller = bench.caller();
    await expect.poll(() => bench.kinds).toEqual(["opened"]);
    caller.socket.resetAndDestroy();
    await delay(30);
    disk.resolve();
    await expect.poll(() => bench.kinds).toEqual(["opened", "closed"]);
    expect(gone()).toEqual(nobody);
    expect(bench.targets[0]!.destroyed).toBe(true);
  });

  test("opens no target for a caller that vanished while its token was looked at", async () => {
    bench = await Bench.start();
    const verified = Promise.withResolvers<void>();
    let asked = 0;
    bench.beforeVerified = () => {
      asked += 1;
      return verified.promise;
    };
    const caller = bench.caller();
    await expect.poll(() => asked).toBe(1);
    caller.socket.resetAndDestroy();
    await delay(30);
    verified.resolve();
    await delay(50);
    expect(bench.opened).toEqual([]);
    expect(gone()).toEqual(nobody);
  });

  test("that is under way when the gateway begins to drain gets no session", async () => {
    bench = await Bench.start();
    const opening = Promise.withResolvers<void>();
    bench.beforeTarget = () => opening.promise;
    const caller = bench.caller();
    await expect.poll(() => bench.opened.length).toBe(1);
    bench.draining = true;
    const drained = bench.sessions.drain(systemClock, 1_000);
    await delay(20);
    expect(bench.opened[0]!.signal.aborted).toBe(true);
    opening.resolve();
    await drained;
    await expect.poll(() => caller.received.toString("latin1")).toContain("draining");
    await expect.poll(gone).toEqual(nobody);
    expect(bench.kinds).toEqual([]);
    await expect.poll(() => bench.targets.every(({ destroyed }) => destroyed)).toBe(true);
  });

  test("is refused when its beginning cannot be recorded", async () => {
    bench = await Bench.start();
    bench.durable = () => Promise.reject(new GatewayError("recording_unavailable", "The disk is gone."));
    const caller = bench.caller(query);
    await expect.poll(() => caller.received.toString("latin1")).toContain("The disk is gone.");
    await expect.poll(gone).toEqual(nobody);
    expect(bench.targets[0]!.destroyed).toBe(true);
  });
});

describe("a session", () => {
  test("that dies in the middle of DDL leaves its resource in doubt until the target was told and had time to stop", async () => {
    bench = await Bench.start();
    bench.analysis = analysed(effectOf("ddl", "alter_table", { changesCatalog: true }));
    const told = Promise.withResolvers<void>();
    let cancels = 0;
    bench.cancel = () => {
      cancels += 1;
      return told.promise;
    };
    const caller = bench.caller(query);
    const entry = bench.catalogs.entry(resource, "orders");
    await expect.poll(() => entry.dirty).toBe(true);
    caller.socket.resetAndDestroy();
    await expect.poll(gone).toEqual(nobody);
    await expect.poll(() => cancels).toBe(1);
    await delay(100);
    expect([entry.dirty, entry.current !== undefined]).toEqual([true, true]);
    told.resolve();
    await expect.poll(() => entry.dirty, { timeout: 3_000 }).toBe(false);
  });

  test("forwards no write before it is durable, and ends when it cannot be", async () => {
    bench = await Bench.start();
    bench.analysis = analysed(effectOf("write", "insert"));
    const caller = bench.caller();
    await expect.poll(() => bench.far.length).toBe(1);
    await expect.poll(() => caller.received.includes("sluice.session_id")).toBe(true);
    let taken = 0;
    bench.far[0]!.on("data", (chunk: Buffer) => (taken += chunk.length));
    const disk = Promise.withResolvers<void>();
    bench.durable = () => disk.promise;
    caller.socket.write(Buffer.concat([query, query, query]));
    await expect.poll(() => bench.kinds.filter((kind) => kind === "statement").length).toBeGreaterThan(0);
    await delay(50);
    expect(taken).toBe(0);
    disk.reject(new GatewayError("recording_unavailable", "The disk is gone."));
    await expect.poll(() => caller.received.toString("latin1")).toContain("The disk is gone.");
    await expect.poll(gone).toEqual(nobody);
    expect(taken).toBe(0);
  });

  test("reads no further from a target than its caller takes", async () => {
    bench = await Bench.start({ outboundBufferBytesMax: 256 * 1024 });
    const caller = bench.caller(query);
    await expect.poll(() => bench.far.length).toBe(1);
    await expect.poll(() => caller.received.includes("sluice.session_id")).toBe(true);
    caller.socket.pause();
    const far = bench.far[0]!;
    const notice = message("N", `SNOTICE\0VNOTICE\0C00000\0M${"x".repeat(60_000)}\0\0`);
    for (let at = 0; at < 800; at++) far.write(notice); // 48 MB
    await delay(400);
    const stuck = bench.recordedBytes;
    await delay(200);
    expect(bench.recordedBytes).toBe(stuck);
    // What the kernel holds of a loopback connection, both ways, and the bound itself.
    expect(stuck).toBeLessThan(24 * 1024 * 1024);
    caller.socket.resume();
    await expect.poll(() => bench.recordedBytes, { timeout: 5_000 }).toBeGreaterThanOrEqual(800 * notice.length);
  });

  test("reads no further from a caller than its target takes", async () => {
    bench = await Bench.start();
    bench.analysis = analysed(effectOf("write", "copy_from", { copy: "in" }));
    const caller = bench.caller(message("Q", "COPY t FROM STDIN\0"));
    await expect.poll(() => bench.far.length).toBe(1);
    const far = bench.far[0]!;
    await new Promise((resolve) => far.once("data", resolve));
    far.pause();
    far.write(message("G", "\0\0\0"));
    await expect.poll(() => caller.received.includes("G\0\0\0\u0007")).toBe(true);
    const data = message("d", "x".repeat(60_000));
    for (let at = 0; at < 800; at++) caller.socket.write(data);
    await delay(400);
    const stuck = caller.socket.bytesWritten - caller.socket.writableLength;
    expect(bench.targets[0]!.writableLength).toBeLessThan(2 * 1024 * 1024);
    expect(stuck).toBeLessThan(24 * 1024 * 1024);
    far.resume();
    await expect.poll(() => caller.socket.writableLength, { timeout: 5_000 }).toBe(0);
  });
});

describe("a policy that changes", () => {
  const changes: readonly (readonly [string, Partial<Snapshot>, string])[] = [
    ["takes the resource away", { resources: [] }, "No policy lets you"],
    ["allows its principal nothing any more", { policies: [] }, "No policy lets you"],
    [
      "excludes its resource by a label",
      { policies: [{ ...everything, resources: { labels: { env: "test" } } }] },
      "No policy lets",
    ],
    [
      "points the resource at another server",
      { resources: [{ ...resource, target: { ...resource.target, port: 5433 } }] },
      "now means another database",
    ],
  ];
  test.each(changes)("ends a session at once when it %s", async (_, change, sentence) => {
    bench = await Bench.start();
    const caller = bench.caller();
    await expect.poll(() => bench.sessions.size).toBe(1);
    await expect.poll(() => caller.received.toString("latin1")).toContain("sluice.session_id");
    bench.apply({ ...snapshot, version: "2", ...change });
    await expect.poll(() => caller.received.toString("latin1")).toContain(sentence);
    await expect.poll(gone).toEqual(nobody);
    expect(bench.records.at(-1)).toMatchObject({ kind: "closed", closed: { code: "killed" } });
  });

  test("refuses a login that began before it", async () => {
    bench = await Bench.start();
    const opening = Promise.withResolvers<void>();
    bench.beforeTarget = () => opening.promise;
    const caller = bench.caller(query);
    await expect.poll(() => bench.opened.length).toBe(1);
    bench.apply({ ...snapshot, version: "2", policies: [] });
    opening.resolve();
    await expect.poll(() => caller.received.toString("latin1")).toContain("No policy lets you");
    await expect.poll(gone).toEqual(nobody);
    expect(caller.received.includes("sluice.session_id")).toBe(false);
  });

  test("leaves a session alone that it does not concern", async () => {
    bench = await Bench.start();
    bench.caller();
    await expect.poll(() => bench.kinds).toEqual(["opened"]);
    await expect.poll(() => bench.sessions.size).toBe(1);
    bench.apply({ ...snapshot, version: "2", resources: [{ ...resource, labels: { env: "prod" } }] });
    await delay(30);
    expect(bench.sessions.size).toBe(1);
  });
});

describe("a disabled principal", () => {
  const { subject, issuer, owner } = principal();
  const entries: readonly (readonly [string, DisabledPrincipal])[] = [
    ["by subject and issuer", { subject, issuer, owner: null, reason: "Left the team." }],
    ["by subject, of any issuer", { subject, issuer: null, owner: null, reason: "Left the team." }],
    ["by owner", { subject: null, issuer: null, owner, reason: "Left the team." }],
  ];

  test.each(entries)("%s: its sessions end in the moment the snapshot comes, and it gets no other", async (_, entry) => {
    bench = await Bench.start();
    const caller = bench.caller();
    await expect.poll(() => caller.received.toString("latin1")).toContain("sluice.session_id");
    bench.apply({ ...snapshot, version: "1", disabled: [entry] });
    expect(bench.kinds.at(-1)).toBe("released");
    await expect.poll(() => caller.received.toString("latin1")).toContain("Left the team.");
    await expect.poll(gone).toEqual(nobody);
    expect(bench.records.at(-1)).toMatchObject({ kind: "closed", closed: { code: "killed" } });
    const again = bench.caller();
    await expect.poll(() => again.received.toString("latin1")).toContain("Left the team.");
    await expect.poll(() => again.closed).toBe(true);
    expect(again.received.toString("latin1")).toContain("C28000");
    expect(bench.opened.length).toBe(1);
    bench.apply({ ...snapshot, version: "1", disabled: [] });
    const enabled = bench.caller();
    await expect.poll(() => enabled.received.toString("latin1")).toContain("sluice.session_id");
  });

  test("somebody else of the same name or owner stays", async () => {
    bench = await Bench.start();
    const caller = bench.caller();
    await expect.poll(() => caller.received.toString("latin1")).toContain("sluice.session_id");
    bench.apply({
      ...snapshot,
      disabled: [
        { subject, issuer: "https://other.example.com", owner: null, reason: "" },
        { subject: null, issuer: null, owner: "bob", reason: "" },
        { subject: null, issuer: null, owner: "", reason: "" },
      ],
    });
    await delay(30);
    expect([bench.sessions.size, caller.closed]).toEqual([1, false]);
  });
});

test("a session is ended by its id, with the sentence that was given, and no other is", async () => {
  bench = await Bench.start();
  const [first, second] = [bench.caller(), bench.caller()];
  await expect.poll(() => bench.sessions.size).toBe(2);
  for (const caller of [first, second])
    await expect.poll(() => caller.received.toString("latin1")).toContain("sluice.session_id");
  const id = /sluice\.session_id\0(s_[A-Za-z0-9_-]{22})/.exec(first.received.toString("latin1"))![1]!;
  expect(bench.sessions.end("s_nobody", new GatewayError("killed", "x"))).toBe(false);
  expect(bench.sessions.end(id, new GatewayError("killed", "The reviewer ended it."))).toBe(true);
  await expect.poll(() => first.received.toString("latin1")).toContain("The reviewer ended it.");
  await expect.poll(() => bench.sessions.size).toBe(1);
  expect([first.closed, second.closed]).toEqual([true, false]);
  expect(bench.sessions.end(id, new GatewayError("killed", "x"))).toBe(false);
});

describe("a policy whose lease is over", () => {
  test("lets nobody in, the strictly recorded first, and says what to do", async () => {
    bench = await Bench.start();
    bench.leases = { strict: 0, other: 1 };
    const strict = bench.caller();
    await expect.poll(() => strict.received.toString("latin1")).toContain("has not heard from the control plane");
    expect(strict.received.toString("latin1")).toContain("policy_stale");
    bench.apply({ ...snapshot, resources: [{ ...resource, inspection: { ...resource.inspection, recording: "relaxed" } }] });
    const relaxed = bench.caller();
    await expect.poll(() => relaxed.received.toString("latin1")).toContain("sluice.session_id");
    bench.leases = { strict: 0, other: 0 };
    const late = bench.caller();
    await expect.poll(() => late.received.toString("latin1")).toContain("policy_stale");
    expect(bench.opened.length).toBe(1);
    bench.leases = { strict: 1, other: 1 };
    const renewed = bench.caller();
    await expect.poll(() => renewed.received.toString("latin1")).toContain("sluice.session_id");
  });

  test("lets no session begin that was opened in its last moment", async () => {
    bench = await Bench.start();
    const opening = Promise.withResolvers<void>();
    bench.beforeTarget = () => opening.promise;
    const caller = bench.caller();
    await expect.poll(() => bench.opened.length).toBe(1);
    bench.leases = { strict: 0, other: 1 };
    opening.resolve();
    await expect.poll(() => caller.received.toString("latin1")).toContain("policy_stale");
    expect(caller.received.includes("sluice.session_id")).toBe(false);
  });
});

describe("the account of a session", () => {
  const readOnlyCredential = { username: { kind: "value", value: "reader" } } as const;
  const reading: PolicySpec = {
    ...everything,
    rules: [{ name: "reading", effect: "allow", when: "statement.class == 'read'" }],
  };

  test("is the one that may only read where policy permits nothing else", async () => {
    bench = await Bench.start();
    const account = async (next: Snapshot): Promise<string> => {
      bench.apply(next);
      const before = bench.opened.length;
      bench.caller();
      await expect.poll(() => bench.opened.length).toBe(before + 1);
      return bench.opened.at(-1)!.account;
    };
    const both = [{ ...resource, readOnlyCredential }];
    expect(await account(snapshot)).toBe("readWrite");
    expect(await account({ ...snapshot, policies: [reading] })).toBe("readWrite");
    expect(await account({ ...snapshot, resources: both })).toBe("readWrite");
    expect(await account({ ...snapshot, resources: both, policies: [reading] })).toBe("readOnly");
  });

  test("does not change under it: what needs the other one is refused until the caller connects again", async () => {
    bench = await Bench.start();
    bench.apply({ ...snapshot, resources: [{ ...resource, readOnlyCredential }], policies: [reading] });
    bench.analysis = analysed(effectOf("write", "insert"));
    const caller = bench.caller();
    await expect.poll(() => caller.received.toString("latin1")).toContain("sluice.session_id");
    const far = bench.far[0]!;
    const sent: Buffer[] = [];
    far.on("data", (chunk: Buffer) => sent.push(chunk));
    bench.apply({ ...snapshot, version: "3", resources: [{ ...resource, readOnlyCredential }] });
    caller.socket.write(query);
    // What the target gets always fails; the caller is told why.
    await expect.poll(() => Buffer.concat(sent).toString("latin1")).toContain("sluice_refused");
    far.write(Buffer.concat([message("E", "SERROR\0VERROR\0C42601\0Mno\0\0"), message("Z", "I")]));
    await expect.poll(() => caller.received.toString("latin1")).toContain("Connect again");
    expect(bench.sessions.size).toBe(1);
  });
});

describe("a stranger", () => {
  test("cannot fill the memory behind a cancel request", async () => {
    bench = await Bench.start({ authenticationTimeoutMs: 30_000 });
    const socket = connect({ port: Number(bench.listener.address.split(":")[1]), host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", () => {});
    socket.resume();
    socket.write(cancelRequest);
    const chunk = Buffer.alloc(1024 * 1024);
    const startedAt = Date.now();
    for (let sent = 0; sent < 64; sent++) if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
    // Kept and joined piece by piece this would take ten times as long.
    expect(Date.now() - startedAt).toBeLessThan(1_500);
    // Whoever stays all the same is cut off long before the deadline of a login.
    await expect.poll(() => (socket.write("x"), socket.destroyed), { timeout: 3_000, interval: 100 }).toBe(true);
  });
});
