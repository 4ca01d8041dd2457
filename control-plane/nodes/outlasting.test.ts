/** What control planes outlast: nodes and replicas that vanish, a store that goes away or is restored from a backup, large policies. */
import type { SessionId } from "@sluice/core/ids.ts";
import type { SessionRecord, SessionRecordBody } from "@sluice/events/session-events.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { verifySignedContent } from "@sluice/rpc/signed-content.ts";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { NodeSummary } from "../api/services.ts";
import { startTestCluster, type TestCluster } from "../store/testing.ts";
import { enrolAt, FakeNode, type Replica, startReplica, until } from "./testing.ts";

const GONE_MS = 1_000;
let cluster: TestCluster;
let url: string;
let replica: Replica;
let store: Client;
let gateway: NodeIdentity;
const nodes: FakeNode[] = [];

beforeAll(async () => {
  cluster = await startTestCluster();
  url = await cluster.freshDatabase();
  replica = await startReplica({ url, limits: { nodeGoneMs: GONE_MS } });
  store = new Client(url);
  await store.connect();
  gateway = await enrolAt(replica, "gateway", "g1");
}, 60_000);

afterEach(async () => {
  for (const node of nodes.splice(0)) await node.stop();
});

afterAll(async () => {
  gateway.close();
  await store.end();
  await replica.close();
  await cluster.close();
}, 60_000);

function connect(identity: NodeIdentity, hello: ConstructorParameters<typeof FakeNode>[2] = {}): FakeNode {
  const node = new FakeNode(replica, identity, hello);
  nodes.push(node);
  return node;
}

async function welcomed(node: FakeNode): Promise<FakeNode> {
  await until(
    () => node.all("welcome"),
    (got) => got.length === 1,
  );
  return node;
}

async function stateOf(name: string): Promise<string | undefined> {
  const { nodes: list } = await replica.call("NodeService/List", {});
  return (list as NodeSummary[]).find((node) => node.name === name)?.state; // the API's own shape
}

const opened = (): SessionRecordBody => ({
  kind: "opened",
  opened: {
    resource: "orders",
    database: "orders",
    protocol: "postgres",
    principal: { subject: "ada", issuer: "https://idp", groups: ["agents"], owner: "", task: "" },
    clientAddress: "127.0.0.1",
    declared: {},
    policyVersion: "v",
    recording: "strict",
  },
});
const closed: SessionRecordBody = { kind: "closed", closed: { code: "terminated", statements: 4, denied: 1, masked: 2 } };
const record = (id: string, sequence: number, body: SessionRecordBody): SessionRecord => ({
  sessionId: id as SessionId, // shaped like one
  sequence,
  atMs: Date.now(),
  ...body,
});
const sessionOf = (letter: string): string => `s_${letter.repeat(22)}`;

async function stateOfSession(id: string): Promise<unknown> {
  const { session } = await replica.call("SessionService/Get", { id });
  return (session as { state: string }).state; // the API's own shape
}

it("takes over nodes of a replica that died without a word", async () => {
  await welcomed(connect(gateway));
  await store.query(`update nodes set connected_to = 'replica-dead', last_seen_at = now() - interval '20 seconds'`);
  const owner = async (): Promise<unknown> => (await store.query("select connected_to from nodes where name = 'g1'")).rows[0];
  await until(owner, (row) => !JSON.stringify(row).includes("replica-dead"));
  expect(await stateOf("g1")).toBe("connected");
});

it("leaves a node that vanished in the directory for a while, then out of it, and its sessions are lost", async () => {
  const watching = await welcomed(connect(gateway));
  const identity = await enrolAt(replica, "gateway", "g-gone");
  const going = await welcomed(connect(identity, { startedAtMs: BigInt(Date.now() - 1_000) }));
  const inDirectory = (): boolean => watching.directory?.nodes.some(({ name }) => name === "g-gone") ?? false;
  await until(inDirectory, (is) => is);
  const origin = { gateway: "g-gone", spoolId: "one", runStart: 0 };
  await replica.plane.sessionIndex.consumeFrom(origin, [record(sessionOf("E"), 0, opened())]);
  await going.stop();
  await until(
    () => stateOf("g-gone"),
    (state) => state === "away",
  );
  expect(inDirectory()).toBe(true);
  expect(await stateOfSession(sessionOf("E"))).toBe("active");
  await until(inDirectory, (is) => !is);
  await until(
    () => stateOfSession(sessionOf("E")),
    (state) => state === "lost",
    10_000,
  );
  // Its end was in the spool: it arrives with the gateway.
  await replica.plane.sessionIndex.consumeFrom(origin, [record(sessionOf("E"), 1, closed)]);
  expect(await stateOfSession(sessionOf("E"))).toBe("ended");
  identity.close();
}, 30_000);

it("tells sessions of a gateway's former run from those of its present one", async () => {
  const { sessionIndex } = replica.plane;
  await welcomed(connect(gateway));
  await sessionIndex.consumeFrom({ gateway: "g1", spoolId: "two", runStart: 0 }, [record(sessionOf("F"), 0, opened())]);
  await sessionIndex.consumeFrom({ gateway: "g1", spoolId: "two", runStart: 9_000_000_000 }, [
    record(sessionOf("G"), 0, opened()),
  ]);
  expect(await stateOfSession(sessionOf("F"))).toBe("lost");
  expect(await stateOfSession(sessionOf("G"))).toBe("active");
  // Another disk tells nothing of the order; the process that begins after the session does.
  await welcomed(connect(gateway, { startedAtMs: BigInt(Date.now() + 1) }));
  await until(
    () => stateOfSession(sessionOf("G")),
    (state) => state === "lost",
    10_000,
  );
}, 30_000);

it("keeps the newer row when two replicas take the same records and the slower one comes last", async () => {
  const { sessionIndex } = replica.plane;
  const origin = { gateway: "g1", spoolId: "three", runStart: 0 };
  const id = sessionOf("H");
  const records = [record(id, 0, opened()), record(id, 1, closed)];
  await Promise.all(Array.from({ length: 8 }, (_, n) => sessionIndex.consumeFrom(origin, records.slice(0, 1 + (n % 2)))));
  await sessionIndex.consumeFrom(origin, records.slice(0, 1));
  expect(await stateOfSession(id)).toBe("ended");
});

it("moves the sequence past what nodes have seen when the store is older than that, and not beyond reason", async () => {
  const sequenceNow = async (): Promise<bigint> => {
    const { rows } = await store.query<{ id: string }>("select max(id) as id from snapshots");
    return BigInt(rows[0]?.id ?? 0);
  };
  const before = await sequenceNow();
  const node = await welcomed(connect(gateway, { snapshotSequence: before + 500n }));
  const sequence = (): bigint => {
    return node.snapshot === undefined ? 0n : verifySignedContent(node.snapshot, gateway, Date.now(), "gateway").sequence;
  };
  expect(await until(sequence, (heard) => heard > before)).toBe(before + 501n);
  await node.stop();
  await welcomed(connect(gateway, { snapshotSequence: 1n << 62n }));
  expect(await sequenceNow()).toBe(before + 501n);
});

it("does not renew leases while the store is away, keeps streams, finds agents, and goes on when it is back", async () => {
  const text = `apiVersion: sluice/v1\nkind: Resource\nmetadata: { name: orders }\nspec:\n  protocol: postgres\n  target: { address: "127.0.0.1:5432", database: orders, tls: { mode: disable } }\n  credential: { username: { value: app }, password: { env: APP_PASSWORD } }\n`;
  await replica.call("ManifestService/Apply", { files: [{ path: "orders.yaml", text }] });
  const agent = await welcomed(connect(await enrolAt(replica, "agent", "a1")));
  const node = await welcomed(connect(gateway));
  const last = (): bigint | undefined => node.all("heartbeat").at(-1)?.snapshotSequence;
  await until(last, (sequence) => sequence !== undefined && sequence > 0n);
  const superuser = new Client(url.replace(/\/[^/]+$/, "/postgres"));
  await superuser.connect();
  const database = url.split("/").at(-1) ?? "";
  const setConnections = (allowed: boolean): Promise<unknown> =>
    superuser.query(`alter database ${database} allow_connections ${allowed}`);
  try {
    await setConnections(false);
    const cut = setInterval(() => {
      const others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name = $2";
      void superuser.query(others, [database, "sluice-control-plane"]);
    }, 50);
    try {
      await until(last, (sequence) => sequence === 0n);
      node.send({ report: { case: "agentWanted", value: { resource: "orders" } } });
      await until(
        () => agent.all("dialGateway"),
        (got) => got[0]?.gateway === "g1",
      );
    } finally {
      clearInterval(cut);
    }
    expect(node.ended).toBeUndefined();
  } finally {
    await setConnections(true);
    await superuser.end();
  }
  await until(last, (sequence) => sequence !== undefined && sequence > 0n, 10_000);
  expect(node.ended).toBeUndefined();
}, 30_000);

it("builds, signs and sends a thousand resources and ten thousand rules to ten gateways", async () => {
  const connected = await Promise.all(Array.from({ length: 10 }, (_, n) => enrolAt(replica, "gateway", `many-${n}`)));
  const gateways = await Promise.all(connected.map(async (identity) => await welcomed(connect(identity))));
  const resources = Array.from({ length: 1_000 }, (_, n) => {
    return `apiVersion: sluice/v1\nkind: Resource\nmetadata: { name: r${n}, labels: { env: prod, n: "${n}" } }\nspec:\n  protocol: postgres\n  target: { address: "127.0.0.1:5432", database: orders, tls: { mode: disable } }\n  credential: { username: { value: app }, password: { env: APP_PASSWORD } }\n`;
  });
  const policies = Array.from({ length: 100 }, (_, n) => {
    const rules = Array.from({ length: 100 }, (__, rule) => {
      return `    - { name: rule-${rule}, effect: allow, when: "statement.class == 'read' && request.time.getHours() != ${(n + rule) % 24}" }\n`;
    });
    return `apiVersion: sluice/v1\nkind: Policy\nmetadata: { name: p${n} }\nspec:\n  principals: { groups: [ g${n} ] }\n  resources: { labels: { env: prod } }\n  rules:\n${rules.join("")}`;
  });
  const files = [{ path: "many.yaml", text: [...resources, ...policies].join("---\n") }];
  const startedAtMs = performance.now();
  const { version } = await replica.call("ManifestService/Apply", { files });
  const versionOf = (node: FakeNode, identity: NodeIdentity): string | undefined =>
    node.snapshot === undefined ? undefined : verifySignedContent(node.snapshot, identity, Date.now(), "gateway").version;
  for (const [n, node] of gateways.entries()) {
    const identity = connected[n];
    if (identity === undefined) throw new Error("each gateway has an identity");
    await until(
      () => versionOf(node, identity),
      (heard) => heard === version,
    );
  }
  const tookMs = performance.now() - startedAtMs;
  process.stdout.write(`apply to ten gateways: ${Math.round(tookMs)} ms\n`);
  expect(tookMs).toBeLessThan(45_000); // the aim of two seconds is the benchmark's business; here other tests share the cores
  for (const identity of connected) identity.close();
}, 60_000);
