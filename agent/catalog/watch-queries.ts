/**
 * What a watched database is asked again and again, in few milliseconds: whether anything that its catalog is read from has changed, and
 * whether the database itself tells of DDL. Reads system catalogs alone, calls nothing that a user made.
 * Source: PostgreSQL documentation, "System Catalogs", "Event Triggers"; runs on 14 and later.
 */

/** Channel, function and triggers that an administrator installs; `docs/guides/operations.md` has the text. */
export const CATALOG_CHANNEL = "sluice_catalog";
/** The first object id that initdb does not use (FirstNormalObjectId). */
const FIRST_USER_OID = 16_384;
const TRIGGERS = ["sluice_ddl", "sluice_drop"];

const WATCH_SOURCE = ` BEGIN PERFORM pg_catalog.pg_notify('${CATALOG_CHANNEL}', ''); END `;

/** Whether a function of these names and this source is the one that tells of DDL, and does nothing else. */
export function isWatchFunction(schema: string, name: string, source: string): boolean {
  return schema === "sluice" && name === "catalog_changed" && source === WATCH_SOURCE;
}

/** What an administrator runs once in each database, as a superuser, so that DDL past the gateway is seen within a second. */
export const installWatchSql: string = `CREATE SCHEMA IF NOT EXISTS sluice;
CREATE OR REPLACE FUNCTION sluice.catalog_changed() RETURNS event_trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$${WATCH_SOURCE}$$;
DROP EVENT TRIGGER IF EXISTS sluice_ddl;
CREATE EVENT TRIGGER sluice_ddl ON ddl_command_end EXECUTE FUNCTION sluice.catalog_changed();
ALTER EVENT TRIGGER sluice_ddl ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS sluice_drop;
CREATE EVENT TRIGGER sluice_drop ON sql_drop EXECUTE FUNCTION sluice.catalog_changed();
ALTER EVENT TRIGGER sluice_drop ENABLE ALWAYS;
`;

export const startQuery: string = [
  "SET search_path = ''",
  "SET default_transaction_read_only = on",
  "SET statement_timeout = 10000",
  "SET idle_session_timeout = 0",
  "SET jit = off",
  `LISTEN ${CATALOG_CHANNEL}`,
].join("; ");

/**
 * Every change of a row writes another version of it, whose transaction is later than the one that wrote the version it replaces. So of
 * two states with as many rows, the later has the larger sum of transaction numbers, whatever was changed and in whichever order it was
 * committed. Numbers count from a fixed one, by `age`, which is far cheaper than their text: the sum of `now - age` is count times now,
 * less the sum of ages. Rows of the server's own making have no age.
 */
const counted = "count(*) AS rows, coalesce(sum(pg_catalog.age(t.xmin)), 0) AS ages";
const isAged = "pg_catalog.age(t.xmin) < 2147483647";

const part = (table: string, where = isAged): string =>
  `SELECT rows, ages, 0, 0 FROM (SELECT ${counted} FROM pg_catalog.${table} t WHERE ${where}) whole`;

/** All rows but those of temporary relations, which come and go by the second and mean something to their own session alone. */
const partWithoutTemporary = (table: string, relation: string, where: string): string =>
  `SELECT whole.rows, whole.ages, temporary.rows, temporary.ages
    FROM (SELECT ${counted} FROM pg_catalog.${table} t WHERE ${where}) whole,
      (SELECT ${counted} FROM pg_catalog.${table} t WHERE ${where} AND t.${relation} = ANY (ARRAY(SELECT oid FROM temporary))) temporary`;

const PARTS: readonly string[] = [
  part("pg_class", `t.relpersistence <> 't' AND ${isAged}`),
  partWithoutTemporary("pg_attribute", "attrelid", `t.attnum > 0 AND t.attrelid >= ${FIRST_USER_OID}`),
  partWithoutTemporary("pg_attrdef", "adrelid", isAged),
  partWithoutTemporary("pg_constraint", "conrelid", isAged),
  partWithoutTemporary("pg_type", "typnamespace", isAged),
  part("pg_namespace", `t.nspname !~ '^pg_(toast_)?temp_' AND ${isAged}`),
  ...[
    "pg_proc",
    "pg_aggregate",
    "pg_rewrite",
    "pg_operator",
    "pg_opclass",
    "pg_amproc",
    "pg_amop",
    "pg_cast",
    "pg_event_trigger",
    "pg_statistic_ext",
    "pg_trigger",
    "pg_policy",
    "pg_inherits",
    "pg_auth_members",
    "pg_db_role_setting",
  ].map((table) => part(table)),
];

/** fingerprint; whether the triggers are there and fire always; and the role that is asked, since its rights are part of what it reads. */
export const probeQuery: string = `
WITH base (age) AS MATERIALIZED (SELECT pg_catalog.age('3'::pg_catalog.xid)::bigint),
  temporary (oid) AS MATERIALIZED (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't'
    UNION ALL SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_')
SELECT (SELECT pg_catalog.string_agg(
      (rows - less_rows) || ':' || ((rows - less_rows) * (SELECT age FROM base) - (ages - less_ages)), ' ')
    FROM (${PARTS.join("\nUNION ALL\n")}) parts (rows, ages, less_rows, less_ages)),
  (SELECT count(*) FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE e.evtname IN (${TRIGGERS.map((name) => `'${name}'`).join(", ")}) AND e.evtenabled = 'A'
      AND n.nspname = 'sluice' AND p.proname = 'catalog_changed')`;

export const triggersOfWatch: number = TRIGGERS.length;
