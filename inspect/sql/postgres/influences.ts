/**
 * Base columns that a statement uses outside its output: conditions, sorting, grouping. Must never call a use `equality` unless
 * the whole value of one unmodified column is compared with a constant or a parameter: anything looser can be asked bit by bit.
 */
import { columnsNamed, derived, type Lineage, type Origins, type Rows, type Scope, union, type Value } from "./lineage.ts";
import { findSource, resolveReference, unqualified } from "./references.ts";
import { fieldsOf, namesOf, type Part, partOf, partsOf, typed } from "./tree.ts";

/** A condition (WHERE, ON, HAVING, WHEN): equalities under AND keep their form, everything else is `other`. */
export function useCondition(condition: Part | undefined, scope: Scope, lineage: Lineage): void {
  if (condition === undefined) return;
  if (condition.kind === "BoolExpr" && condition.body["boolop"] === "AND_EXPR") {
    for (const part of partsOf(condition.body["args"])) useCondition(part, scope, lineage);
    return;
  }
  const column = comparedColumn(condition, scope, lineage);
  if (column !== undefined) lineage.influence(column.origins, column.exact ? "equality" : "other");
  else useExpression(condition, scope, lineage);
}

/** An expression whose value decides about rows or their order. */
export function useExpression(node: Part | undefined, scope: Scope, lineage: Lineage): void {
  lineage.influence(lineage.evaluate(node, scope).origins, "other");
}

/** ORDER BY and GROUP BY items: output numbers and output names count as the outputs they stand for. */
export function useSortKeys(keys: readonly Part[], scope: Scope, outputs: Rows, lineage: Lineage): void {
  for (const key of keys) {
    if (key.kind === "SortBy") useSortKeys(partsOf([key.body["node"]]), scope, outputs, lineage);
    else if (key.kind === "GroupingSet") useSortKeys(partsOf(key.body["content"]), scope, outputs, lineage);
    else lineage.influence(keyOrigins(key, scope, outputs, lineage), "other");
  }
}

function keyOrigins(key: Part, scope: Scope, outputs: Rows, lineage: Lineage): Origins {
  const number = fieldsOf(key, "A_Const")?.ival;
  if (number !== undefined) {
    const column = outputs.columns?.[(number.ival ?? 0) - 1];
    return column === undefined ? outputs.all : column.origins;
  }
  const names = key.kind === "ColumnRef" ? namesOf(key.body["fields"]) : [];
  const labelled = names.length === 1 ? columnsNamed(outputs.columns, names[0]!) : [];
  if (labelled.length === 0) return lineage.evaluate(key, scope).origins;
  // Both are tried by the server, in an order that differs between ORDER BY and GROUP BY: take both.
  lineage.seen(key);
  const input = hasColumn(names[0]!, scope) ? unqualified(names[0]!, scope).origins : derived(new Set()).origins;
  return union([...labelled.map((column) => column.origins), input]);
}

function hasColumn(name: string, scope: Scope): boolean {
  return (
    scope.sources.some((source) => source.columns === null || columnsNamed(source.columns, name).length > 0) ||
    findSource([name], scope) !== undefined
  );
}

/** The column of `col = constant`, `constant = col`, `col = $1`; undefined for any other condition. */
function comparedColumn(condition: Part, scope: Scope, lineage: Lineage): Value | undefined {
  if (condition.kind !== "A_Expr") return undefined;
  const expression = typed(condition, "A_Expr");
  const names = namesOf(expression.name);
  if (expression.kind !== "AEXPR_OP" || names.at(-1) !== "=") return undefined;
  const left = partOf(expression.lexpr);
  const right = partOf(expression.rexpr);
  if (isColumn(left) && isWholeValue(right)) return resolveReference(left, scope, lineage);
  if (isColumn(right) && isWholeValue(left)) return resolveReference(right, scope, lineage);
  return undefined;
}

function isColumn(part: Part | undefined): part is Part {
  return part?.kind === "ColumnRef" && partsOf(part.body["fields"]).every((field) => field.kind === "String");
}

/** A constant other than NULL, or a parameter, cast or not. */
function isWholeValue(part: Part | undefined): boolean {
  if (part?.kind === "TypeCast") return isWholeValue(partOf(part.body["arg"]));
  // `= NULL` is no comparison where transform_null_equals makes IS NULL of it.
  return (part?.kind === "A_Const" && part.body["isnull"] !== true) || part?.kind === "ParamRef";
}
