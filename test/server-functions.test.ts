/**
 * Every function that comes with PostgreSQL 15 and 18 and could do more than compute from its arguments (volatile, or not for
 * everybody to call) is known for what it is: a new version's functions show up here.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  functionEffect,
  isEscape,
  isHarmless,
  keepsArguments,
  returnsRows,
} from "@sluice/inspect/sql/postgres/function-lists.ts";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, packagedBinaries, startCluster } from "../control-plane/store/embedded-postgres.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {} };
const parameters = { fsync: "off", shared_buffers: "32MB" };
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-server-functions-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** Functions that SQL can call by name: with an internal or trigger type in their signature nobody can. */
const WATCHED = `
SELECT DISTINCT p.proname::text AS name
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pg_catalog' AND p.oid < 16384
  AND (p.provolatile = 'v' OR NOT pg_catalog.has_function_privilege('nobody_special', p.oid, 'EXECUTE'))
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype, 'language_handler'::regtype,
    'fdw_handler'::regtype, 'index_am_handler'::regtype, 'table_am_handler'::regtype, 'tsm_handler'::regtype)
  AND NOT 'internal'::regtype = ANY (p.proargtypes)
ORDER BY 1`;

describe.each([
  ["15", packagedBinaries("@embedded-postgres-15/linux-x64")],
  ["18", packagedBinaries()],
])("PostgreSQL %s", (version, binariesDirectory) => {
  let cluster: Cluster;
  let admin: Client;

  beforeAll(async () => {
    cluster = await startCluster({ binariesDirectory, directory, name: `v${version}`, parameters, log });
    admin = new Client({
      host: cluster.host,
      port: cluster.port,
      user: "postgres",
      password: cluster.password,
      database: "postgres",
    });
    await admin.connect();
    await admin.query("CREATE ROLE nobody_special");
  });
  afterAll(async () => {
    await admin?.end();
    await cluster?.stop();
  });

  test("a function that may do more than compute is listed", async () => {
    const { rows } = await admin.query<{ name: string }>(WATCHED);
    expect(rows.length).toBeGreaterThan(100);
    const unlisted = rows
      .map(({ name }) => name)
      .filter((name) => !isEscape(name) && functionEffect(name) === undefined && !keepsArguments(name) && !isHarmless(name));
    expect(unlisted).toEqual([]);
  });

  test("a function that returns rows for what it is given is listed", async () => {
    const { rows } = await admin.query<{ name: string }>(
      "SELECT DISTINCT proname::text AS name FROM pg_proc WHERE proretset AND pronargs > 0 AND pronamespace = 'pg_catalog'::regnamespace",
    );
    expect(rows.length).toBeGreaterThan(40);
    expect(rows.map(({ name }) => name).filter((name) => !returnsRows(name) && !isEscape(name))).toEqual([]);
  });
});
