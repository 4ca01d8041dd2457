/**
 * Nodes whose certificate is good and whose word is not, over real mTLS and a real store: what they say hurts nobody but themselves.
 * Each of these once stopped what all nodes report, or brought back what was taken away.
 */
import { closedRecord, openedRecord, testSessionId } from "@sluice/events/testing.ts";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { NodeSummary } from "../api/services.ts";
import type { RecordsOrigin } from "../store/session-index.ts";
import { openStore } from "../store/store.ts";
import { startTestCluster, type TestCluster } from "../store/testing.ts";
import { enrolAt, FakeNode, type Replica, startReplica, until } from "./testing.ts";

let cluster: TestCluster;
let url: string;
let replica: Replica;

beforeAll(async () => {
  cluster = await startTestCluster();
  url = await cluster.freshDatabase();
  replica = await startReplica({ url });
}, 60_000);

afterAll(async () => {
  await replica.close();
  await cluster.close();
}, 60_000);

async function summaryOf(name: string): Promise<NodeSummary | undefined> {
  const { nodes } = await replica.call("NodeService/List", {});
  return (nodes as NodeSummary[]).find((node) => node.name === name); // the API's own shape
}

it.each([
  [
    "a certificate that ends after the end of time",
    { certificateSerial: "ab", certificateNotAfterMs: 9_000_000_000_000_000_000n },
  ],
  [
    "a certificate that ends in a year that the store writes differently",
    { certificateSerial: "ab", certificateNotAfterMs: 8_000_000_000_000_000n },
  ],
  ["a serial number with a NUL", { certificateSerial: "a\0b", certificateNotAfterMs: 1_800_000_000_000n }],
  ["a link whose name has a NUL", { links: [{ name: "a\0b", sessions: 1 }] }],
  ["a link whose name is cut in the middle of a pair", { links: [{ name: `${"x".repeat(1_023)}\u{1f600}`, sessions: 1 }] }],
])("that report %s do not keep others' reports from the store", async (what, status) => {
  const names = [`liar-${what.length}`, `honest-${what.length}`] as const;
  const [liarIdentity, honestIdentity] = [await enrolAt(replica, "agent", names[0]), await enrolAt(replica, "gateway", names[1])];
  const [liar, honest] = [new FakeNode(replica, liarIdentity), new FakeNode(replica, honestIdentity)];
  const store = await openStore({ address: { kind: "postgres", url }, directory: "", log: pino({ level: "silent" }) });
  try {
    liar.report(status);
    honest.report({ sessions: 7 });
    // What the store has: the replica itself knows better.
    await until(
      async () =>
        (
          await sql<{
            sessions: number;
          }>`select (status->>'sessions')::int as sessions from nodes where name = ${names[1]}`.execute(store.db)
        ).rows[0]?.sessions,
      (sessions) => sessions === 7,
    );
  } finally {
    await store.close();
    await liar.stop();
    await honest.stop();
    liarIdentity.close();
    honestIdentity.close();
  }
});

it("do not get back the labels that they had before they were enrolled with fewer", async () => {
  const identity = await enrolAt(replica, "agent", "narrowed", { zone: "e", vault: "1" });
  const store = await openStore({ address: { kind: "postgres", url }, directory: "", log: pino({ level: "silent" }) });
  // As a workload's enrolment does it, which leaves the former certificate alive.
  await sql`update nodes set labels = '{"zone": "e"}' where name = 'narrowed'`.execute(store.db);
  const node = new FakeNode(replica, identity);
  await until(
    () => node.all("welcome"),
    (got) => got.length === 1,
  );
  expect((await summaryOf("narrowed"))?.labels).toEqual({ zone: "e" });
  await node.stop();
  await store.close();
  identity.close();
});

it("that are gateways can neither end another's session in the index nor keep others out of it", async () => {
  const { sessionIndex } = replica.plane;
  const of = (gateway: string): RecordsOrigin => ({ gateway, spoolId: `spool-of-${gateway}`, runStart: 0 });
  const principal = { subject: "a\0da", issuer: `https://issuer/${"\u{1f600}"[0]}`, groups: ["g\0"] };
  const opened = openedRecord(1);
  if (opened.kind !== "opened") throw new Error("it opens a session");
  await sessionIndex.consumeFrom(of("honest"), [
    { ...opened, opened: { ...opened.opened, principal: { ...opened.opened.principal, ...principal } } },
  ]);
  await sessionIndex.consumeFrom(of("liar"), [closedRecord(1, 1), openedRecord(2)]);
  const { sessions } = await replica.call("SessionService/List", {});
  const stateOf = (id: string): unknown => (sessions as { id: string; state: string }[]).find((one) => one.id === id)?.state; // the API's own shape
  expect([stateOf(testSessionId(1)), stateOf(testSessionId(2))]).toEqual(["active", "active"]);
});

it("that are gateways cannot have agents dial for resources that they may not serve", async () => {
  await replica.call("ManifestService/Apply", {
    files: [
      {
        path: "p.yaml",
        text: `apiVersion: sluice/v1
kind: Resource
metadata: { name: orders, labels: { env: prod } }
spec:
  protocol: postgres
  target: { address: "127.0.0.1:5432", database: orders, tls: { mode: disable } }
  credential: { username: { value: app }, password: { env: APP_PASSWORD } }
  agents: { labels: { zone: e } }
`,
      },
    ],
  });
  const identities = [
    await enrolAt(replica, "agent", "dialler", { zone: "e" }),
    await enrolAt(replica, "gateway", "of-tests", { env: "test" }),
    await enrolAt(replica, "gateway", "of-prod", { env: "prod" }),
  ] as const;
  const [agent, ofTests, ofProd] = identities.map((identity) => new FakeNode(replica, identity)) as [
    FakeNode,
    FakeNode,
    FakeNode,
  ];
  for (const node of [agent, ofTests, ofProd])
    await until(
      () => node.all("welcome"),
      (got) => got.length === 1,
    );
  await until(
    () => summaryOf("dialler"),
    (shown) => shown?.state === "connected",
  );
  const dialled = (): readonly string[] => agent.all("dialGateway").map(({ gateway }) => gateway);
  // The one that may not asks first, each time, and again long after its first question was answered.
  await until(
    () => {
      for (const node of [ofTests, ofProd]) node.send({ report: { case: "agentWanted", value: { resource: "orders" } } });
      return dialled();
    },
    (got) => got.filter((gateway) => gateway === "of-prod").length >= 2,
  );
  expect(dialled()).not.toContain("of-tests");
  for (const node of [agent, ofTests, ofProd]) await node.stop();
  for (const identity of identities) identity.close();
});
