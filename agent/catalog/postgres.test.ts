/** Catalogs of real servers, 15 and 18: what is read, what the epoch follows, what a lock or a lying server does. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { Client } from "pg";
import { catalogIn } from "@sluice/rpc/testing.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, packagedBinaries, startCluster } from "../../control-plane/store/embedded-postgres.ts";
import { createCoLocatedAgent } from "../link.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {} };
const parameters = { fsync: "off", shared_buffers: "32MB", max_locks_per_transaction: "1024" };
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-catalog-test-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const SCHEMA = `
CREATE SCHEMA "Odd ""Schema";
CREATE DOMAIN public.email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE public.mood AS ENUM ('good', 'bad');
CREATE TYPE public.pair AS (a int, b text);
CREATE TYPE public.span AS RANGE (subtype = int);
CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE FUNCTION public.next_code() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION public.twice(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1 || $1';
CREATE FUNCTION public.is_mine(text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
CREATE FUNCTION public.checked(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION public.ruled() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.same_length(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT length($1) = length($2)';
CREATE OPERATOR public.=~= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same_length);
CREATE PROCEDURE public.tidy() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE public.total(int) (SFUNC = int4pl, STYPE = int);
CREATE TABLE public.customers (
  id serial PRIMARY KEY, dropped int, ssn text, email public.email, code int DEFAULT public.next_code(),
  double int GENERATED ALWAYS AS (public.twice(id)) STORED, made timestamptz DEFAULT now(),
  CHECK (public.checked(code)), CHECK (ssn OPERATOR(public.=~=) ssn)
);
ALTER TABLE public.customers DROP COLUMN dropped;
CREATE TRIGGER stamped BEFORE INSERT ON public.customers FOR EACH ROW EXECUTE FUNCTION public.stamp();
ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.customers USING (public.is_mine(ssn));
CREATE RULE noted AS ON DELETE TO public.customers DO ALSO SELECT public.ruled();
INSERT INTO public.customers (ssn, email) SELECT 's' || n, 'a@b' FROM generate_series(1, 100) n;
CREATE VIEW "Odd ""Schema"."Big View" AS SELECT c.ssn AS x, c.id FROM public.customers c;
CREATE MATERIALIZED VIEW public.digest AS SELECT count(*) AS n FROM public.customers;
CREATE TABLE public.events (at date, note text) PARTITION BY RANGE (at);
CREATE TABLE public.events_2025 PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE public.events_2026 PARTITION OF public.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.old_customers (closed date) INHERITS (public.customers);
CREATE SEQUENCE public.numbers;
CREATE TYPE public.contact AS (label text, ssn text);
CREATE DOMAIN public.known_contact AS public.contact;
CREATE TABLE public.cards (
  one public.contact, many public.contact[], checked public.known_contact, whole public.customers, states public.email[]
);
ANALYZE;`;

const FOLLOWED = `
CREATE FUNCTION public.by_id(wanted int, text DEFAULT 'x') RETURNS text LANGUAGE sql STRICT SECURITY DEFINER
  SET search_path = public, pg_temp SET work_mem = '4MB' AS 'SELECT ssn FROM customers WHERE id = wanted';
CREATE FUNCTION public.all_of() RETURNS SETOF public.customers LANGUAGE sql AS 'SELECT * FROM public.customers';
CREATE FUNCTION public.table_of(a int, VARIADIC rest text[]) RETURNS TABLE (x int, y text) LANGUAGE sql AS $$SELECT 1, 'a'$$;
CREATE FUNCTION public.bound() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT ssn FROM public.customers; END;
CREATE FUNCTION public.returned(a int) RETURNS int LANGUAGE sql RETURN a + 1;
CREATE FUNCTION public.odd_text() RETURNS text LANGUAGE sql SET standard_conforming_strings = off AS $$SELECT 'a'$$;`;

describe.each([
  ["15", packagedBinaries("@embedded-postgres-15/linux-x64")],
  ["18", packagedBinaries()],
])("PostgreSQL %s", (version, binariesDirectory) => {
  let cluster: Cluster;
  let admin: Client;
  let catalog: Catalog;

  beforeAll(async () => {
    cluster = await startCluster({ binariesDirectory, directory, name: `v${version}`, parameters, log });
    admin = await connect(cluster);
    await admin.query(SCHEMA);
    catalog = await read(cluster);
  });
  afterAll(async () => {
    await admin?.end();
    await cluster?.stop();
  });

  const find = (schema: string, name: string): CatalogRelation => {
    const found = catalog.relations.filter((relation) => relation.schema === schema && relation.name === name);
    expect(found).toHaveLength(1);
    return found[0]!;
  };

  test("tables with columns, numbers that survive a drop, hidden functions, sizes", () => {
    expect(Math.floor(catalog.serverVersion / 10_000)).toBe(Number(version));
    const customers = find("public", "customers");
    expect(customers).toMatchObject({ kind: "table", system: false, parents: [], estimatedRows: 100 });
    expect(customers.columns.map(({ number, name }) => [number, name])).toEqual([
      [1, "id"],
      [3, "ssn"],
      [4, "email"],
      [5, "code"],
      [6, "double"],
      [7, "made"],
    ]);
    expect(customers.columns[1]?.typeOid).toBe(25);
    expect(customers.columns.map(({ generatedFrom }) => generatedFrom)).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
      [1],
      undefined,
    ]);
    expect(customers.columns.some(({ rowOf }) => rowOf !== undefined)).toBe(false);
    const contact = find("public", "contact").oid;
    expect(find("public", "cards").columns.map(({ rowOf }) => rowOf)).toEqual([
      contact,
      contact,
      contact,
      customers.oid,
      undefined,
    ]);
    const names = ["checked", "is_mine", "next_code", "ruled", "same_length", "stamp", "twice"];
    expect(customers.hiddenFunctions).toEqual([...names.map((name) => `public.${name}`), "rule public.customers.noted"]);
    expect(customers.readingFunctions).toEqual(["public.is_mine"]);
    expect(find("public", "events").hiddenFunctions).toEqual([]);
  });

  test("views with qualified definitions, quoted names, partitions, inheritance", () => {
    const view = find('Odd "Schema', "Big View");
    expect(view).toMatchObject({ kind: "view", estimatedRows: -1, system: false });
    expect(view.columns.map(({ name }) => name)).toEqual(["x", "id"]);
    expect(view.definition).toMatch(/ssn AS x,[\s\S]*FROM public\.customers/);
    expect(find("public", "digest")).toMatchObject({
      kind: "matview",
      definition: expect.stringContaining("public.customers") as string,
    });
    const [events, first] = [find("public", "events"), find("public", "events_2025")];
    expect(events).toMatchObject({ kind: "partitioned", estimatedRows: 0 });
    expect(first).toMatchObject({ kind: "table", parents: [events.oid] });
    expect(find("public", "old_customers").parents).toEqual([find("public", "customers").oid]);
    expect(find("public", "numbers").kind).toBe("sequence");
    expect(find("public", "pair")).toMatchObject({ kind: "composite" });
  });

  test("system relations by name alone; toast among them", () => {
    expect(find("pg_catalog", "pg_authid")).toMatchObject({ system: true, columns: [] });
    expect(find("information_schema", "columns")).toMatchObject({ system: true, columns: [], kind: "view" });
    expect(find("information_schema", "columns").definition).toBeUndefined();
    const toast = `pg_toast_${find("public", "customers").oid}`;
    expect(find("pg_toast", toast)).toMatchObject({ system: true, kind: "table" });
  });

  test("functions, operators and types of users; names of the server's own functions", () => {
    expect(catalog.functions.map(({ name, language, volatility, kind }) => [name, language, volatility, kind])).toEqual([
      ["checked", "sql", "immutable", "function"],
      ["is_mine", "sql", "stable", "function"],
      ["next_code", "sql", "volatile", "function"],
      ["ruled", "sql", "volatile", "function"],
      ["same_length", "sql", "immutable", "function"],
      ["span", "internal", "immutable", "function"],
      ["span", "internal", "immutable", "function"],
      ["span_multirange", "internal", "immutable", "function"],
      ["span_multirange", "internal", "immutable", "function"],
      ["span_multirange", "internal", "immutable", "function"],
      ["stamp", "plpgsql", "volatile", "function"],
      ["tidy", "sql", "volatile", "procedure"],
      ["total", "internal", "immutable", "aggregate"],
      ["twice", "sql", "immutable", "function"],
      ["twice", "sql", "stable", "function"],
    ]);
    expect(catalog.userOperators).toEqual(["=~="]);
    const types = catalog.userTypes.map(({ name, kind }) => `${name} ${kind}`);
    expect(types.filter((type) => !type.startsWith("_")).sort()).toEqual([
      "contact composite",
      "email domain",
      "known_contact domain",
      "mood enum",
      "pair composite",
      "span range",
      "span_multirange range",
    ]);
    expect(types.filter((type) => type.startsWith("_"))).toHaveLength(7);
    expect(types).toContain("_mood array");
    for (const name of ["lower", "count", "pg_read_file", "json_agg", "has_table_privilege"]) {
      expect(catalog.builtinFunctions).toContain(name);
    }
    expect(catalog.builtinFunctions).not.toContain("twice");
    expect(new Set(catalog.builtinFunctions).size).toBe(catalog.builtinFunctions.length);
  });

  test("what a call needs to be followed: signatures, SQL bodies, defaults", async () => {
    await admin.query(FOLLOWED);
    const { functions, relations, databaseOid } = await read(cluster);
    const named = (name: string): (typeof functions)[number] => functions.find((entry) => entry.name === name)!;
    const customers = relations.find(({ schema, name }) => schema === "public" && name === "customers")?.oid;
    expect(named("by_id")).toMatchObject({
      signature: {
        arguments: [
          { name: "wanted", typeOid: 23, mode: "in" },
          { name: "", typeOid: 25, mode: "in" },
        ],
        defaults: 1,
        defaultValues: "'x'::text",
        returnTypeOid: 25,
        returnsSet: false,
        strict: true,
        securityDefiner: true,
      },
      body: { text: "SELECT ssn FROM customers WHERE id = wanted", names: "called", searchPath: "public, pg_temp" },
    });
    expect(named("all_of").signature).toMatchObject({ returnsSet: true, returnsRowOf: customers, arguments: [], defaults: 0 });
    expect(named("table_of").signature?.arguments.map(({ name, mode }) => [name, mode])).toEqual([
      ["a", "in"],
      ["rest", "variadic"],
      ["x", "table"],
      ["y", "table"],
    ]);
    expect(named("bound").body).toMatchObject({
      names: "bound",
      text: expect.stringContaining("FROM public.customers") as string,
    });
    expect(named("returned").body).toMatchObject({ names: "bound", text: expect.stringMatching(/^RETURN /) as string });
    expect(named("odd_text").body).toBeUndefined();
    expect(named("stamp").body).toBeUndefined();
    expect(named("stamp").signature?.oid).toBeGreaterThan(16_383);
    const { rows } = await admin.query("SELECT oid::int8::text AS oid FROM pg_database WHERE datname = current_database()");
    expect(databaseOid).toBe(Number((rows as { oid: string }[])[0]?.oid));
    const other = await connect(cluster);
    await other.query("BEGIN; LOCK TABLE public.customers IN ACCESS EXCLUSIVE MODE");
    const locked = await read(cluster, { catalogLockTimeoutMs: 30 });
    await other.query("ROLLBACK");
    await other.end();
    expect(locked.functions.find(({ name }) => name === "bound")?.body).toBeUndefined();
    expect(locked.functions.find(({ name }) => name === "returned")?.body).toBeDefined();
    await admin.query(
      "DROP FUNCTION public.by_id, public.all_of, public.table_of, public.bound, public.returned, public.odd_text",
    );
  });

  test("the epoch stays with equal content and changes with any definition", async () => {
    expect(catalog.epoch).toMatch(/^[0-9a-f]{64}$/);
    await admin.query("INSERT INTO public.customers (ssn, email) SELECT 't' || n, 'a@b' FROM generate_series(1, 300) n; ANALYZE");
    const grown = await read(cluster);
    expect(grown.epoch).toBe(catalog.epoch);
    const seen = new Set<string>([catalog.epoch]);
    for (const change of [
      `CREATE OR REPLACE VIEW "Odd ""Schema"."Big View" AS SELECT c.code::text AS x, c.id FROM public.customers c`,
      "ALTER TABLE public.customers RENAME ssn TO number",
      "CREATE OR REPLACE FUNCTION public.twice(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 2'",
      "DROP TRIGGER stamped ON public.customers",
    ]) {
      await admin.query(change);
      const { epoch } = await read(cluster);
      expect(seen.has(epoch), change).toBe(false);
      seen.add(epoch);
    }
    const { epoch } = await read(cluster);
    await admin.query("CREATE TEMP TABLE scratch (n int); CREATE TEMP VIEW scratched AS SELECT n FROM scratch");
    expect((await read(cluster)).epoch).toBe(epoch);
    await admin.query("DROP TABLE pg_temp.scratch CASCADE");
  });

  test("a partitioned table is as large as its partitions once all are known", async () => {
    await admin.query(`
      INSERT INTO public.events SELECT '2025-02-01', 'x' FROM generate_series(1, 70);
      INSERT INTO public.events SELECT '2026-02-01', 'x' FROM generate_series(1, 30);
      ANALYZE public.events_2025; ANALYZE public.events_2026`);
    await admin.query(
      "CREATE TABLE public.events_2027 PARTITION OF public.events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
    );
    const unknown = (await read(cluster)).relations.find(({ name }) => name === "events");
    expect(unknown?.estimatedRows).toBe(-1);
    await admin.query("DROP TABLE public.events_2027");
    const events = (await read(cluster)).relations.find(({ name }) => name === "events");
    expect(events?.estimatedRows).toBe(100);
  });

  test("a view that somebody is replacing goes without its definition, the others keep theirs", async () => {
    const other = await connect(cluster);
    await other.query(`BEGIN; CREATE OR REPLACE VIEW "Odd ""Schema"."Big View" AS SELECT 'x' AS x, c.id FROM public.customers c`);
    const { relations } = await read(cluster, { catalogLockTimeoutMs: 30 });
    await other.query("ROLLBACK");
    await other.end();
    expect(relations.find(({ name }) => name === "Big View")?.definition).toBeUndefined();
    expect(relations.find(({ name }) => name === "digest")?.definition).toContain("customers");
  });

  test("nothing of a user's runs, whatever stands in his search path", async () => {
    await admin.query(`
      CREATE TABLE public.trap (hit int);
      CREATE FUNCTION public.json_agg(anyelement) RETURNS json LANGUAGE sql AS 'INSERT INTO public.trap VALUES (1); SELECT null::json';
      CREATE FUNCTION public.pg_get_viewdef(oid) RETURNS text LANGUAGE sql AS 'INSERT INTO public.trap VALUES (2); SELECT ''SELECT 1''';
      ALTER ROLE postgres SET search_path = public, pg_catalog`);
    const trapped = await read(cluster);
    await admin.query("ALTER ROLE postgres RESET search_path; DROP FUNCTION public.json_agg, public.pg_get_viewdef");
    expect((await admin.query("SELECT hit FROM public.trap")).rows).toEqual([]);
    expect(trapped.functions.map(({ name }) => name)).toContain("json_agg");
    expect(trapped.relations.find(({ name }) => name === "digest")?.definition).toContain("customers");
  });
});

describe("bounds", () => {
  test("many tables are read in one go; a bound that is reached is an error", async () => {
    const cluster = await startCluster({ directory, name: "many", parameters, log });
    try {
      const admin = await connect(cluster);
      for (let from = 0; from < 2_000; from += 500) {
        await admin.query(`DO $$ BEGIN FOR i IN ${from}..${from + 499} LOOP
          EXECUTE 'CREATE UNLOGGED TABLE t' || i || ' (a int, b text, c text, d timestamptz, e numeric)'; END LOOP; END $$`);
      }
      await admin.end();
      const started = performance.now();
      const { relations } = await read(cluster);
      // Measured: 10,000 tables and as many views in 1.2 s. The bound leaves room for a machine with other work.
      expect(performance.now() - started).toBeLessThan(3_000);
      expect(relations.filter(({ system }) => !system)).toHaveLength(2_000);
      await expect(read(cluster, { catalogRowsMax: 1_000 })).rejects.toMatchObject({ code: "catalog_unavailable" });
      await expect(read(cluster, { catalogBytesMax: 10_000 })).rejects.toMatchObject({ code: "catalog_unavailable" });
      await expect(read(cluster, { catalogReadTimeoutMs: 1 })).rejects.toMatchObject({ code: "catalog_unavailable" });
    } finally {
      await cluster.stop();
    }
  });
});

async function connect(cluster: Cluster): Promise<Client> {
  const client = new Client({
    host: cluster.host,
    port: cluster.port,
    user: "postgres",
    password: cluster.password,
    database: "postgres",
  });
  await client.connect();
  return client;
}

function read(cluster: Cluster, limits: Partial<Limits> = {}): Promise<Catalog> {
  const agent = createCoLocatedAgent({
    config: {
      secrets: [{ source: { kind: "env", name: "P" }, targets: ["127.0.0.1:*"] }],
      vaults: [],
      kubernetes: null,
    },
    sealingKey: null,
    readEnvironment: () => cluster.password,
    limits: { ...defaultLimits, ...limits },
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
