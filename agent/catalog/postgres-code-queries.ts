/**
 * The queries for code that runs without being named: functions behind types, operators, casts, constraints, triggers and policies.
 * They follow pg_depend, where every expression's functions, operators and types stand, and print no expression. They name OIDs;
 * postgres-code.ts ties them together. Source: PostgreSQL documentation, "System Catalogs"; runs on 14 and later.
 */
import { FIRST_USER_OID, isBuiltin } from "./postgres-queries.ts";

/**
 * Libraries that come with PostgreSQL of which every function only computes from what it is given. Functions in C can be made by
 * superusers alone, or by the scripts of extensions that came with the server.
 */
const COMPUTING_LIBRARIES = "citext hstore _int ltree cube seg isn pg_trgm btree_gin btree_gist fuzzystrmatch"
  .split(" ")
  .map((name) => `'$libdir/${name}'`)
  .join(", ");

/**
 * Functions that may do more than compute: oid, schema, name. In language `internal`, which is the superuser's as well, another name
 * for one of the server's own that is immutable, or that only reads and writes a text.
 */
export const doubtfulFunctionsQuery: string = `
SELECT p.oid, n.nspname, p.proname
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid >= ${FIRST_USER_OID} AND p.prokind <> 'a' AND NOT (l.lanname = 'c' AND p.probin IN (${COMPUTING_LIBRARIES}))
  AND NOT (l.lanname = 'internal' AND (p.prosrc IN ('textsend', 'textrecv') OR EXISTS (SELECT FROM pg_catalog.pg_proc own
    WHERE own.oid < ${FIRST_USER_OID} AND own.prolang = p.prolang AND own.prosrc = p.prosrc AND own.provolatile = 'i')))`;

const dependencies = (uses: string): string => `
SELECT DISTINCT u.owner, u.access, d.refclassid::regclass, d.refobjid
FROM (${uses}) u (owner, access, classid, objid)
  JOIN pg_catalog.pg_depend d ON d.classid = u.classid::regclass AND d.objid = u.objid
WHERE d.refobjid >= ${FIRST_USER_OID} AND d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass,
    'pg_catalog.pg_opclass'::regclass, 'pg_catalog.pg_type'::regclass, 'pg_catalog.pg_class'::regclass)
  AND (d.refclassid <> 'pg_catalog.pg_class'::regclass
    OR u.classid IN ('pg_catalog.pg_rewrite', 'pg_catalog.pg_policy') AND d.refobjid <> u.owner)`;

/**
 * relation, access (`r`: runs on reading, `w`: on writing, `v`: behind a view), class and oid of what its expressions use. Foreign
 * keys count for the relation that is referred to as well: its rows are compared with the others.
 */
export const relationUsesQuery: string = `${dependencies(`
  SELECT e.adrelid, CASE a.attgenerated WHEN 'v' THEN 'r' ELSE 'w' END, 'pg_catalog.pg_attrdef', e.oid
    FROM pg_catalog.pg_attrdef e JOIN pg_catalog.pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
  UNION ALL
  SELECT conrelid, 'w', 'pg_catalog.pg_constraint', oid FROM pg_catalog.pg_constraint WHERE conrelid <> 0
  UNION ALL
  SELECT confrelid, 'w', 'pg_catalog.pg_constraint', oid FROM pg_catalog.pg_constraint WHERE contype = 'f'
  UNION ALL
  SELECT ev_class, CASE rulename WHEN '_RETURN' THEN 'v' ELSE 'w' END, 'pg_catalog.pg_rewrite', oid
    FROM pg_catalog.pg_rewrite WHERE oid >= ${FIRST_USER_OID}
  UNION ALL
  SELECT polrelid, 'r', 'pg_catalog.pg_policy', oid FROM pg_catalog.pg_policy
  UNION ALL
  SELECT partrelid, 'w', 'pg_catalog.pg_class', partrelid FROM pg_catalog.pg_partitioned_table
  UNION ALL
  SELECT indrelid, 'w', 'pg_catalog.pg_class', indexrelid FROM pg_catalog.pg_index WHERE indexrelid >= ${FIRST_USER_OID}
  UNION ALL
  SELECT stxrelid, 'w', 'pg_catalog.pg_statistic_ext', oid FROM pg_catalog.pg_statistic_ext`)}
UNION
SELECT tgrelid, 'w', 'pg_catalog.pg_proc'::regclass, tgfoid FROM pg_catalog.pg_trigger WHERE tgfoid >= ${FIRST_USER_OID}
UNION
SELECT confrelid, 'w', 'pg_catalog.pg_class'::regclass, conrelid FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))`;

/** relation, schema, name, rule: rules that do something. What they return and where they write is followed by nobody. */
export const rulesQuery: string = `
SELECT r.ev_class, n.nspname, c.relname, r.rulename
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND r.oid >= ${FIRST_USER_OID} AND r.ev_action::text <> '<>'`;

/**
 * Types but those of relations' rows and arrays of them: oid, schema, name, typtype, is an array, parts as JSON, is citext, has
 * checks, input, output, receive and send functions as JSON.
 */
export const typesQuery: string = `
SELECT t.oid, n.nspname, t.typname, t.typtype, t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc,
  (SELECT coalesce(pg_catalog.json_agg(part.oid::bigint), '[]') FROM (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typelem <> 0
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
    UNION ALL SELECT r.rngmultitypid FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
    UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid) part (oid)),
  t.typname = 'citext' AND t.typtype = 'b' AND t.typcategory = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' AND e.extname = 'citext'),
  EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c'),
  pg_catalog.json_build_array(t.typinput::oid::bigint, t.typoutput::oid::bigint, t.typreceive::oid::bigint, t.typsend::oid::bigint)
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type element ON t.typelem <> 0 AND element.oid = t.typelem
  LEFT JOIN pg_catalog.pg_class own_row ON t.typrelid <> 0 AND own_row.oid = t.typrelid
  LEFT JOIN pg_catalog.pg_class element_row ON element.typrelid <> 0 AND element_row.oid = element.typrelid
WHERE NOT ${isBuiltin("n", "t.oid")} AND n.nspname NOT LIKE 'pg\\_toast%' AND t.oid >= ${FIRST_USER_OID} AND t.typisdefined
  AND coalesce(own_row.relkind, 'c') = 'c' AND coalesce(element_row.relkind, 'c') = 'c'`;

/** type, access (`t`: the type itself, `c`: a constraint of the domain), class and oid of what it uses. */
export const typeUsesQuery: string = dependencies(`
  SELECT oid, 't', 'pg_catalog.pg_type', oid FROM pg_catalog.pg_type WHERE oid >= ${FIRST_USER_OID} AND typtype IN ('b', 'd', 'r')
  UNION ALL
  SELECT contypid, 'c', 'pg_catalog.pg_constraint', oid FROM pg_catalog.pg_constraint WHERE contypid <> 0`);

/** Operator classes of users: oid, type, is the type's default, functions and operators of its family as JSON. */
export const operatorClassesQuery: string = `
SELECT c.oid, c.opcintype, c.opcdefault,
  (SELECT coalesce(pg_catalog.json_agg(DISTINCT f.amproc::oid::bigint), '[]') FROM pg_catalog.pg_amproc f WHERE f.amprocfamily = c.opcfamily),
  (SELECT coalesce(pg_catalog.json_agg(DISTINCT o.amopopr::bigint), '[]') FROM pg_catalog.pg_amop o WHERE o.amopfamily = c.opcfamily)
FROM pg_catalog.pg_opclass c WHERE c.oid >= ${FIRST_USER_OID}`;

/** oid, schema, name, operands, function and estimators as JSON. */
export const operatorsQuery: string = `
SELECT o.oid, n.nspname, o.oprname,
  pg_catalog.json_build_array(o.oprleft::bigint, o.oprright::bigint),
  pg_catalog.json_build_array(o.oprcode::oid::bigint, o.oprrest::oid::bigint, o.oprjoin::oid::bigint)
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid >= ${FIRST_USER_OID}`;

const rowOf = (type: string): string => `(SELECT max(r.typrelid::bigint) FROM pg_catalog.pg_type r
    WHERE r.typrelid <> 0 AND r.oid IN (${type}.oid, ${type}.typelem))`;

/** source (oid, schema, name, relation of its row), target (the same), context, function. */
export const castsQuery: string = `
SELECT s.oid, sn.nspname, s.typname, ${rowOf("s")}, t.oid, tn.nspname, t.typname, ${rowOf("t")}, c.castcontext, c.castfunc
FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type s ON s.oid = c.castsource JOIN pg_catalog.pg_namespace sn ON sn.oid = s.typnamespace
  JOIN pg_catalog.pg_type t ON t.oid = c.casttarget JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
WHERE c.castmethod = 'f' AND c.castfunc >= ${FIRST_USER_OID}`;

/** function, its source: of event triggers. */
export const eventFunctionsQuery: string = `
SELECT p.oid, n.nspname, p.proname, p.prosrc FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE e.evtenabled <> 'D' AND e.evtevent <> 'login'`;
