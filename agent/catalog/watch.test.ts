/** A watched database, on a real server: whatever a catalog is read from shows, what sessions do every second does not. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cluster, startCluster } from "@sluice/control-plane/store/embedded-postgres.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { CatalogNews } from "@sluice/rpc/catalog-watch.ts";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createCoLocatedAgent } from "../link.ts";
import { installWatchSql } from "./watch-queries.ts";

const log = pino({ level: "silent" });
const PROBE_MS = 50;

let directory: string;
let cluster: Cluster;
let admin: Client;
let agent: ReturnType<typeof createCoLocatedAgent>;
const news: CatalogNews[] = [];
const ending = new AbortController();
let watching: Promise<void>;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-watch-"));
  cluster = await startCluster({ directory, name: "watched", parameters: { fsync: "off", shared_buffers: "16MB" }, log });
  const { host, port, password } = cluster;
  admin = new Client({ host, port, user: "postgres", password, database: "postgres" });
  await admin.connect();
  await admin.query(`CREATE TABLE base (id int, note text); CREATE TABLE parted (id int) PARTITION BY LIST (id);
    CREATE TABLE part (id int); CREATE TABLE child (id int, note text); CREATE TABLE forebear (id int, note text); CREATE TYPE pair AS (a int, b text);
    CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE VIEW v AS SELECT id FROM base`);
  agent = createCoLocatedAgent({
    config: { secrets: [{ source: { kind: "env", name: "P" }, targets: ["127.0.0.1:*"] }], vaults: [], kubernetes: null },
    sealingKey: null,
    readEnvironment: () => password,
    limits: { ...defaultLimits, catalogProbeMs: PROBE_MS, catalogProbePercentMax: 100 },
    clock: systemClock,
    random: systemRandom,
    log,
  });
  const resource: ResourceSpec = {
    name: "orders",
    labels: {},
    protocol: "postgres",
    target: { host, port, database: "postgres", databases: [], tls: { mode: "disable" } },
    credential: { username: { kind: "value", value: "postgres" }, password: { kind: "env", name: "P" } },
    inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "auto" },
  };
  const listen = (one: CatalogNews): void => void news.push(one);
  watching = agent.watchCatalog({ resource, database: "postgres", signal: ending.signal, news: listen });
});
afterAll(async () => {
  ending.abort();
  await watching;
  await agent.close();
  await admin.end();
  await cluster.stop();
  await rm(directory, { recursive: true, force: true });
});

const changes = (): number => news.filter(({ changed }) => changed).length;
const looks = async (count: number): Promise<void> => {
  const before = news.length;
  await expect.poll(() => news.length, { timeout: 10_000, interval: 10 }).toBeGreaterThanOrEqual(before + count);
};

test.each([
  "ALTER TABLE base RENAME COLUMN note TO remark",
  "ALTER TABLE base ALTER COLUMN remark TYPE varchar",
  "ALTER TABLE base ALTER COLUMN remark SET DEFAULT f()",
  "ALTER TABLE base ADD CONSTRAINT positive CHECK (id > f())",
  "CREATE OR REPLACE VIEW v AS SELECT id + 1 AS id FROM base",
  "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2; END'",
  "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
  "CREATE CAST (pair AS text) WITH INOUT",
  "ALTER TYPE pair RENAME ATTRIBUTE b TO c",
  "ALTER TABLE parted ATTACH PARTITION part FOR VALUES IN (1)",
  "ALTER TABLE child INHERIT forebear",
  "CREATE TRIGGER hidden BEFORE INSERT ON base FOR EACH ROW EXECUTE FUNCTION t()",
  "CREATE RULE also AS ON UPDATE TO base DO ALSO NOTHING",
  "CREATE POLICY own ON base USING (id = f())",
  "CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int)",
  "CREATE SCHEMA other; ALTER TABLE child SET SCHEMA other",
  "GRANT USAGE ON SCHEMA other TO PUBLIC",
  "ALTER ROLE postgres SET search_path = other, public",
  "CREATE ROLE clerk; GRANT clerk TO postgres",
  "DROP VIEW v",
])("%s", async (ddl) => {
  await looks(1);
  const before = changes();
  await admin.query(ddl);
  await expect.poll(changes, { timeout: 10_000, interval: 10 }).toBeGreaterThan(before);
});

test("nothing of what sessions do every second", async () => {
  await looks(2);
  const before = changes();
  await admin.query("CREATE TEMP TABLE mine (id int DEFAULT 1 CHECK (id > 0), note text); INSERT INTO mine VALUES (1)");
  await admin.query("ALTER TABLE mine ADD COLUMN more int");
  await looks(2);
  await admin.query("DROP TABLE mine");
  await admin.query("INSERT INTO base SELECT n, 'x' FROM generate_series(11, 20) n");
  await admin.query("ANALYZE base");
  await admin.query("VACUUM base");
  await looks(2);
  expect(changes()).toBe(before);
});

test("at once where the database tells, and a dropped trigger shows", async () => {
  expect(news.at(-1)?.told).toBe(false);
  await admin.query(installWatchSql);
  await expect.poll(() => news.at(-1)?.told, { timeout: 10_000 }).toBe(true);
  await admin.query(installWatchSql); // once more does no harm
  await admin.query("ALTER EVENT TRIGGER sluice_drop DISABLE");
  await expect.poll(() => news.at(-1)?.told, { timeout: 10_000 }).toBe(false);
});
