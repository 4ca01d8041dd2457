/**
 * INSERT, UPDATE, DELETE and MERGE: what RETURNING gives back, what their conditions use, and which values they carry into the
 * target. Must never overlook an assigned expression. Follows PostgreSQL's analyze.c and parse_merge.c.
 */
import { useCondition, useExpression } from "./influences.ts";
import {
  CLEAN,
  type Column,
  derived,
  type FromItem,
  type Lineage,
  type Origins,
  type Rows,
  rowsOf,
  type Scope,
  type Source,
  union,
  type Value,
} from "./lineage.ts";
import { calledName } from "./functions.ts";
import { targetRows, withClause } from "./queries.ts";
import { fromClause, relationSource, scopeOf } from "./sources.ts";
import { type Fields, namesOf, type Part, partOf, partsOf, stringField } from "./tree.ts";

/** Rows that a data-modifying statement returns; no columns without RETURNING. */
export function changeRows(node: Part, outer: Scope, lineage: Lineage): Rows {
  const scope = withClause(node.body["withClause"], outer, lineage);
  const relation = fieldsIn(node.body, "relation");
  const target = relationSource(relation, lineage);
  const targetItem: FromItem = { sources: [target], star: target };
  switch (node.kind) {
    case "InsertStmt": {
      const inserted = insert(node, scope, target, lineage);
      return returning(node, [targetItem], scope, target, inserted, lineage);
    }
    case "UpdateStmt": {
      const items = [targetItem, ...fromClause(partsOf(node.body["fromClause"]), scope, lineage)];
      const inner = scopeOf(items, scope);
      const assigned = assign(partsOf(node.body["targetList"]), target, inner, lineage);
      useCondition(partOf(node.body["whereClause"]), inner, lineage);
      return returning(node, items, scope, target, assigned, lineage);
    }
    case "DeleteStmt": {
      const items = [targetItem, ...fromClause(partsOf(node.body["usingClause"]), scope, lineage)];
      useCondition(partOf(node.body["whereClause"]), scopeOf(items, scope), lineage);
      return returning(node, items, scope, target, CLEAN, lineage);
    }
    default:
      return merge(node, targetItem, target, scope, lineage);
  }
}

/** Returns the origins of everything inserted. */
function insert(node: Part, scope: Scope, target: Source, lineage: Lineage): Origins {
  const query = partOf(node.body["selectStmt"]);
  const rows = query === undefined ? rowsOf([]) : lineage.query(query, scope);
  const inserted = rows.all;
  const values = storedByName(rows, partsOf(node.body["cols"]), target);
  store(target, values, inserted, lineage);
  const conflict = fieldsIn(node.body, "onConflictClause");
  const excluded = excludedSource(target, inserted, target.storedIn?.alone === true ? values : undefined);
  const inner: Scope = { sources: [target, excluded], ctes: scope.ctes, outer: scope };
  const infer = fieldsIn(conflict, "infer");
  for (const element of partsOf(infer["indexElems"])) {
    const name = stringField(element.body, "name");
    const column = target.columns?.find((known) => known.name === name);
    if (column !== undefined) lineage.influence(column.origins, "equality");
    useExpression(partOf(element.body["expr"]), inner, lineage);
  }
  useCondition(partOf(infer["whereClause"]), inner, lineage);
  const assigned = assign(partsOf(conflict["targetList"]), target, inner, lineage);
  useCondition(partOf(conflict["whereClause"]), inner, lineage);
  return union([inserted, assigned]);
}

/** Values by the column that each is stored in; undefined where that cannot be told. `targets` is empty for all columns in order. */
function storedByName(rows: Rows, targets: readonly Part[], target: Source): ReadonlyMap<string, Value> | undefined {
  if (rows.columns === null || (targets.length === 0 && target.columns === null)) return undefined;
  const names =
    targets.length > 0 ? targets.map(({ body }) => stringField(body, "name")) : target.columns!.map(({ name }) => name);
  if (rows.columns.length > names.length) return undefined;
  const values = new Map<string, Value>();
  rows.columns.forEach((value, at) => {
    const name = names[at]!;
    const before = values.get(name); // `(a[1], a[2])` names a column twice
    const part = partsOf(targets[at]?.body["indirection"]).length > 0;
    values.set(name, before === undefined && !part ? value : derived(union([value.origins, before?.origins ?? CLEAN])));
  });
  return values;
}

/** What is written into a temporary relation stays under its labels there; elsewhere it gets out from under them. */
function store(target: Source, values: ReadonlyMap<string, Value> | undefined, all: Origins, lineage: Lineage): void {
  const { storedIn } = target;
  if (storedIn?.alone !== true) lineage.flow(all);
  if (storedIn === undefined) return;
  if (values === undefined) lineage.keep(storedIn, null, derived(all));
  else for (const [column, value] of values) lineage.keep(storedIn, column, value);
}

/** `excluded`: the row that was to be inserted, under the target's column names. */
function excludedSource(target: Source, inserted: Origins, values: ReadonlyMap<string, Value> | undefined): Source {
  const { named: _named, ...rest } = target;
  const value = ({ name, origins }: Column): Value =>
    values === undefined ? derived(inserted) : (values.get(name) ?? derived(origins));
  const columns = target.columns?.map((column) => ({ ...value(column), name: column.name })) ?? null;
  return { ...rest, columns, all: inserted, name: "excluded", schemas: [], qualifiedOnly: true };
}

/**
 * SET: what an expression reads flows into its column, unless it is that column's own value and stays in its place: a mask that
 * leaves the end visible would show whatever is moved there. Returns what flowed.
 */
function assign(targets: readonly Part[], target: Source, scope: Scope, lineage: Lineage): Origins {
  const flows: Origins[] = [];
  for (const entry of targets) {
    const value = partOf(entry.body["val"]);
    const stored = lineage.evaluate(value, scope);
    const { origins } = stored;
    const name = stringField(entry.body, "name");
    if (target.storedIn !== undefined) {
      const part = partsOf(entry.body["indirection"]).length > 0;
      lineage.keep(target.storedIn, name, part ? derived(origins) : stored);
    }
    const own = staysInPlace(value) ? (target.columns?.find((column) => column.name === name)?.origins ?? CLEAN) : CLEAN;
    const foreign = new Set([...origins].filter((origin) => origin === "*" || !own.has(origin)));
    if (target.storedIn?.alone !== true) lineage.flow(foreign);
    flows.push(foreign);
    for (const index of partsOf(entry.body["indirection"])) useExpression(index, scope, lineage);
  }
  return union(flows);
}

/** A column as it is, in other letters, without spaces around it, or reckoned with: numbers are masked whole or not at all. */
function staysInPlace(value: Part | undefined): boolean {
  switch (value?.kind) {
    case "ColumnRef":
    case "A_Const":
    case "ParamRef":
      return true;
    case "FuncCall": {
      const args = partsOf(value.body["args"]);
      return inPlace.has(calledName(value).at(-1) ?? "") && args.length === 1 && args.every(staysInPlace);
    }
    case "CoalesceExpr":
      return partsOf(value.body["args"]).every(staysInPlace);
    case "A_Expr": {
      const sides = [partOf(value.body["lexpr"]), partOf(value.body["rexpr"])];
      const operator = namesOf(value.body["name"]).at(-1) ?? "";
      return value.body["kind"] === "AEXPR_OP" && arithmetic.has(operator) && sides.every((side) => !side || staysInPlace(side));
    }
    default:
      return false;
  }
}

const inPlace: ReadonlySet<string> = new Set(["upper", "lower", "btrim", "ltrim", "rtrim"]);
const arithmetic: ReadonlySet<string> = new Set(["+", "-", "*", "/"]);

function merge(node: Part, targetItem: FromItem, target: Source, scope: Scope, lineage: Lineage): Rows {
  const source = partOf(node.body["sourceRelation"]);
  const items = [targetItem, ...(source === undefined ? [] : fromClause([source], scope, lineage))];
  const inner = scopeOf(items, scope);
  useCondition(partOf(node.body["joinCondition"]), inner, lineage);
  const written: Origins[] = [];
  for (const when of partsOf(node.body["mergeWhenClauses"])) {
    useCondition(partOf(when.body["condition"]), inner, lineage);
    written.push(assign(partsOf(when.body["targetList"]), target, inner, lineage));
    const columns = partsOf(when.body["values"]).map((value): Column => ({ ...lineage.evaluate(value, inner), name: "" }));
    const rows = rowsOf(columns);
    const isInsert = stringField(when.body, "commandType") === "CMD_INSERT";
    store(target, isInsert ? storedByName(rows, partsOf(when.body["targetList"]), target) : undefined, rows.all, lineage);
    written.push(rows.all);
  }
  // RETURNING * gives the source's columns before the target's.
  return returning(node, [...items.slice(1), targetItem], scope, target, union(written), lineage);
}

function returning(
  node: Part,
  items: readonly FromItem[],
  scope: Scope,
  target: Source,
  written: Origins,
  lineage: Lineage,
): Rows {
  const clause = fieldsIn(node.body, "returningClause");
  const targets = partsOf(clause["exprs"]);
  if (targets.length === 0) return rowsOf([]);
  const renames = partsOf(clause["options"]).map((option) => stringField(option.body, "value"));
  const sides = [...renames, "old", "new"].map((name): Source => ({ ...target, name, schemas: [], qualifiedOnly: true }));
  const names = new Set(items.flatMap((item) => item.sources.map((source) => source.name)));
  const inner: Scope = {
    sources: [...items.flatMap((item) => item.sources), ...sides.filter((side) => !names.has(side.name))],
    ctes: scope.ctes,
    outer: scope,
  };
  const rows = targetRows(targets, items, inner, lineage);
  if (written.size === 0) return rows;
  // What has just been inserted comes back under the target's columns.
  const add = (origins: Origins): Origins => (origins.size === 0 ? origins : union([origins, written]));
  const columns =
    rows.columns?.map((column): Column => {
      const own = column.temporary === undefined ? {} : { temporary: column.temporary };
      return { name: column.name, origins: add(column.origins), exact: false, ...own };
    }) ?? null;
  return { columns, all: union([rows.all, written]) };
}

function fieldsIn(body: Fields, name: string): Fields {
  const value = body[name];
  return typeof value === "object" && value !== null ? (value as Fields) : {}; // unwrapped in the tree
}
