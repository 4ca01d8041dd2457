/**
 * Columns agree with the server: statements run on PostgreSQL 18 beside their analysis with the catalog that an agent read there.
 * Where lineage knows the columns it has the server's names and number; a base column that the wire names is among the origins, and
 * the only one of an exact column.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Catalog } from "@sluice/core/catalog.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { type CatalogIndex, indexCatalog } from "@sluice/inspect/sql/catalog-index.ts";
import type { StatementModel } from "@sluice/inspect/sql/model.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { emptyScope } from "@sluice/inspect/sql/scope.ts";
import { catalogIn } from "@sluice/rpc/testing.ts";
import { loadModule, parseSync } from "libpg-query";
import { Client, type FieldDef } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createCoLocatedAgent } from "../agent/link.ts";
import { type Cluster, startCluster } from "../control-plane/store/embedded-postgres.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {} };
let directory: string;
let cluster: Cluster;
let client: Client;
let catalog: Catalog;
let index: CatalogIndex;

beforeAll(async () => {
  await loadModule();
  directory = await mkdtemp(join(tmpdir(), "sluice-columns-agree-"));
  cluster = await startCluster({ directory, name: "agree", parameters: { fsync: "off", shared_buffers: "32MB" }, log });
  client = new Client({
    host: cluster.host,
    port: cluster.port,
    user: "postgres",
    password: cluster.password,
    database: "postgres",
  });
  await client.connect();
  await client.query(await readFile(new URL("fixtures/columns-agree-schema.sql", import.meta.url), "utf8"));
  catalog = await readCatalog();
  index = indexCatalog(catalog, parseSync);
});
afterAll(async () => {
  await client?.end();
  await cluster?.stop();
  await rm(directory, { recursive: true, force: true });
});

test("columns agree with the server", async () => {
  const text = await readFile(new URL("fixtures/columns-agree.sql", import.meta.url), "utf8");
  const statements = text.split(/;\n/).filter((statement) => /^(?!--)\S/m.test(statement));
  expect(statements.length).toBeGreaterThan(150);
  const faults: string[] = [];
  let unknown = 0;
  for (const statement of statements) {
    const model = modelOf(statement);
    await client.query("BEGIN");
    const result = await client.query({ text: statement, rowMode: "array" }).catch((error: unknown) => error as Error);
    await client.query("ROLLBACK");
    if (result instanceof Error) {
      faults.push(`${statement}: the server refuses it: ${result.message}`);
      continue;
    }
    if (!model.columnsKnown) unknown += 1;
    faults.push(...disagreements(model, result.fields).map((fault) => `${statement}: ${fault}`));
  }
  expect(faults).toEqual([]);
  // Rows of functions that the catalog does not describe, and whole rows taken apart.
  expect(unknown / statements.length).toBeLessThan(0.15);
});

function modelOf(text: string): StatementModel {
  const settings = { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [] };
  const analysis = analyse(parseSync, text, index, { ...emptyScope, path: ["pg_temp", "pg_catalog", "public"] }, settings);
  if (analysis.kind !== "ok" || analysis.statements.length !== 1) throw new Error(`not one statement: ${text}`);
  return analysis.statements[0]!;
}

function disagreements(model: StatementModel, fields: readonly FieldDef[]): readonly string[] {
  const faults: string[] = [];
  const known = model.columnsKnown ? (model.columns ?? []) : undefined;
  if (known !== undefined && known.map(({ name }) => name).join() !== fields.map(({ name }) => name).join())
    faults.push(`names ${known.map(({ name }) => name).join()} instead of ${fields.map(({ name }) => name).join()}`);
  fields.forEach(({ name, tableID, columnID }, at) => {
    const column = known?.[at] ?? model.columns?.[0];
    const base = baseColumn(tableID, columnID);
    if (column === undefined || base === undefined) return;
    const { origins, exact } = column;
    if (!origins.includes(base) && !origins.includes("*")) faults.push(`${name} holds ${base}, not ${origins.join()}`);
    if (exact && origins.join() !== base) faults.push(`${name} is ${base}, not exactly ${origins.join()}`);
  });
  return faults;
}

/** The column that the wire names, where it is one of a table. */
function baseColumn(tableId: number, columnId: number): string | undefined {
  const relation = catalog.relations.find(({ oid }) => oid === tableId);
  if (relation === undefined || relation.system || relation.kind === "view" || relation.kind === "matview") return undefined;
  const column = relation.columns.find(({ number }) => number === columnId);
  return column === undefined ? undefined : `${relation.schema}.${relation.name}.${column.name}`;
}

function readCatalog(): Promise<Catalog> {
  const agent = createCoLocatedAgent({
    config: { secrets: [{ source: { kind: "env", name: "P" }, targets: ["127.0.0.1:*"] }], vaults: [], kubernetes: null },
    sealingKey: null,
    readEnvironment: () => cluster.password,
    limits: defaultLimits,
    clock: systemClock,
    random: systemRandom,
    log,
  });
  const resource: ResourceSpec = {
    name: "orders",
    labels: {},
    protocol: "postgres",
    target: { host: cluster.host, port: cluster.port, database: "postgres", databases: [], tls: { mode: "disable" } },
    credential: { username: { kind: "value", value: "postgres" }, password: { kind: "env", name: "P" } },
    inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "auto" },
  };
  return agent.readCatalog({ resource, database: "postgres", signal: new AbortController().signal }).then(catalogIn);
}
