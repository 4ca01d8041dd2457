/** Columns that keep their label, on a real store: first seen wins, what is bound is published, nothing is dropped unsaid. */
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ColumnBindings } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { BindingsReport, ReportedColumn } from "@sluice/rpc/bindings.ts";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, expect, it } from "vitest";
import * as bindingStore from "../store/binding-store.ts";
import { listenForChanges } from "../store/changes.ts";
import type { Store } from "../store/store.ts";
import { startTestCluster, type TestCluster } from "../store/testing.ts";
import { type Bindings, createBindings } from "./bindings.ts";
import { createPublisher, type Publisher } from "./publisher.ts";

const manifest = `
apiVersion: sluice/v1
kind: Resource
metadata: { name: orders, labels: { env: prod } }
spec:
  protocol: postgres
  target: { address: "db:5432", database: orders, databases: [archive], tls: { mode: verify-full } }
  credential: { username: { value: app }, password: { env: P } }
---
apiVersion: sluice/v1
kind: Classifier
metadata: { name: ssn }
spec: { entity: US_SSN, columnNames: [ssn] }
`;
const gateway = { name: "gw1", labels: { env: "prod" } };
const log = pino({ level: "silent" });

let cluster: TestCluster;
let store: Store;
let publisher: Publisher;
let bindings: Bindings;
let refused = 0;
const stops: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  cluster = await startTestCluster();
  store = await cluster.open();
  const changes = await listenForChanges({ connection: store.connection, random: systemRandom, log });
  stops.push(() => changes.close());
  publisher = createPublisher({ db: store.db, changes, clock: systemClock, log });
  stops.push(() => publisher.close());
  bindings = createBindings({
    db: store.db,
    publisher,
    limits: { ...defaultLimits, bindingsPerResourceMax: 5 },
    clock: systemClock,
    log,
    onRefused: (columns) => void (refused += columns),
  });
  stops.push(() => bindings.close());
  const applied = await publisher.apply({ files: [{ path: "m.yaml", text: manifest }], origin: "apply", author: "ada" });
  expect(applied).toMatchObject({ ok: true });
});
afterAll(async () => {
  for (const stop of stops.toReversed()) await stop();
  await cluster.close();
});

const column = (
  relationOid: number,
  columnNumber: number,
  name: string,
  changes: Partial<ReportedColumn> = {},
): ReportedColumn => {
  return { relationOid, columnNumber, entity: "US_SSN", name, gone: false, ...changes };
};
const take = async (columns: readonly ReportedColumn[], changes: Partial<BindingsReport> = {}): Promise<void> =>
  await bindings.take(gateway, { resource: "orders", database: "orders", databaseOid: 5, columns, ...changes });
const published = (): readonly ColumnBindings[] => publisher.snapshots.current.bindings ?? [];
const listed = async (): Promise<readonly (readonly [string, string, boolean])[]> => {
  const { bindings: all } = await bindings.admin.list({ resource: null, renamed: false, limit: 100, skip: 0 });
  return all.map(({ firstSeenAs, seenAs, goneSince }) => [firstSeenAs, seenAs, goneSince !== null]);
};

it("publishes what a gateway found, once, without another version of the policy", async () => {
  const { version } = publisher.snapshots.current;
  const sequence = publisher.feed.newest!.sequence;
  await take([column(20, 2, "public.customers.ssn"), column(3_000_000_000, 7, "public.people.ssn")]);
  await take([column(20, 2, "public.customers.ssn")]);
  await expect
    .poll(published)
    .toEqual([{ resource: "orders", database: "orders", databaseOid: 5, entity: "US_SSN", columns: [20, 2, 3_000_000_000, 7] }]);
  expect(publisher.snapshots.current.version).toBe(version);
  expect(publisher.feed.newest!.sequence).toBe(sequence + 1n);
  const again = await publisher.apply({ files: [{ path: "m.yaml", text: manifest }], origin: "apply", author: "ada" });
  expect(again).toMatchObject({ ok: true });
  expect(publisher.feed.newest!.sequence).toBe(sequence + 1n);
});

it("keeps the first name and author, and knows the present one", async () => {
  await bindings.take(
    { name: "gw2", labels: { env: "prod" } },
    {
      resource: "orders",
      database: "orders",
      databaseOid: 5,
      columns: [column(20, 2, "public.customers.note")],
    },
  );
  const { bindings: renamed } = await bindings.admin.list({ resource: "orders", renamed: true, limit: 10, skip: 0 });
  expect(renamed).toMatchObject([
    { firstSeenAs: "public.customers.ssn", seenAs: "public.customers.note", author: "gw1", goneSince: null },
  ]);
});

it("takes nothing of what a gateway may not serve, or what can be no column", async () => {
  const before = await listed();
  const other = column(40, 1, "public.other.ssn");
  await bindings.take(
    { name: "gw3", labels: { env: "test" } },
    { resource: "orders", database: "orders", databaseOid: 5, columns: [other] },
  );
  await take([other], { database: "postgres" });
  await take([other], { resource: "nothing" });
  await take([other], { databaseOid: 0 });
  await take([column(0, 1, "a.b.c")]);
  await take([column(41, 9_999, "a.b.c")]);
  await take([column(42, 1, "a\0b")]);
  await take([column(43, 1, "x".repeat(300))]);
  await take([column(44, 1, "public.other.iban", { entity: "IBAN" })]);
  expect(await listed()).toEqual(before);
});

it("says what finds no room", async () => {
  await take([50, 51, 52, 53, 54].map((oid) => column(oid, 1, `public.t${oid}.ssn`)));
  expect(await listed()).toHaveLength(5);
  expect(refused).toBe(2);
});

it("ends a column that has been gone for long, not one that came back, and not before", async () => {
  await take([column(50, 1, "", { gone: true }), column(51, 1, "", { gone: true })]);
  await take([column(51, 1, "public.t51.ssn")]);
  expect((await listed()).filter(([, , gone]) => gone)).toEqual([["public.t50.ssn", "public.t50.ssn", true]]);
  const { current } = publisher.snapshots;
  expect(await bindingStore.pruneBindings(store.db, current, 60_000)).toBe(0);
  await sql`update column_bindings set gone_since = gone_since - interval '1 hour'`.execute(store.db);
  expect(await bindingStore.pruneBindings(store.db, current, 60_000)).toBe(1);
});

it("ends what no classifier names only after the same time, and takes it back when it is named again", async () => {
  const { current } = publisher.snapshots;
  const count = (await listed()).length;
  expect(await bindingStore.pruneBindings(store.db, { ...current, classifiers: [] }, 60_000)).toBe(0);
  await sql`update column_bindings set unnamed_since = unnamed_since - interval '1 hour'`.execute(store.db);
  expect(await bindingStore.pruneBindings(store.db, current, 60_000)).toBe(0);
  expect(await listed()).toHaveLength(count);
});

it("forgets what an administrator names, and the history says so", async () => {
  await expect(
    bindings.admin.forget({ resource: "orders", column: "public.none.x", entity: null, author: "ada" }),
  ).rejects.toMatchObject({ code: "not_found" });
  expect(await bindings.admin.forget({ resource: "orders", column: "public.customers.note", entity: null, author: "ada" })).toBe(
    1,
  );
  expect(published().flatMap(({ columns }) => columns)).not.toContain(20);
  const rows = await store.db.selectFrom("manifest_documents").selectAll().where("kind", "=", "ColumnBindings").execute();
  expect(rows).toMatchObject([
    { name: "orders", change: "removed", author: "ada", content: "US_SSN public.customers.ssn public.customers.note" },
  ]);
});
