/**
 * The queries of a catalog read. Every table is qualified and search_path is empty, so that nothing a user made is called or
 * read in place of the system's own. They read names and definitions; of statistics only the estimated number of rows.
 * Source: PostgreSQL documentation, "System Catalogs"; runs on 14 and later.
 */

/** The first object id that initdb does not use: whatever is below came with the server (FirstNormalObjectId). */
export const FIRST_USER_OID = 16_384;

const isSystemSchema = (alias: string): string =>
  `(${alias}.nspname IN ('pg_catalog', 'information_schema') OR ${alias}.nspname LIKE 'pg\\_toast%')`;

/** Relations of single sessions: each is followed in its own, and with them the content of a catalog would change all the time. */
const isTemporary = (alias: string): string =>
  `(${alias}.nspname LIKE 'pg\\_temp\\_%' OR ${alias}.nspname LIKE 'pg\\_toast\\_temp\\_%')`;

/** In a system schema and of the server's own making: what a superuser adds there later counts as a user's. */
export const isBuiltin = (schema: string, oid: string): string =>
  `(${schema}.nspname IN ('pg_catalog', 'information_schema') AND ${oid} < ${FIRST_USER_OID})`;

export function beginQuery(lockTimeoutMs: number, statementTimeoutMs: number): string {
  return [
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL search_path = ''",
    "SET LOCAL quote_all_identifiers = off",
    "SET LOCAL standard_conforming_strings = on",
    "SET LOCAL row_security = off",
    `SET LOCAL lock_timeout = ${lockTimeoutMs}`,
    `SET LOCAL statement_timeout = ${statementTimeoutMs}`,
    "SELECT current_setting('server_version_num')",
  ].join("; ");
}

/** The columns that a generated column is computed from: what its expression depends on, but for the column itself. */
const GENERATED_FROM = `CASE WHEN a.attgenerated <> '' THEN
  (SELECT coalesce(json_agg(DISTINCT d.refobjsubid), '[]') FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_attrdef e ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = e.oid
    WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum AND d.refclassid = 'pg_catalog.pg_class'::regclass
      AND d.refobjid = a.attrelid AND d.refobjsubid > 0 AND d.refobjsubid <> a.attnum) END`;

/** The relation behind a composite or row type, through arrays and domains. */
const ROW_OF = `CASE WHEN a.atttypid >= ${FIRST_USER_OID} THEN
  (WITH RECURSIVE inner_types (oid) AS (
    SELECT a.atttypid
    UNION
    SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
    FROM inner_types JOIN pg_catalog.pg_type t ON t.oid = inner_types.oid WHERE t.typbasetype <> 0 OR t.typelem <> 0)
  SELECT max(t.typrelid::bigint) FROM inner_types JOIN pg_catalog.pg_type t ON t.oid = inner_types.oid WHERE t.typrelid <> 0) END`;

/**
 * oid, schema, name, relkind, is system, estimated rows, parents as JSON, columns as JSON
 * ([number, name, type, numbers it is generated from, relation of its row type]).
 */
export const relationsQuery: string = `
SELECT c.oid, n.nspname, c.relname, c.relkind, ${isSystemSchema("n")}, c.reltuples::bigint,
  (SELECT json_agg(i.inhparent::bigint ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i
    WHERE i.inhrelid = c.oid AND c.relkind IN ('r', 'p', 'f')),
  CASE WHEN ${isSystemSchema("n")} THEN NULL ELSE
    (SELECT json_agg(json_build_array(a.attnum, a.attname, a.atttypid::bigint, ${GENERATED_FROM}, ${ROW_OF}) ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c', 't') AND NOT ${isTemporary("n")}`;

const VIEWS = `
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND NOT ${isSystemSchema("n")} AND NOT ${isTemporary("n")}`;

/** oid, definition. */
export const definitionsQuery: string = `SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) ${VIEWS}`;

/** oid: for when one view's definition cannot be had and the others are asked one by one. */
export const viewOidsQuery: string = `SELECT c.oid ${VIEWS}`;

export function definitionQuery(viewOid: number): string {
  return `SELECT pg_catalog.pg_get_viewdef(${viewOid}::oid)`;
}

/** oid. */
export const databaseQuery: string = "SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/** name. */
export const builtinFunctionsQuery: string = `
SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pg_catalog' AND p.oid < ${FIRST_USER_OID}`;

/** The role that reads, a schema that it has USAGE on. Temporary ones come and go with sessions, and say nothing to others. */
export const usableSchemasQuery: string = `
SELECT current_user, n.nspname FROM pg_catalog.pg_namespace n
WHERE n.nspname NOT LIKE 'pg\\_temp\\_%' AND n.nspname NOT LIKE 'pg\\_toast\\_temp\\_%' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')`;
