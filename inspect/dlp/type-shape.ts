/**
 * How PostgreSQL's types hold text, by OID. The list that matters is the one of types that cannot hold any: everything that is
 * not on it is searched, so that a type of a newer server or of an extension is never passed by.
 * Source of the numbers: src/include/catalog/pg_type.dat of PostgreSQL 15 to 18 (they never change).
 */

/**
 * - `none`: cannot hold text (numbers, times, bytes …)
 * - `text`, `json`, `jsonb`, `xml`: what they say
 * - `array`, `record`: built-in containers of something that can hold text
 * - `syntax`: built-in, text with a syntax of its own around values (tsvector, jsonpath …)
 * - `user`: made by an extension or a user; whether citext, enum, composite or array is not known here
 */
export type TypeShape = "none" | "text" | "json" | "jsonb" | "xml" | "array" | "record" | "syntax" | "user";

export const JSON_OID = 114;
export const JSONB_OID = 3802;
/** The one-byte type "char" (with quotes), whose binary form holds one byte and no more. */
export const SINGLE_CHAR_OID = 18;

/** Below it OIDs are assigned by PostgreSQL itself (FirstNormalObjectId in access/transam.h). */
const USER_OID_MIN = 16_384;

const shapes: ReadonlyMap<number, TypeShape> = new Map([
  // char name text unknown bpchar varchar refcursor cstring
  ...entries("text", [SINGLE_CHAR_OID, 19, 25, 705, 1042, 1043, 1790, 2275]),
  ...entries("json", [JSON_OID]),
  ...entries("jsonb", [JSONB_OID]),
  ...entries("xml", [142]),
  ...entries("record", [2249]),
  // arrays of char name text bpchar varchar refcursor cstring json jsonb xml record
  ...entries("array", [1002, 1003, 1009, 1014, 1015, 2201, 1263, 199, 3807, 143, 2287]),
  // bool bytea int8 int2 int2vector int4 oid tid xid cid oidvector xid8
  ...entries("none", [16, 17, 20, 21, 22, 23, 26, 27, 28, 29, 30, 5069]),
  // point lseg path box polygon line circle
  ...entries("none", [600, 601, 602, 603, 604, 628, 718]),
  // float4 float8 money numeric
  ...entries("none", [700, 701, 790, 1700]),
  // cidr macaddr8 macaddr inet bit varbit uuid pg_lsn snapshots void
  ...entries("none", [650, 774, 829, 869, 1560, 1562, 2950, 3220, 2970, 5038, 2278]),
  // date time timestamp timestamptz interval timetz
  ...entries("none", [1082, 1083, 1114, 1184, 1186, 1266]),
  // ranges and multiranges of int4 num ts tstz date int8
  ...entries("none", [3904, 3906, 3908, 3910, 3912, 3926, 4451, 4532, 4533, 4534, 4535, 4536]),
  // arrays of bool bytea int8 int2 int2vector int4 oid tid xid cid oidvector xid8
  ...entries("none", [1000, 1001, 1016, 1005, 1006, 1007, 1028, 1010, 1011, 1012, 1013, 271]),
  // arrays of point lseg path box polygon line circle
  ...entries("none", [1017, 1018, 1019, 1020, 1027, 629, 719]),
  // arrays of float4 float8 money numeric
  ...entries("none", [1021, 1022, 791, 1231]),
  // arrays of cidr macaddr8 macaddr inet bit varbit uuid pg_lsn snapshots
  ...entries("none", [651, 775, 1040, 1041, 1561, 1563, 2951, 3221, 2949, 5039]),
  // arrays of date time timestamp timestamptz interval timetz
  ...entries("none", [1182, 1183, 1115, 1185, 1187, 1270]),
  // arrays of ranges and of multiranges
  ...entries("none", [3905, 3907, 3909, 3911, 3913, 3927, 6150, 6151, 6152, 6153, 6155, 6157]),
]);

/** Arrays whose elements are JSON: their text form holds JSON inside a quoted element. */
const jsonArrays: ReadonlySet<number> = new Set([199, 3807]);
const xmlArrays: ReadonlySet<number> = new Set([143]);

export function typeShape(typeOid: number): TypeShape {
  return shapes.get(typeOid) ?? (typeOid >= USER_OID_MIN ? "user" : "syntax");
}

/** tsvector, tsquery and arrays of them: each value stands in quotes, so that what stands there may change. */
const lexemes: ReadonlySet<number> = new Set([3614, 3615, 3643, 3645]);

/** True for types of shape `syntax` that stay valid whatever replaces a stretch of a value in them. */
export function isLexemes(typeOid: number): boolean {
  return lexemes.has(typeOid);
}

/** What the elements of a built-in array hold. */
export function elementShape(arrayOid: number): TypeShape {
  if (jsonArrays.has(arrayOid)) return "json";
  return xmlArrays.has(arrayOid) ? "xml" : "text";
}

function entries(shape: TypeShape, oids: readonly number[]): readonly (readonly [number, TypeShape])[] {
  return oids.map((oid) => [oid, shape] as const);
}
