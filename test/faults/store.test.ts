/**
 * Between a control plane and its store: connections that are deaf, forgotten or cut. It is noticed within a stated time, the control
 * plane goes on by itself, nodes keep their streams, and nothing hangs. Real PostgreSQL behind a proxy, real gRPC.
 */
import {
  addressOf,
  enrolAt,
  FakeNode,
  type Replica,
  type ReplicaOptions,
  startReplica,
  until,
} from "@sluice/control-plane/nodes/testing.ts";
import { startTestCluster, type TestCluster } from "@sluice/control-plane/store/testing.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { openControlLink } from "@sluice/rpc/control/link.ts";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type DelayProxy, startDelayProxy } from "../support/delay-proxy.ts";

/** One query; the default is longer, and nothing else about it differs. */
const QUERY_MS = 1_500;
/** The connection on which changes are heard is probed every five seconds, and given up five later. */
const LISTEN_MS = 11_000;

let cluster: TestCluster;
let proxy: DelayProxy;
let here: Replica;
let there: Replica;

beforeAll(async () => {
  cluster = await startTestCluster();
});
beforeEach(async () => {
  const url = new URL(await cluster.freshDatabase());
  const straight = url.toString();
  proxy = await startDelayProxy(Number(url.port));
  url.port = String(proxy.port);
  const options: Omit<ReplicaOptions, "url"> = { limits: { storeQueryTimeoutMs: QUERY_MS } };
  here = await startReplica({ ...options, url: url.toString() });
  there = await startReplica({ ...options, url: straight });
});
afterEach(async () => {
  await here.close();
  await there.close();
  await proxy.stop();
});
afterAll(async () => {
  await cluster?.close();
});

function makeToken(replica: Replica): Promise<unknown> {
  return replica.call("NodeService/CreateJoinToken", { role: "agent", name: null, labels: {}, hosts: [], ttlSeconds: 60 });
}

async function tookMs(work: () => Promise<unknown>): Promise<number> {
  const beganMs = performance.now();
  await work().catch(() => undefined); // how long it takes to fail is what is asked
  return performance.now() - beganMs;
}

it("gives up connections that the store has forgotten, all at the first that does not answer", { timeout: 40_000 }, async () => {
  // As many as the pool has, so that none is left that was not there before.
  await Promise.all(Array.from({ length: 12 }, () => makeToken(here)));
  const identity = await enrolAt(here, "gateway", "g1");
  const node = new FakeNode(here, identity);
  await until(
    () => node.all("heartbeat").length,
    (count) => count > 0,
  );
  proxy.forget();
  expect(await tookMs(() => makeToken(here))).toBeLessThan(QUERY_MS + 1_000);
  await until(
    async () =>
      await makeToken(here).then(
        () => true,
        () => false,
      ),
    (works) => works,
    QUERY_MS + 1_000,
  );
  // From here on every one works: the others were not tried one by one.
  for (let count = 0; count < 12; count += 1) expect(await tookMs(() => makeToken(here))).toBeLessThan(QUERY_MS);
  await Promise.all(Array.from({ length: 12 }, () => makeToken(here)));
  // What the other replica says is heard again, and the node has not noticed anything.
  await there.call("PrincipalService/Disable", { subject: "eve", reason: "left" });
  await until(
    () => node.all("snapshot").length,
    (count) => count >= 2,
    LISTEN_MS,
  );
  expect(node.ended).toBeUndefined();
  await node.stop();
  identity.close();
});

it("refuses while the store is deaf, says so within its time, and goes on when it hears again", { timeout: 40_000 }, async () => {
  const identity = await enrolAt(here, "gateway", "g1");
  const told: string[] = [];
  const link = openControlLink({
    identity,
    addresses: [addressOf(here), addressOf(there)],
    handlers: {
      hello: () => ({
        region: "",
        addresses: { control: null, sessions: null, callers: {} },
        sealingKey: "",
        snapshotSequence: 0n,
      }),
      status: () => ({ sessions: 0, draining: false, links: [], spoolBytes: 0 }),
      endSessions: ({ sessionId }) => void told.push(sessionId),
    },
    clock: systemClock,
    random: systemRandom,
    log: pino({ level: "silent" }),
  });
  await until(
    () => link.connected,
    (count) => count === 2,
  );
  proxy.deaf = true;
  const failures = await Promise.all(Array.from({ length: 20 }, () => tookMs(() => makeToken(here))));
  // Those that found no connection free waited for one as long as that may take.
  expect(Math.max(...failures)).toBeLessThan(3 * QUERY_MS);
  await expect(makeToken(here)).rejects.toThrow(/node_unreachable.*The control plane's store does not answer/);
  expect(await here.plane.ready()).toBe(false);
  expect(link.connected).toBe(2);
  // The other replica does its work meanwhile.
  expect(await makeToken(there)).toHaveProperty("token");
  proxy.deaf = false;
  await until(
    async () =>
      await makeToken(here).then(
        () => true,
        () => false,
      ),
    (works) => works,
    3 * QUERY_MS,
  );
  expect(await here.plane.ready()).toBe(true);
  await link.close();
  identity.close();
});

it("learns what nodes enforce although the store was away when they said it", { timeout: 40_000 }, async () => {
  const identity = await enrolAt(here, "gateway", "g1");
  const node = new FakeNode(here, identity);
  await until(
    () => node.all("snapshot").length,
    (count) => count > 0,
  );
  proxy.deaf = true;
  node.send({ report: { case: "snapshotVerdict", value: { sequence: 41n, version: "told once", accepted: true } } });
  await until(
    async () => await here.plane.ready(),
    (ready) => !ready,
    3 * QUERY_MS,
  );
  proxy.deaf = false;
  const known = async (): Promise<unknown> => {
    const { nodes } = (await there.call("NodeService/List", {})) as { readonly nodes: readonly { readonly snapshot: unknown }[] };
    return nodes[0]?.snapshot;
  };
  await expect.poll(known, { timeout: 8 * QUERY_MS }).toMatchObject({ sequence: 41, version: "told once" });
  await node.stop();
  identity.close();
});

it("goes on at once when its connections were cut and the store is there", async () => {
  await makeToken(here);
  proxy.cut(true);
  await expect(makeToken(here)).rejects.toThrow("The control plane's store does not answer");
  proxy.cut(false);
  await until(
    async () =>
      await makeToken(here).then(
        () => true,
        () => false,
      ),
    (works) => works,
    2_000,
  );
});

it("closes within its time although the store is deaf", { timeout: 40_000 }, async () => {
  const url = new URL(await cluster.freshDatabase());
  url.port = String(proxy.port);
  const third = await startReplica({ url: url.toString(), limits: { storeQueryTimeoutMs: QUERY_MS } });
  await makeToken(third);
  proxy.forget();
  expect(await tookMs(() => third.close())).toBeLessThan(15_000);
});
