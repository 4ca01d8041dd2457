/** DDL as gateways tell each other of it, over real mTLS: nothing is called known that was not acknowledged, and nothing lasts for ever. */
import { createServer } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { GatewayPeerService, MarkPhase } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import { serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { DirectoryNode, NodeRole } from "@sluice/rpc/nodes.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { codeOf, silent, until } from "../links/links-harness.ts";
import { CancelKeys } from "../session/cancel-keys.ts";
import type { DdlAcrossGateways } from "../upstream/ddl.ts";
import { CancelLimiter } from "./cancel-limiter.ts";
import { createGatewayPeers, type GatewayPeers } from "./gateway-peers.ts";

interface TestGateway {
  readonly name: string;
  readonly peers: GatewayPeers;
  readonly ddl: DdlAcrossGateways;
  readonly address: string;
  readonly node: DirectoryNode;
  /** What its catalogs were told, in order: `begin orders/db`, `end`. */
  readonly heard: string[];
  /** Databases that it trusts no more now. */
  readonly dirty: () => readonly string[];
  readonly lost: { readonly session: SessionId; readonly error: GatewayError }[];
  stop(): Promise<void>;
}

const session = "s_1" as SessionId; // a test's own ids
const second = "s_2" as SessionId;
const scope = { resource: "orders", database: "db" };
const QUICK: Partial<Limits> = { ddlMarkRenewMs: 50 };

let authority: TestAuthority;
let directory: readonly DirectoryNode[] = [];
const listeners = new Set<(nodes: readonly DirectoryNode[]) => void>();
const ends: (() => unknown)[] = [];

beforeAll(async () => {
  authority = await makeTestAuthority();
});

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  directory = [];
  listeners.clear();
});

function say(nodes: readonly DirectoryNode[]): void {
  directory = nodes;
  for (const tell of listeners) tell(nodes);
}

function nodeOf(name: string, address: string): DirectoryNode {
  const addresses = { control: address, sessions: null, callers: {} };
  return { role: "gateway", name, region: "", addresses, labels: {}, slot: 1, capability: 2, draining: false };
}

/** Runs, but is in no directory yet. */
async function start(name: string, limits: Partial<Limits> = {}, port = 0): Promise<TestGateway> {
  const identity = await testIdentity("gateway", name, {}, authority);
  const all = { ...defaultLimits, ...QUICK, ...limits };
  const control = {
    get directory() {
      return directory;
    },
    onDirectory: (listener: (nodes: readonly DirectoryNode[]) => void) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  const cancelKeys = new CancelKeys(systemRandom, { slot: 1, limiter: new CancelLimiter(1, systemClock) });
  const shared = { limits: all, clock: systemClock, random: systemRandom, log: silent };
  const peers = createGatewayPeers({ ...shared, identity, control, cancelKeys });
  const server = await serveGrpc({
    listen: { host: "127.0.0.1", port },
    services: [peers.service],
    messageBytesMax: 64 * 1024,
    identity,
    log: silent,
  });
  const heard: string[] = [];
  const open = new Map<string, string>();
  peers.ddl.follow({
    begin: (mark, { resource, database }) => {
      heard.push(`begin ${resource}/${database}`);
      open.set(mark, `${resource}/${database}`);
    },
    end: (mark) => {
      heard.push("end");
      open.delete(mark);
    },
  });
  const lost: TestGateway["lost"] = [];
  peers.ddl.onLost((lostSession, error) => lost.push({ session: lostSession, error }));
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (stopped) return;
    stopped = true;
    peers.close();
    await server.close(0);
  };
  ends.push(stop);
  const { address } = server;
  const dirty = (): readonly string[] => [...open.values()];
  return { name, peers, ddl: peers.ddl, address, node: nodeOf(name, address), heard, dirty, lost, stop };
}

async function startAll(count: number, limits: Partial<Limits> = {}): Promise<TestGateway[]> {
  const gateways: TestGateway[] = [];
  for (let number = 1; number <= count; number += 1) gateways.push(await start(`g${number}`, limits));
  say(gateways.map(({ node }) => node));
  return gateways;
}

async function failureOf(promise: Promise<unknown>): Promise<GatewayError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof GatewayError)) throw new Error("it should have been refused", { cause: error });
  return error;
}

describe("an announcement", () => {
  it("is there when every other gateway holds it, and ends everywhere", async () => {
    const [one, two, three] = (await startAll(3)) as [TestGateway, TestGateway, TestGateway];
    expect(one.ddl.announced(session)).toBe(false);
    await one.ddl.announce(session, scope);
    expect(one.ddl.announced(session)).toBe(true);
    expect(one.ddl.announced(second)).toBe(false);
    expect([one.dirty(), two.dirty(), three.dirty()]).toEqual([[], ["orders/db"], ["orders/db"]]);
    await one.ddl.announce(session, scope);
    one.ddl.end(session);
    expect(one.ddl.announced(session)).toBe(false);
    await until(() => two.heard.length === 2 && three.heard.length === 2);
    expect([two.heard, three.heard]).toEqual([
      ["begin orders/db", "end"],
      ["begin orders/db", "end"],
    ]);
  });

  it("costs nothing where there is no other gateway", async () => {
    const one = await start("g1");
    expect(one.ddl.announced(session)).toBe(true);
    say([one.node]);
    expect(one.ddl.announced(session)).toBe(true);
    one.ddl.end(session);
    await one.peers.ready();
  });

  it("keeps those of several sessions apart, and of several gateways", async () => {
    const [one, two, three] = (await startAll(3)) as [TestGateway, TestGateway, TestGateway];
    await Promise.all([
      one.ddl.announce(session, scope),
      one.ddl.announce(second, { ...scope, database: "other" }),
      two.ddl.announce(session, scope),
    ]);
    expect(three.dirty().toSorted()).toEqual(["orders/db", "orders/db", "orders/other"]);
    one.ddl.end(session);
    await until(() => three.heard.includes("end"));
    expect(three.dirty().toSorted()).toEqual(["orders/db", "orders/other"]);
    expect(one.ddl.announced(second)).toBe(true);
  });

  it("is refused, with the gateway's name, where one cannot be reached or does not answer, and withdrawn from the others", async () => {
    const [one, two] = (await startAll(2)) as [TestGateway, TestGateway];
    const mute = createServer((socket) => void ends.push(() => socket.destroy()));
    await new Promise<void>((resolve) => void mute.listen(0, "127.0.0.1", () => resolve()));
    ends.push(() => void mute.close());
    const { port } = mute.address() as { port: number }; // a TCP server
    for (const address of ["127.0.0.1:1", `127.0.0.1:${port}`]) {
      say([one.node, two.node, nodeOf("g9", address)]);
      const beganMs = performance.now();
      const error = await failureOf(one.ddl.announce(session, scope));
      expect(error).toMatchObject({
        code: "ddl_unannounced",
        message: expect.stringContaining("the gateway g9 does not answer"),
        hint: expect.stringContaining("Try again in a minute"),
        detail: { gateway: "g9" },
      });
      expect(performance.now() - beganMs).toBeLessThan(defaultLimits.ddlMarkTimeoutMs + 500);
      await until(() => two.dirty().length === 0 && two.heard.length > 0);
      expect(one.ddl.announced(session)).toBe(false);
    }
    say([one.node, two.node]);
    await one.ddl.announce(session, scope);
    expect(two.dirty()).toEqual(["orders/db"]);
  });

  it("does not wait for a gateway that leaves the directory meanwhile", async () => {
    const [one, two] = (await startAll(2, { ddlMarkTimeoutMs: 2_000 })) as [TestGateway, TestGateway];
    await two.stop();
    const announced = one.ddl.announce(session, scope);
    say([one.node]);
    await announced;
    expect(one.ddl.announced(session)).toBe(true);
  });

  it("reaches a gateway that appears while it is open, before it is called announced again", async () => {
    const [one] = (await startAll(1)) as [TestGateway];
    const two = await start("g2");
    expect(one.ddl.announced(session)).toBe(true);
    const three = await start("g3");
    say([one.node, two.node]);
    await one.ddl.announce(session, scope);
    say([one.node, two.node, three.node]);
    expect(one.ddl.announced(session)).toBe(false);
    await until(() => one.ddl.announced(session));
    expect(three.dirty()).toEqual(["orders/db"]);
  });

  it("that ends while it is being made is ended everywhere", async () => {
    const [one, two] = (await startAll(2)) as [TestGateway, TestGateway];
    const announced = one.ddl.announce(session, scope);
    one.ddl.end(session);
    await announced;
    await until(() => two.heard.includes("end"));
    expect(two.dirty()).toEqual([]);
    // What is said again for others must not bring it back.
    await one.ddl.announce(second, { ...scope, database: "other" });
    expect(two.dirty()).toEqual(["orders/other"]);
  });
});

describe("what does not last", () => {
  it("a gateway that starts again is told by those that have something open", async () => {
    const [one, two] = (await startAll(2, { ddlMarkRenewMs: 60_000 })) as [TestGateway, TestGateway];
    await one.ddl.announce(session, scope);
    const port = Number(two.address.split(":").at(-1));
    await two.stop();
    const again = await start("g2", {}, port);
    await again.peers.ready();
    await until(() => again.dirty().length === 1);
    one.ddl.end(session);
    await until(() => again.dirty().length === 0);
  });

  it("a mark that is over is read after, also by a gateway that had forgotten it", async () => {
    const [one, two] = (await startAll(2)) as [TestGateway, TestGateway];
    const identity = await testIdentity("gateway", "g1", {}, authority);
    const channel = dialGrpc(
      { address: two.address, role: "gateway", name: "g2" },
      { identity, log: silent, messageBytesMax: 65_536 },
    );
    ends.push(() => channel.close());
    const request = { ...scope, markId: "unheard-of", phase: MarkPhase.END };
    for (let times = 0; times < 2; times += 1)
      await channel.unary(GatewayPeerService.method.markCatalog, request, { deadlineMs: 2_000 });
    await channel.unary(GatewayPeerService.method.markCatalog, { ...request, phase: MarkPhase.BEGIN }, { deadlineMs: 2_000 });
    expect(two.heard).toEqual(["begin orders/db", "end"]);
    expect(one.heard).toEqual([]);
  });

  it("a mark ends by itself when its gateway is not heard of any more, and no sooner", async () => {
    const [one, two] = (await startAll(2, { ddlMarkKeptMs: 1_000 })) as [TestGateway, TestGateway];
    await one.ddl.announce(session, scope);
    const deadline = performance.now() + 1_500;
    await until(() => performance.now() > deadline);
    expect(two.dirty()).toEqual(["orders/db"]);
    await one.stop();
    const stoppedMs = performance.now();
    await until(() => two.dirty().length === 0);
    expect(performance.now() - stoppedMs).toBeGreaterThan(500);
  });

  it("a session is given up before a gateway that does not answer may forget its mark", async () => {
    const [one, two] = (await startAll(2, { ddlMarkKeptMs: 800 })) as [TestGateway, TestGateway];
    await one.ddl.announce(session, scope);
    await two.stop();
    await until(() => one.lost.length > 0);
    expect(one.lost[0]).toMatchObject({ session, error: { code: "ddl_unannounced" } });
    one.ddl.end(session);
  });

  it("is not given up when the gateway that does not answer has left", async () => {
    const [one, two] = (await startAll(2, { ddlMarkKeptMs: 400 })) as [TestGateway, TestGateway];
    await one.ddl.announce(session, scope);
    await two.stop();
    say([one.node]);
    const deadline = performance.now() + 600;
    await until(() => performance.now() > deadline);
    expect(one.lost).toEqual([]);
  });
});

describe("what another gateway may do", () => {
  it("have so many open and no more", async () => {
    const [one, two, three] = (await startAll(3, { ddlMarksMax: 1 })) as [TestGateway, TestGateway, TestGateway];
    await one.ddl.announce(session, scope);
    expect((await failureOf(one.ddl.announce(second, scope))).code).toBe("ddl_unannounced");
    await two.ddl.announce(session, scope);
    expect(three.dirty()).toEqual(["orders/db", "orders/db"]);
    one.ddl.end(session);
    await until(() => three.dirty().length === 1);
    await one.ddl.announce(second, scope);
  });

  it("only as a gateway, of its own marks, and with texts of sense", async () => {
    const [one, two] = (await startAll(2)) as [TestGateway, TestGateway];
    await one.ddl.announce(session, scope);
    const mark = async (role: NodeRole, request: object): Promise<string> => {
      const identity = await testIdentity(role, "x", {}, authority);
      const channel = dialGrpc(
        { address: two.address, role: "gateway", name: "g2" },
        { identity, log: silent, messageBytesMax: 65_536 },
      );
      ends.push(() => channel.close());
      const whole = { ...scope, markId: "m", phase: MarkPhase.BEGIN, ...request };
      return await codeOf(channel.unary(GatewayPeerService.method.markCatalog, whole, { deadlineMs: 2_000 }));
    };
    expect(await mark("agent", {})).toBe("unauthorized");
    expect(await mark("recorder", {})).toBe("unauthorized");
    expect(await mark("control-plane", {})).toBe("unauthorized");
    expect(await mark("gateway", { markId: "" })).toBe("protocol_violation");
    expect(await mark("gateway", { resource: "x".repeat(513) })).toBe("protocol_violation");
    expect(await mark("gateway", { phase: MarkPhase.UNSPECIFIED })).toBe("unsupported");
    expect(two.heard).toEqual(["begin orders/db"]);
    const identity = await testIdentity("gateway", "g1", {}, authority);
    const own = dialGrpc(
      { address: one.address, role: "gateway", name: "g1" },
      { identity, log: silent, messageBytesMax: 65_536 },
    );
    ends.push(() => own.close());
    const { marks } = await own.unary(GatewayPeerService.method.openMarks, {}, { deadlineMs: 2_000 });
    expect(marks.map(({ resource, database }) => ({ resource, database }))).toEqual([scope]);
    // Of another gateway, with the very same id: the mark stays.
    expect(await mark("gateway", { markId: marks[0]!.markId, phase: MarkPhase.END })).toBe("ok");
    expect(two.dirty()).toEqual(["orders/db"]);
  });
});
