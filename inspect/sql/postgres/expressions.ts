/**
 * Where the value of an expression comes from. Only a plain column reference stays exact; every other node is the union of what
 * is below it, so a node kind unknown here loses nothing. `count` is neutral; functions that cannot be known give `*`.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import { isWholeRelationExport, keepsArguments, returnsRows } from "./function-lists.ts";
import { calledName, functionNature, type FunctionNature } from "./functions.ts";
import { followCall } from "./function-calls.ts";
import {
  CLEAN,
  columnsNamed,
  derived,
  type FollowedCall,
  type Lineage,
  type Origins,
  type Rows,
  type Scope,
  UNKNOWN,
  union,
  type Value,
} from "./lineage.ts";
import { findSource, resolveReference } from "./references.ts";
import { branchesOf, branchTells, isPlainCast, tellingOf } from "./telling.ts";
import { forEachChild, namesOf, type Part, partOf, partsOf } from "./tree.ts";

/** Evaluates an expression in a scope. An absent one is clean. */
export function evaluateExpression(node: Part | undefined, scope: Scope, lineage: Lineage): Value {
  if (node === undefined) return derived(CLEAN);
  const value = valueOf(node, scope, lineage);
  if (value.origins.size > 0 && !value.exact && tells(node, scope, lineage)) lineage.tell(value.origins);
  return value;
}

/**
 * A call as one value, and as rows with named columns where it was followed into all that it may mean. How many rows those are tells
 * what is in the influences already.
 */
export function evaluateCall(call: Part, scope: Scope, lineage: Lineage): CallResult {
  const result = callResult(call, scope, lineage);
  if (result.origins.size > 0 && tells(call, scope, lineage)) lineage.tell(result.origins);
  return result;
}

/** Whether more than its value is told of what the expression is computed from. */
function tells(node: Part, scope: Scope, lineage: Lineage): boolean {
  const branches = branchesOf(node);
  if (branches !== undefined) {
    const isStored = (reference: Part): boolean => resolveReference(reference, scope, lineage).exact;
    if (branches.some((branch) => branchTells(branch, isStored))) return true;
  }
  if (tellingOf(node) !== "telling") return false;
  switch (node.kind) {
    case "TypeCast": {
      // Whether a whole column converts is little to know; for pieces of it the answers would add up.
      const arg = partOf(node.body["arg"]);
      return !(isPlainCast(node) && arg?.kind === "ColumnRef" && resolveReference(arg, scope, lineage).exact);
    }
    case "FuncCall":
      return !["safe", "followed"].includes(natureOf(node, lineage).kind);
    default:
      return true;
  }
}

function valueOf(node: Part, scope: Scope, lineage: Lineage): Value {
  switch (node.kind) {
    case "ColumnRef":
      return resolveReference(node, scope, lineage);
    case "A_Const":
    case "ParamRef":
    case "SQLValueFunction":
    case "SetToDefault":
    case "TypeName":
    case "CurrentOfExpr":
      return derived(CLEAN);
    case "FuncCall":
      return derived(callResult(node, scope, lineage).origins);
    case "A_Indirection":
      return derived(partOfValue(node, scope, lineage));
    case "WindowDef":
      return derived(windowOrigins(node, scope, lineage));
    case "SelectStmt":
    case "InsertStmt":
    case "UpdateStmt":
    case "DeleteStmt":
    case "MergeStmt": {
      // What a subquery selects by shows in its value: `(SELECT 1 FROM t WHERE ssn LIKE '1%')` is a CASE in other words.
      const { result, influences } = lineage.collecting(() => lineage.query(node, scope));
      return derived(union([result.all, influences]));
    }
    default:
      return derived(below(node, scope, lineage));
  }
}

function below(node: Part, scope: Scope, lineage: Lineage): Origins {
  const parts: Origins[] = [];
  forEachChild(node, (child) => parts.push(lineage.evaluate(child, scope).origins));
  return union(parts);
}

/** `(f(x)).column`, `(row).column`, `(row).function`, `array[1]`, `json['key']`. */
function partOfValue(node: Part, scope: Scope, lineage: Lineage): Origins {
  const arg = partOf(node.body["arg"]);
  const steps = partsOf(node.body["indirection"]);
  const indices = union(steps.map((step) => (step.kind === "A_Indices" ? lineage.evaluate(step, scope).origins : CLEAN)));
  const names = namesOf(node.body["indirection"]);
  const called = arg?.kind === "FuncCall" ? evaluateCall(arg, scope, lineage) : undefined;
  const columns = called?.rows?.columns ?? null;
  const field = steps[0]?.kind === "String" ? columnsNamed(columns, names[0]!)[0] : undefined;
  if (called !== undefined && columns !== null && field !== undefined)
    return union([field.origins, called.influences, indices, functionsOnRow(names.slice(1), called.origins, lineage)]);
  const whole = called?.origins ?? lineage.evaluate(arg, scope).origins;
  return union([whole, indices, functionsOnRow(names, whole, lineage)]);
}

/** A name after a row may be a function of that row. */
export function functionsOnRow(names: readonly string[], row: Origins, lineage: Lineage): Origins {
  return union(
    names.map((name) => {
      if (lineage.index.functionsNamed(name).length === 0) return CLEAN;
      const nature = functionNature([name], lineage, 1);
      if (nature.kind === "followed") return valueOfCall(followCall(nature.candidates, [ROW_ARGUMENT], [row], lineage));
      return nature.kind === "opaque" ? UNKNOWN : CLEAN;
    }),
  );
}

/** Stands for the row that such a function is called on. */
const ROW_ARGUMENT: Part = { kind: "ColumnRef", body: {} };

/** The first row of a call's result. */
function valueOfCall(call: FollowedCall): Origins {
  return union([call.rows.all, call.influences]);
}

function natureOf(call: Part, lineage: Lineage): FunctionNature {
  return functionNature(calledName(call), lineage, partsOf(call.body["args"]).length);
}

export interface CallResult {
  readonly origins: Origins;
  /** Where the call was followed: its columns, and what decides about its rows. */
  readonly rows?: Rows;
  readonly influences: Origins;
}

function callResult(call: Part, scope: Scope, lineage: Lineage): CallResult {
  const { body } = call;
  const args = partsOf(body["args"]).map((arg) => lineage.evaluate(arg, scope).origins);
  const order = partsOf(body["agg_order"]).map((sort) => lineage.evaluate(sort, scope).origins);
  const filter = lineage.evaluate(partOf(body["agg_filter"]), scope).origins;
  const window =
    typeof body["over"] === "object" && body["over"] !== null
      ? windowOrigins({ kind: "WindowDef", body: body["over"] as Part["body"] }, scope, lineage) // WindowDef comes unwrapped
      : CLEAN;
  for (const used of [...order, filter, window]) lineage.influence(used, "other");
  const all = union([...args, ...order, filter, window]);
  if (body["agg_distinct"] === true) lineage.influence(union(args), "other");
  const names = calledName(call);
  const name = names.at(-1) ?? "";
  if (keepsArguments(name)) lineage.flow(union(args));
  const nature = natureOf(call, lineage);
  switch (nature.kind) {
    case "builtin":
      if (returnsRows(name)) lineage.influence(all, "other");
      return opaqueRows(name === "count" && window.size === 0 && countsPlainly(call, scope, lineage) ? CLEAN : all);
    case "safe":
      return opaqueRows(all);
    case "escape":
      return opaqueRows(isWholeRelationExport(name) || all.size === 0 ? UNKNOWN : union([all, UNKNOWN]));
    case "followed": {
      const followed = followCall(nature.candidates, partsOf(body["args"]), args, lineage);
      const value = valueOfCall(followed);
      if (nature.plain) return opaqueRows(union([value, all]));
      return { origins: value, rows: followed.rows, influences: followed.influences };
    }
    case "opaque":
      // `column(row)` reads a column of the row; a function nobody knows may return anything.
      return opaqueRows(isRowColumn(names, args, lineage) ? all : union([all, UNKNOWN]));
    default:
      return assertNever(nature);
  }
}

function opaqueRows(origins: Origins): CallResult {
  return { origins, influences: CLEAN };
}

/** `count(*)` and `count(column)` of an unmodified column: anything else can be made to count a condition on a value. */
function countsPlainly(call: Part, scope: Scope, lineage: Lineage): boolean {
  return partsOf(call.body["args"]).every((arg) => {
    const { origins, exact } = lineage.evaluate(arg, scope);
    return exact || origins.size === 0 || isRow(arg, scope);
  });
}

/** `t` or `t.*`: a row that is there is never NULL, whatever it holds. */
function isRow(part: Part, scope: Scope): boolean {
  if (part.kind !== "ColumnRef") return false;
  if (partsOf(part.body["fields"]).at(-1)?.kind === "A_Star") return true;
  const names = namesOf(part.body["fields"]);
  if (names.length !== 1 || findSource(names, scope) === undefined) return false;
  for (let level: Scope | undefined = scope; level !== undefined; level = level.outer) {
    for (const { columns, named } of level.sources) {
      const known = columns ?? named;
      if (known === undefined || columnsNamed(known, names[0]!).length > 0) return false;
    }
  }
  return true;
}

function isRowColumn(names: readonly string[], args: readonly Origins[], lineage: Lineage): boolean {
  const name = names[0] ?? "";
  if (names.length !== 1 || args.length !== 1 || lineage.index.functionsNamed(name).length > 0) return false;
  return [...args[0]!].some((origin) => origin.endsWith(`.${name}`));
}

function windowOrigins(window: Part, scope: Scope, lineage: Lineage): Origins {
  return union(
    [...partsOf(window.body["partitionClause"]), ...partsOf(window.body["orderClause"])]
      .concat([window.body["startOffset"], window.body["endOffset"]].flatMap((offset) => partOf(offset) ?? []))
      .map((part) => lineage.evaluate(part, scope).origins),
  );
}
