/**
 * What tools that draw schemas ask when they connect: information_schema, pg_catalog with many joins, sizes, statistics, privileges, over and
 * over for each relation. Every answer must be the one that the database gives directly to the same account.
 */
import { isDeepStrictEqual } from "node:util";
import pg from "pg";
import { APP_PASSWORD, APP_USER } from "../support/targets.ts";
import type { ClientGround, Role } from "./installation.ts";
import type { Outcome } from "./run-program.ts";

const ROUNDS = 4;

/** By what they are for; `$1` is a relation's name. */
export const queries: Readonly<Record<string, string>> = {
  databases:
    "SELECT datname, datistemplate, datallowconn, pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database ORDER BY 1",
  schemas:
    "SELECT n.oid, n.nspname, n.nspowner, d.description FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 WHERE n.nspname !~ '^pg_temp' ORDER BY nspname",
  tables:
    "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2",
  relations:
    "SELECT c.oid, c.relname, c.relkind, c.reltuples >= 0, c.relhasindex, a.rolname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles a ON a.oid = c.relowner JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' ORDER BY 1",
  columns:
    "SELECT column_name, ordinal_position, column_default, is_nullable, data_type, character_maximum_length, numeric_precision FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position",
  attributes:
    "SELECT a.attname, a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = $1::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
  indexes:
    "SELECT i.relname, ix.indisunique, ix.indisprimary, pg_catalog.pg_get_indexdef(ix.indexrelid) FROM pg_catalog.pg_index ix JOIN pg_catalog.pg_class i ON i.oid = ix.indexrelid WHERE ix.indrelid = $1::pg_catalog.regclass ORDER BY 1",
  constraints:
    "SELECT conname, contype, conkey, confkey, pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE conrelid = $1::pg_catalog.regclass ORDER BY 1",
  keys: "SELECT tc.constraint_name, kcu.column_name, ccu.table_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu USING (constraint_schema, constraint_name) JOIN information_schema.constraint_column_usage ccu USING (constraint_schema, constraint_name) WHERE tc.table_name = $1 ORDER BY 1, 2",
  sizes:
    "SELECT pg_catalog.pg_relation_size(oid) >= 0, pg_catalog.pg_total_relation_size(oid) >= 0 FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.regclass",
  triggers: "SELECT tgname, tgenabled FROM pg_catalog.pg_trigger WHERE tgrelid = $1::pg_catalog.regclass AND NOT tgisinternal",
  comments:
    "SELECT pg_catalog.obj_description($1::pg_catalog.regclass, 'pg_class'), pg_catalog.col_description($1::pg_catalog.regclass, 1)",
  functions:
    "SELECT p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid), l.lanname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'public'::pg_catalog.regnamespace ORDER BY 1",
  types:
    "SELECT t.typname, t.typtype, t.typcategory, e.enumlabel FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_enum e ON e.enumtypid = t.oid WHERE t.typnamespace = 'public'::pg_catalog.regnamespace ORDER BY t.typname, e.enumsortorder",
  views: "SELECT table_name FROM information_schema.views WHERE table_schema = 'public' ORDER BY 1",
  grants: "SELECT grantee, privilege_type FROM information_schema.role_table_grants WHERE table_name = $1 ORDER BY 1, 2",
  settings:
    "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('server_encoding', 'max_connections', 'server_version_num') ORDER BY 1",
  identity: "SELECT current_user, session_user, current_database(), current_schema(), pg_catalog.version()",
  extensions: "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1",
  sequences: "SELECT sequence_name FROM information_schema.sequences ORDER BY 1",
};

const relations = ["customers", "orders", "big", "customer_contacts"];

export async function catalogQueries({ orders, token }: ClientGround, role: Role): Promise<Outcome> {
  const direct = new pg.Client({
    host: "127.0.0.1",
    port: orders.target.port,
    user: APP_USER,
    password: APP_PASSWORD,
    database: "orders",
  });
  await direct.connect();
  const through = await orders.connect(token(role));
  const features: Record<string, string> = {};
  let asked = 0;
  try {
    for (const [name, text] of Object.entries(queries)) {
      features[name] = "ok";
      for (const values of text.includes("$1") ? relations.map((relation) => [relation]) : [[]]) {
        const expected = await rowsOf(direct, text, values);
        for (let round = 0; round < ROUNDS; round++) {
          const seen = await rowsOf(through, text, values);
          asked += 1;
          if (!isDeepStrictEqual(seen, expected)) features[name] = `saw ${JSON.stringify(seen).slice(0, 300)}`;
        }
      }
    }
  } finally {
    await through.end();
    await direct.end();
  }
  return { version: `${asked} queries`, features };
}

async function rowsOf(client: pg.Client, text: string, values: readonly string[]): Promise<unknown> {
  try {
    return (await client.query({ text, values: [...values], rowMode: "array" })).rows;
  } catch (error) {
    return String(error);
  }
}
