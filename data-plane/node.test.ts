/** A gateway's process around the gateway, over real mTLS, with a control plane that says what the test wants. */
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls, type PeerCertificate } from "node:tls";
import { fromBinary } from "@bufbuild/protobuf";
import type { Config } from "@sluice/core/config.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { SignedContentSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { NodeControlService, type WatchRequest, type WatchResponse } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import { CAPABILITY, CAPABILITY_MIN } from "@sluice/rpc/capabilities.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { GrpcServer } from "@sluice/rpc/grpc.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import pino from "pino";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type GatewayNode, startGatewayNode } from "./node.ts";
import { signSnapshot, snapshotOf, type SnapshotSigner, snapshotSigner } from "./policy-watch/signed-snapshot.test-fixture.ts";

type Instruction = WatchResponse["instruction"];

/** One replica: keeps what nodes report, says what it is told to say. */
class ControlPlane {
  readonly reports: WatchRequest["report"][] = [];
  readonly #waiting = new Set<() => void>();
  readonly #said: Instruction[] = [];
  #server: GrpcServer | undefined;

  async start(port: number, identity: LiveIdentity): Promise<void> {
    const watch = (
      requests: AsyncIterable<WatchRequest>,
      { signal }: { signal: AbortSignal },
    ): AsyncIterable<{ instruction: Instruction }> => {
      void this.#listen(requests);
      return this.#speak(signal);
    };
    this.#server = await serveGrpc({
      listen: { host: "127.0.0.1", port },
      services: [implement(NodeControlService, { watch }, ["gateway"])],
      messageBytesMax: 16 * 1024 * 1024,
      identity,
      log: pino({ level: "silent" }),
    });
  }

  say(instruction: Instruction): void {
    this.#said.push(instruction);
    for (const wake of this.#waiting) wake();
  }

  report<Case extends WatchRequest["report"]["case"]>(kind: Case): Extract<WatchRequest["report"], { case: Case }> | undefined {
    return this.reports.findLast((one): one is Extract<WatchRequest["report"], { case: Case }> => one.case === kind);
  }

  async stop(): Promise<void> {
    await this.#server?.close(0);
    this.#server = undefined;
  }

  async #listen(requests: AsyncIterable<WatchRequest>): Promise<void> {
    try {
      for await (const { report } of requests) this.reports.push(report);
    } catch {
      // The stream has ended: there is nothing more to keep.
    }
  }

  async *#speak(signal: AbortSignal): AsyncIterable<{ instruction: Instruction }> {
    const aborted = once(signal, "abort");
    for (let next = 0; !signal.aborted; ) {
      const instruction = this.#said[next];
      if (instruction !== undefined) {
        next += 1;
        yield { instruction };
        continue;
      }
      const woken = Promise.withResolvers<void>();
      this.#waiting.add(woken.resolve);
      await Promise.race([woken.promise, aborted]);
      this.#waiting.delete(woken.resolve);
    }
  }
}

let authority: TestAuthority;
let signer: SnapshotSigner;
let directory: string;
let plane: ControlPlane;
let planePort: number;
let callersPort: number;
let nodes: GatewayNode[];
let shippingStopped: number;

beforeAll(async () => {
  authority = await makeTestAuthority();
  signer = await snapshotSigner(authority, "snapshot-signer-1");
});

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-node-"));
  [planePort, callersPort] = await freePorts();
  plane = new ControlPlane();
  nodes = [];
  shippingStopped = 0;
  const identity = join(directory, "identity");
  await mkdir(identity);
  const { certificateChain, privateKey, authorities } = await authority.issue({
    role: "gateway",
    name: "g1",
    hosts: ["127.0.0.1"],
  });
  await writeFile(join(identity, "node.pem"), certificateChain);
  await writeFile(join(identity, "node-key.pem"), privateKey, { mode: 0o600 });
  await writeFile(join(identity, "authorities.pem"), authorities);
});

afterEach(async () => {
  for (const node of nodes) {
    await node.drain();
    await node.close();
  }
  await plane.stop();
  await rm(directory, { recursive: true });
});

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ports.push((server.address() as { port: number }).port); // a TCP server's address
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return [ports[0]!, ports[1]!];
}

async function startPlane(): Promise<void> {
  await plane.start(planePort, await testIdentity("control-plane", "cp1", {}, authority));
  plane.say({
    case: "welcome",
    value: {
      $typeName: "sluice.control.v1.Welcome",
      capability: CAPABILITY,
      capabilityMin: CAPABILITY_MIN,
      slot: 77,
      nowMs: BigInt(Date.now()),
      heartbeatMs: 1_000n,
    },
  });
}

function publish(sequence: bigint, version: string): void {
  const signed = signSnapshot(authority, { by: signer, sequence, snapshot: snapshotOf(version) });
  plane.say({ case: "snapshot", value: fromBinary(SignedContentSchema, signed) });
}

function configOf(more: Partial<Config["dataPlane"]> = {}, node?: Config["node"]): Config {
  const dataPlane: Config["dataPlane"] = {
    listeners: [
      {
        protocol: "postgres",
        listen: { host: "127.0.0.1", port: callersPort },
        proxyProtocolFrom: [],
        advertise: "gw.example.com:5432",
      },
    ],
    tls: { mode: "self-signed", hosts: [] },
    links: {
      control: { host: "127.0.0.1", port: 0 },
      sessions: { host: "127.0.0.1", port: 0 },
      advertise: { control: null, sessions: null },
    },
    ...more,
  };
  return {
    node: node === undefined ? { name: "g1", region: "eu", controlPlanes: [`127.0.0.1:${planePort}`], join: null } : node,
    dataPlane,
  } as Config; // a gateway looks at no other section
}

function start(config: Config = configOf(), signal?: AbortSignal): Promise<GatewayNode> {
  return startGatewayNode({
    config,
    dataDirectory: directory,
    environment: () => undefined,
    ship: () => Promise.resolve({ stop: () => Promise.resolve(void (shippingStopped += 1)) }),
    limits: defaultLimits,
    clock: systemClock,
    random: systemRandom,
    log: pino({ level: "silent" }),
    ...(signal === undefined ? {} : { signal }),
  }).then((node) => {
    nodes.push(node);
    return node;
  });
}

function isServed(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp(callersPort, "127.0.0.1");
    socket.once("connect", () => (socket.destroy(), resolve(true)));
    socket.once("error", () => resolve(false));
  });
}

/** What a PostgreSQL client with sslmode=verify-full sees. */
async function shownCertificate(): Promise<PeerCertificate> {
  const socket = connectTls({ port: callersPort, host: "127.0.0.1", ca: authority.certificate, ALPNProtocols: ["postgresql"] });
  await once(socket, "secureConnect");
  const certificate = socket.getPeerCertificate();
  socket.destroy();
  return certificate;
}

test("serves callers once a policy has come, and tells the control plane where it is and what it enforces", async () => {
  await startPlane();
  const starting = start();
  await expect.poll(() => plane.report("hello")?.value.addresses?.callers).toEqual({ postgres: "gw.example.com:5432" });
  expect(plane.report("hello")!.value).toMatchObject({ region: "eu", snapshotSequence: 0n });
  await delay(50);
  expect(await isServed()).toBe(false);
  publish(5n, "a");
  const node = await starting;
  expect(await isServed()).toBe(true);
  expect(plane.report("hello")!.value.addresses).toMatchObject(node.ready.links);
  expect(await readFile(node.ready.caFile, "utf8")).toContain(authority.certificate);
  await expect.poll(() => plane.report("snapshotVerdict")?.value).toMatchObject({ sequence: 5n, version: "a", accepted: true });
  expect(node.notReady()).toEqual([]);
  publish(4n, "older");
  publish(6n, "b");
  await expect.poll(() => plane.report("snapshotVerdict")?.value).toMatchObject({ sequence: 6n, accepted: true });
});

test("goes on with its last policy when it starts and the control plane is away", async () => {
  await startPlane();
  publish(5n, "a");
  const first = await start();
  await expect.poll(() => readFile(join(directory, "slot"), "utf8").catch(() => "")).toBe("77\n");
  nodes.pop();
  await first.drain();
  await first.close();
  expect([await isServed(), shippingStopped]).toEqual([false, 1]);
  await plane.stop();
  const second = await start();
  expect([await isServed(), second.notReady()]).toEqual([true, []]);
  // The control plane comes back, and learns what is in force here.
  plane = new ControlPlane();
  await startPlane();
  await expect.poll(() => plane.report("hello")?.value.snapshotSequence, { timeout: 10_000 }).toBe(5n);
});

test("shows callers its own certificate, and the renewed one as soon as it has it", async () => {
  await startPlane();
  publish(5n, "a");
  const node = await start();
  const before = await shownCertificate();
  expect(before.subjectaltname).toContain("IP Address:127.0.0.1");
  const renewed = await authority.issue({ role: "gateway", name: "g1", hosts: ["127.0.0.1"] });
  (node.identity as LiveIdentity).replace(renewed); // what a renewal does
  const after = await shownCertificate();
  expect(after.serialNumber).not.toBe(before.serialNumber);
});

test("says that it drains", async () => {
  await startPlane();
  publish(5n, "a");
  const node = await start();
  await node.drain();
  await expect.poll(() => plane.report("status")?.value.draining).toBe(true);
  expect(node.notReady()).toEqual(["draining"]);
  expect(await isServed()).toBe(false);
});

test("is asked what it would decide, and answers with the decision or the reason why not", async () => {
  await startPlane();
  publish(5n, "a");
  await start();
  const request = JSON.stringify({ as: { sub: "me", groups: [] }, resource: "orders", sql: ["select 1"] });
  plane.say({ case: "explain", value: { $typeName: "sluice.control.v1.Explain", requestId: "r1", request } });
  await expect.poll(() => plane.report("explainAnswer")?.value.requestId).toBe("r1");
  expect(plane.report("explainAnswer")!.value.outcome).toMatchObject({ case: "fault", value: { code: "resource_unknown" } });
});

test("leaves nothing behind when it is stopped while it waits for a policy", async () => {
  await startPlane();
  const stopping = new AbortController();
  const starting = start(configOf(), stopping.signal);
  await expect.poll(() => plane.report("hello")).toBeDefined();
  stopping.abort(new Error("stopped"));
  await expect(starting).rejects.toThrow("stopped");
  expect(shippingStopped).toBe(1);
  // Its spool and its ports are free again.
  publish(5n, "a");
  await start();
});

test("wants the sections that it cannot do without", async () => {
  await expect(start(configOf({}, null))).rejects.toMatchObject({ code: "config_invalid" });
  await expect(start(configOf({ links: null }))).rejects.toMatchObject({ code: "config_invalid" });
});
