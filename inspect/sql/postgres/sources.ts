/**
 * FROM clauses: what each item brings into scope and what `*` expands to. Must never make a name visible where the server does
 * not see it (a sibling of a subquery without LATERAL), or a column would be resolved to the wrong table.
 * Follows transformFromClauseItem of PostgreSQL's parse_clause.c.
 */
import { builtinColumns, singleColumnFunctions } from "./function-lists.ts";
import { type CallResult, evaluateCall } from "./expressions.ts";
import { calledName, functionNature } from "./functions.ts";
import { useCondition } from "./influences.ts";
import {
  CLEAN,
  type Column,
  columnsNamed,
  derived,
  type FromItem,
  type Lineage,
  type Origins,
  type RelationRows,
  renamed,
  type Rows,
  rowsOf,
  type Scope,
  type Source,
  UNKNOWN,
  union,
  unknownRows,
} from "./lineage.ts";
import { bare, type Fields, fieldsOf, namesOf, type Part, partOf, partsOf, stringField } from "./tree.ts";

/** All items of a FROM list, left to right. `scope` holds the WITH queries and everything outside the query. */
export function fromClause(items: readonly Part[], scope: Scope, lineage: Lineage): readonly FromItem[] {
  const found: FromItem[] = [];
  for (const item of items) {
    const siblings = found.flatMap((known) => known.sources);
    found.push(fromItem(item, scope, siblings, lineage));
  }
  return found;
}

/** A scope level with these items' names inside `scope`. */
export function scopeOf(items: readonly FromItem[], scope: Scope): Scope {
  return { sources: items.flatMap((item) => item.sources), ctes: scope.ctes, outer: scope };
}

/** The source of a relation that is written to, read by RETURNING, or named by a rule. */
export function relationSource(relation: Fields, lineage: Lineage, name?: string): Source {
  const alias = aliasOf(relation);
  const written = stringField(relation, "relname");
  const rows = lineage.relation(schemaOf(relation), written);
  const visible = name ?? (alias.name === "" ? written : alias.name);
  return sourceOf(renamed(rows, alias.columns), visible, {
    schemas: alias.name === "" ? rows.schemas : [],
    relation: true,
    qualifiedOnly: name !== undefined,
  });
}

export function schemaOf(relation: Fields): string | undefined {
  const schema = stringField(relation, "schemaname");
  return schema === "" ? undefined : schema;
}

function fromItem(item: Part, scope: Scope, siblings: readonly Source[], lineage: Lineage): FromItem {
  const lateral: Scope = { sources: siblings, ctes: scope.ctes, outer: scope };
  switch (item.kind) {
    case "RangeVar":
      return rangeVar(item, scope, lineage);
    case "RangeSubselect": {
      const inner = item.body["lateral"] === true ? lateral : scope;
      const query = partOf(item.body["subquery"]);
      return aliased(query === undefined ? unknownRows(UNKNOWN) : lineage.query(query, inner), item);
    }
    case "RangeFunction":
      return aliased(functionRows(item, lateral, lineage), item);
    case "JoinExpr":
      return joined(item, scope, siblings, lineage);
    case "RangeTableSample": {
      const relation = partOf(item.body["relation"]);
      for (const arg of partsOf(item.body["args"])) lineage.influence(lineage.evaluate(arg, lateral).origins, "other");
      return relation === undefined ? aliased(unknownRows(UNKNOWN), item) : fromItem(relation, scope, siblings, lineage);
    }
    default: {
      // XMLTABLE, JSON_TABLE: every column may hold anything of what the expressions read.
      const { origins } = lineage.evaluate(item, lateral);
      lineage.influence(origins, "other");
      const names = item.kind === "JsonTable" || item.kind === "RangeTableFunc" ? definedNames(item) : null;
      if (names === null) return aliased(unknownRows(origins), item);
      return aliased(
        rowsOf(
          names.map((name) => ({ name, origins, exact: false })),
          origins,
        ),
        item,
      );
    }
  }
}

/** Names in the COLUMNS clause of JSON_TABLE and XMLTABLE, those of nested clauses behind; null where one has none. */
function definedNames(item: Part): readonly string[] | null {
  const columns = partsOf(item.body["columns"]);
  const isNested = (column: Part): boolean => column.body["coltype"] === "JTC_NESTED";
  const own = columns
    .filter((column) => !isNested(column))
    .map((column) => stringField(column.body, column.kind === "JsonTableColumn" ? "name" : "colname"));
  const nested = columns.filter(isNested).map(definedNames);
  return own.includes("") || nested.includes(null) ? null : [...own, ...nested.flatMap((names) => names ?? [])];
}

function rangeVar(item: Part, scope: Scope, lineage: Lineage): FromItem {
  const name = stringField(item.body, "relname");
  const schema = schemaOf(item.body);
  if (schema === undefined) {
    for (let level: Scope | undefined = scope; level !== undefined; level = level.outer) {
      const cte = level.ctes.get(name);
      if (cte !== undefined) return aliased(cte.rows(), item, name);
    }
  }
  const source = relationSource(item.body, lineage);
  return { sources: [source], star: source };
}

function functionRows(item: Part, scope: Scope, lineage: Lineage): Rows {
  const calls = partsOf(item.body["functions"]).flatMap((entry) => partsOf(entry.body["items"]).slice(0, 1));
  const definitions = [
    ...partsOf(item.body["coldeflist"]),
    ...partsOf(item.body["functions"]).flatMap((entry) =>
      partsOf(entry.body["items"])
        .slice(1)
        .flatMap((part) => (part.kind === "List" ? partsOf(part.body["items"]) : [part])),
    ),
  ].filter((part) => part.kind === "ColumnDef");
  const results = calls.map((call): CallResult => {
    if (call.kind === "FuncCall") return evaluateCall(call, scope, lineage);
    return { origins: lineage.evaluate(call, scope).origins, influences: CLEAN };
  });
  const origins = union(results.map((result) => result.rows?.all ?? result.origins));
  // How many rows it returns tells about its arguments. A body that was followed has said so itself.
  for (const result of results) if (result.rows === undefined) lineage.influence(result.origins, "other");
  const ordinality = item.body["ordinality"] === true ? [cleanColumn("ordinality")] : [];
  if (definitions.length > 0 && calls.length === 1) {
    const known = results[0]?.rows?.columns;
    const columns = definitions.map((part, at) => {
      const own = known?.length === definitions.length ? known[at]!.origins : origins;
      return { name: stringField(part.body, "colname"), origins: own, exact: false };
    });
    return rowsOf([...columns, ...ordinality], origins);
  }
  const alias = calls.length === 1 ? aliasOf(item.body).name : "";
  const columns = calls.map((call, at) => columnsOfCall(call, results[at]!, alias, lineage));
  if (columns.some((known) => known === null)) return unknownRows(origins);
  return rowsOf([...columns.flatMap((known) => known ?? []), ...ordinality], origins);
}

/** Null where they are not known. The one column of a scalar takes the alias of its item, unless an OUT parameter names it. */
function columnsOfCall(call: Part, result: CallResult, alias: string, lineage: Lineage): readonly Column[] | null {
  const called = calledName(call).at(-1) ?? "";
  if (result.rows !== undefined) {
    const { columns } = result.rows;
    const scalar = columns?.length === 1 && columns[0]?.name === called && alias !== "";
    return scalar ? [{ ...columns[0]!, name: alias }] : columns;
  }
  const named = builtinColumns.get(called);
  if (named !== undefined && functionNature(calledName(call), lineage, partsOf(call.body["args"]).length).kind === "builtin")
    return named.map((name) => ({ name, origins: result.origins, exact: false }));
  if (!returnsOneColumn(call, lineage)) return null;
  return [{ name: alias === "" ? called : alias, origins: result.origins, exact: false }];
}

function returnsOneColumn(call: Part, lineage: Lineage): boolean {
  if (call.kind !== "FuncCall") return call.kind === "SQLValueFunction";
  const names = calledName(call);
  const name = names.at(-1) ?? "";
  const args = partsOf(call.body["args"]);
  if (functionNature(names, lineage, args.length).kind !== "builtin") return false;
  if (name === "unnest" && args.length === 1) return isPlainArray(args[0]!);
  return singleColumnFunctions.has(name);
}

/** An array whose elements cannot be rows: `$1::text[]`, `ARRAY[1, 2]`. */
function isPlainArray(arg: Part): boolean {
  if (arg.kind === "A_ArrayExpr")
    return partsOf(arg.body["elements"]).every((part) => part.kind === "A_Const" || part.kind === "ParamRef");
  const type = fieldsOf(arg, "TypeCast")?.typeName;
  return type?.arrayBounds !== undefined && plainTypes.has(namesOf(type.names).at(-1) ?? "");
}

const plainTypes: ReadonlySet<string> = new Set([
  "text",
  "varchar",
  "int2",
  "int4",
  "int8",
  "float4",
  "float8",
  "numeric",
  "uuid",
  "date",
  "bool",
  "timestamptz",
  "timestamp",
  "oid",
  "name",
]);

function cleanColumn(name: string): Column {
  return { name, origins: CLEAN, exact: false };
}

function joined(item: Part, scope: Scope, siblings: readonly Source[], lineage: Lineage): FromItem {
  const left = partOf(item.body["larg"]);
  const right = partOf(item.body["rarg"]);
  const nothing: FromItem = { sources: [], star: rowsOf([]) };
  const first = left === undefined ? nothing : fromItem(left, scope, siblings, lineage);
  const second = right === undefined ? nothing : fromItem(right, scope, [...siblings, ...first.sources], lineage);
  const sides = [...first.sources, ...second.sources];
  useCondition(partOf(item.body["quals"]), { sources: sides, ctes: scope.ctes, outer: scope }, lineage);
  const shared = item.body["isNatural"] === true ? commonNames(first.star, second.star) : namesOf(item.body["usingClause"]);
  const mergedColumns = (shared ?? []).map((name) => mergedColumn(name, first.star, second.star));
  if (shared === null) lineage.influence(union([first.star.all, second.star.all]), "other");
  for (const column of mergedColumns) lineage.influence(column.origins, "other");
  const star = joinStar(first.star, second.star, shared, mergedColumns);
  const alias = aliasOf(item.body);
  if (alias.name !== "") return aliased(star, item);
  const using = item.body["join_using_alias"];
  const usingAlias = typeof using === "object" && using !== null && "aliasname" in using ? String(using.aliasname) : "";
  const extra = usingAlias === "" ? [] : [sourceOf(rowsOf(mergedColumns), usingAlias, { qualifiedOnly: true })];
  return { sources: [...sides, ...extra], star };
}

/** Columns both sides have; null when one side's columns are not known. */
function commonNames(left: Rows, right: Rows): readonly string[] | null {
  if (left.columns === null || right.columns === null) return null;
  const names = new Set(right.columns.map((column) => column.name));
  return left.columns.map((column) => column.name).filter((name) => names.has(name));
}

function mergedColumn(name: string, left: Rows, right: Rows): Column {
  const sides = [left, right].map((side) => {
    const found = columnsNamed(side.columns, name)[0];
    return found ?? { ...derived(side.columns === null ? side.all : UNKNOWN), name };
  });
  const origins = union(sides.map((side) => side.origins));
  const exact = sides.every((side) => side.exact) && origins.size === 1;
  return { name, origins, exact, ...(sides.some((side) => side.temporary === true) ? { temporary: true } : {}) };
}

function joinStar(left: Rows, right: Rows, shared: readonly string[] | null, mergedColumns: readonly Column[]): Rows {
  const all = union([left.all, right.all]);
  if (left.columns === null || right.columns === null || shared === null) return unknownRows(all);
  const merged = new Set(shared);
  const rest = [...left.columns, ...right.columns].filter((column) => !merged.has(column.name));
  return rowsOf([...mergedColumns, ...rest], all);
}

function aliased(rows: Rows, item: Part, fallback?: string): FromItem {
  const alias = aliasOf(item.body);
  const name = alias.name === "" ? (fallback ?? calledName(onlyCall(item)).at(-1) ?? null) : alias.name;
  const source = sourceOf(renamed(rows, alias.columns), name, {});
  return { sources: [source], star: source };
}

function onlyCall(item: Part): Part | undefined {
  return item.kind === "RangeFunction" ? partsOf(partsOf(item.body["functions"])[0]?.body["items"])[0] : undefined;
}

function sourceOf(
  rows: Rows,
  name: string | null,
  flags: Partial<Pick<Source, "schemas" | "qualifiedOnly" | "relation">>,
): Source {
  return { ...rows, name, schemas: [], qualifiedOnly: false, relation: false, ...flags };
}

function aliasOf(body: Fields): { readonly name: string; readonly columns: readonly string[] } {
  const alias = body["alias"];
  if (typeof alias !== "object" || alias === null) return { name: "", columns: [] };
  const part = bare("Alias", alias);
  return { name: stringField(part.body, "aliasname"), columns: namesOf(part.body["colnames"]) };
}

/** What the relations of one name return together: the union when the name may mean several. */
export function namedRows(all: readonly RelationRows[]): RelationRows {
  const first = all[0];
  if (first === undefined) return { ...unknownRows(UNKNOWN), schemas: [] };
  if (all.length === 1) return first;
  const schemas = all.flatMap((rows) => rows.schemas);
  const origins: Origins = union(all.map((rows) => rows.all));
  const names = first.columns?.map((column) => column.name);
  const alike = all.every(
    (rows) =>
      rows.columns !== null &&
      rows.columns.length === names?.length &&
      rows.columns.every((column, at) => column.name === names[at]),
  );
  if (!alike || first.columns === null) return { ...unknownRows(origins), schemas, ...columnsOfAny(all) };
  const columns = first.columns.map((column, at) => ({
    name: column.name,
    origins: union(all.map((rows) => rows.columns?.[at]?.origins ?? UNKNOWN)),
    exact: false,
  }));
  return { columns, all: origins, schemas };
}

/** Each name stands for the columns of that name in any of the relations. Not given where one of them is unknown. */
function columnsOfAny(all: readonly RelationRows[]): { readonly named?: readonly Column[] } {
  if (all.some((rows) => rows.columns === null)) return {};
  const groups = new Map<string, Column[]>();
  for (const rows of all) {
    for (const column of rows.columns ?? []) groups.set(column.name, [...(groups.get(column.name) ?? []), column]);
  }
  return {
    named: [...groups].map(([name, columns]) => ({
      name,
      origins: union(columns.map((column) => column.origins)),
      exact: columns.length === 1 && columns[0]!.exact,
    })),
  };
}
