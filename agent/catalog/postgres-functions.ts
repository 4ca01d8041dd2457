/**
 * Reads what a call of a user's function needs to be followed: signatures, and the bodies of functions in language SQL. Runs none
 * of them. A body that a setting of the function could make mean something else is left out: then it counts as unknown.
 * Source: PostgreSQL documentation, "pg_proc"; the order of arguments is that of proallargtypes.
 */
import type { CatalogFunction, FunctionArgument, FunctionBody, FunctionSignature } from "@sluice/core/catalog.ts";
import { type QueryClient, QueryRefused, type QueryRow } from "../targets/postgres/query.ts";
import { number, schemaName, text, unexpected } from "./catalog-cells.ts";

/** Bodies longer than this are left out: hand-written ones stay far below, and all of them are held in memory. */
const BODY_CHARACTERS_MAX = 64 * 1024;

/** Functions made after initdb, or outside the system schemas. */
const USERS = `NOT (n.nspname IN ('pg_catalog', 'information_schema') AND p.oid < 16384)`;

const FROM_FUNCTIONS = `
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE ${USERS}`;

/** The relation whose row type is returned, through domains over it. */
const RETURNS_ROW_OF = `(WITH RECURSIVE inner_types (oid) AS (
    SELECT p.prorettype
    UNION
    SELECT t.typbasetype FROM inner_types JOIN pg_catalog.pg_type t ON t.oid = inner_types.oid WHERE t.typtype = 'd')
  SELECT max(t.typrelid::bigint) FROM inner_types JOIN pg_catalog.pg_type t ON t.oid = inner_types.oid
  WHERE t.typtype = 'c' AND t.typrelid <> 0)`;

/**
 * schema, name, language, provolatile, prokind, oid, arguments as JSON lists (types, names, modes), number of defaults, returned
 * type, returns a set, relation of the returned row, strict, security definer, source (SQL alone), has a standard body, settings as JSON.
 */
const functionsQuery = `
SELECT n.nspname, p.proname, l.lanname, p.provolatile, p.prokind, p.oid,
  coalesce(pg_catalog.to_json(p.proallargtypes::bigint[]), pg_catalog.to_json(p.proargtypes::oid[]::bigint[])),
  pg_catalog.to_json(p.proargnames), pg_catalog.to_json(p.proargmodes::text[]),
  p.pronargdefaults, p.prorettype, p.proretset, ${RETURNS_ROW_OF}, p.proisstrict, p.prosecdef,
  CASE WHEN l.lanname = 'sql' AND pg_catalog.length(p.prosrc) <= ${BODY_CHARACTERS_MAX} THEN p.prosrc END,
  p.prosqlbody IS NOT NULL, pg_catalog.to_json(p.proconfig)
${FROM_FUNCTIONS}`;

/** oid, standard body or null, default values of the last arguments or null. */
const PRINTED = `
SELECT p.oid, pg_catalog.pg_get_function_sqlbody(p.oid),
  CASE WHEN l.lanname = 'sql' AND p.pronargdefaults > 0 THEN pg_catalog.pg_get_expr(p.proargdefaults, 0) END
${FROM_FUNCTIONS} AND l.lanname = 'sql' AND (p.prosqlbody IS NOT NULL OR p.pronargdefaults > 0)`;

/** What of a function has to be printed by the server, which may wait for locks. */
interface Printed {
  readonly body: string | null;
  readonly defaults: string | null;
}

/** All functions of users, one entry an overload. */
export async function readFunctions(client: QueryClient): Promise<readonly CatalogFunction[]> {
  const rows = await client.query(functionsQuery);
  const printed = await readPrinted(client, rows);
  return rows.map((row) => toFunction(row, printed));
}

/** All at once; where one needs a locked table, one by one, leaving out what cannot be had. */
async function readPrinted(client: QueryClient, rows: readonly QueryRow[]): Promise<ReadonlyMap<string, Printed>> {
  const printed = new Map<string, Printed>();
  const add = ([oid, body, defaults]: QueryRow): void => {
    printed.set(text(oid), { body: body ?? null, defaults: defaults ?? null });
  };
  await client.query("SAVEPOINT bodies");
  try {
    for (const row of await client.query(PRINTED)) add(row);
    return printed;
  } catch (error) {
    if (!(error instanceof QueryRefused)) throw error;
    await client.query("ROLLBACK TO SAVEPOINT bodies; SET LOCAL lock_timeout = 5; SAVEPOINT bodies");
  }
  const wanted = rows.filter((row) => row[2] === "sql" && (row[16] === "t" || row[9] !== "0"));
  for (const row of wanted) {
    try {
      for (const found of await client.query(`${PRINTED} AND p.oid = ${Number(text(row[5]))}`)) add(found);
      await client.query("RELEASE SAVEPOINT bodies; SAVEPOINT bodies");
    } catch (error) {
      if (!(error instanceof QueryRefused)) throw error;
      await client.query("ROLLBACK TO SAVEPOINT bodies");
    }
  }
  return printed;
}

function toFunction(row: QueryRow, printed: ReadonlyMap<string, Printed>): CatalogFunction {
  const [schema, name, language, volatility, kind] = row;
  const print = printed.get(text(row[5]));
  const body = bodyOf(row, print);
  return {
    schema: schemaName(text(schema)),
    name: text(name),
    language: text(language),
    volatility: volatility === "i" ? "immutable" : volatility === "s" ? "stable" : "volatile",
    kind: functionKind(text(kind)),
    signature: signatureOf(row, print),
    ...(body === undefined ? {} : { body }),
  };
}

function signatureOf(row: QueryRow, print: Printed | undefined): FunctionSignature {
  const [, , , , , oid, types, names, modes, defaults, returned, set, rowOf, strict, definer] = row;
  const argumentNames = listOf(names);
  const argumentModes = listOf(modes);
  return {
    oid: number(oid),
    arguments: listOf(types).map((typeOid, at) => ({
      name: stringAt(argumentNames, at, ""),
      typeOid: typeof typeOid === "number" ? typeOid : unexpectedType(),
      mode: argumentMode(stringAt(argumentModes, at, "i")),
    })),
    defaults: number(defaults),
    ...(typeof print?.defaults === "string" ? { defaultValues: print.defaults } : {}),
    returnTypeOid: number(returned),
    returnsSet: set === "t",
    ...(rowOf === null || rowOf === undefined ? {} : { returnsRowOf: number(rowOf) }),
    strict: strict === "t",
    securityDefiner: definer === "t",
  };
}

/** Undefined for other languages, and where what the text means cannot be known. */
function bodyOf(row: QueryRow, print: Printed | undefined): FunctionBody | undefined {
  const [source, standard, config] = row.slice(15);
  if (row[2] !== "sql") return undefined;
  const settings = listOf(config).map((entry) => String(entry));
  if (!settings.every((setting) => harmlessSettings.has(setting.slice(0, setting.indexOf("=")).toLowerCase()))) return undefined;
  if (standard === "t") {
    const body = print?.body ?? null;
    return body === null || body.length > BODY_CHARACTERS_MAX ? undefined : { text: body, names: "bound" };
  }
  if (source === null || source === undefined) return undefined;
  const path = settings.find((setting) => setting.toLowerCase().startsWith("search_path="));
  return { text: source, names: "called", ...(path === undefined ? {} : { searchPath: path.slice("search_path=".length) }) };
}

/** Settings that change neither how a body is read nor whose rights it has; all others make it unknown. */
const harmlessSettings: ReadonlySet<string> = new Set([
  "search_path",
  "statement_timeout",
  "lock_timeout",
  "idle_in_transaction_session_timeout",
  "work_mem",
  "maintenance_work_mem",
  "timezone",
  "datestyle",
  "intervalstyle",
  "extra_float_digits",
  "bytea_output",
  "client_min_messages",
  "jit",
  "random_page_cost",
  "effective_cache_size",
  "max_parallel_workers_per_gather",
  "enable_seqscan",
  "enable_nestloop",
  "enable_hashjoin",
  "enable_mergejoin",
  "plan_cache_mode",
  "constraint_exclusion",
  "default_transaction_read_only",
]);

function argumentMode(mode: string): FunctionArgument["mode"] {
  switch (mode) {
    case "i":
      return "in";
    case "o":
      return "out";
    case "b":
      return "inout";
    case "v":
      return "variadic";
    case "t":
      return "table";
    default:
      throw unexpected("argument mode");
  }
}

function functionKind(prokind: string): CatalogFunction["kind"] {
  switch (prokind) {
    case "f":
      return "function";
    case "p":
      return "procedure";
    case "a":
      return "aggregate";
    case "w":
      return "window";
    default:
      throw unexpected("function kind");
  }
}

function listOf(json: string | null | undefined): readonly unknown[] {
  if (json === null || json === undefined) return [];
  const value: unknown = JSON.parse(json);
  if (!Array.isArray(value)) throw unexpected("list");
  return value;
}

function stringAt(values: readonly unknown[], at: number, absent: string): string {
  const value = values[at];
  return typeof value === "string" ? value : absent;
}

function unexpectedType(): never {
  throw unexpected("argument type");
}
