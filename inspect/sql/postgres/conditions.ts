/**
 * Whether a WHERE can leave rows out at all. Must never take a condition for a filter that is true for every row whatever the
 * row holds: constants, comparisons of constants, a column with itself, what does not look at the row.
 */
import { fieldsOf, namesOf, type Part, partOf, partsOf, stringField, walk } from "./tree.ts";

/** True when the condition restricts rows (a constant false does). An absent condition does not. */
export function restrictsRows(condition: Part | undefined): boolean {
  return condition !== undefined && truthOf(condition) !== "always";
}

/** `always`: true whatever the row. `never`: false or null whatever the row. `rows`: depends on it. */
type Truth = "always" | "never" | "rows";

function truthOf(node: Part): Truth {
  switch (node.kind) {
    case "BoolExpr":
      return booleanTruth(node);
    case "A_Const":
    case "TypeCast": {
      const value = constantOf(node);
      if (value !== undefined) return isTrue(value) ? "always" : "never";
      return otherTruth(node);
    }
    case "NullTest": {
      const value = constantOf(partOf(node.body["arg"]));
      if (value === undefined) return otherTruth(node);
      return (value === null) === (node.body["nulltesttype"] === "IS_NULL") ? "always" : "never";
    }
    case "BooleanTest":
      return booleanTestTruth(node);
    case "A_Expr":
      return expressionTruth(node);
    case "CoalesceExpr": {
      const first = partsOf(node.body["args"])[0];
      return first === undefined ? "rows" : truthOf(first);
    }
    default:
      return otherTruth(node);
  }
}

function booleanTruth(node: Part): Truth {
  const args = partsOf(node.body["args"]);
  const truths = args.map(truthOf);
  switch (stringField(node.body, "boolop")) {
    case "AND_EXPR":
      if (truths.includes("never")) return "never";
      return truths.every((truth) => truth === "always") ? "always" : "rows";
    case "OR_EXPR":
      // `$1 IS NULL OR id = $1` is a filter that the caller may leave open; `now() > '2000-01-01' OR …` is none.
      if (args.some((arg, at) => truths[at] === "always" && !hasParameter(arg))) return "always";
      if (truths.every((truth) => truth === "always")) return "always";
      return truths.every((truth) => truth === "never") ? "never" : "rows";
    default: {
      const inner = args[0];
      if (inner === undefined) return "rows";
      const value = constantOf(inner);
      if (value !== undefined) return isFalse(value) ? "always" : "never";
      const truth = truths[0]!;
      if (!looksAtRows(inner)) return "always"; // NOT of what does not depend on the row: all rows or none
      return truth === "rows" ? "rows" : truth === "never" ? "always" : "never";
    }
  }
}

function booleanTestTruth(node: Part): Truth {
  const arg = partOf(node.body["arg"]);
  const value = constantOf(arg);
  if (value === undefined) {
    const inner = arg === undefined ? "rows" : truthOf(arg);
    return node.body["booltesttype"] === "IS_TRUE" ? inner : otherTruth(node);
  }
  const holds: Readonly<Record<string, boolean>> = {
    IS_TRUE: isTrue(value),
    IS_NOT_TRUE: !isTrue(value),
    IS_FALSE: isFalse(value),
    IS_NOT_FALSE: !isFalse(value),
    IS_UNKNOWN: value === null,
    IS_NOT_UNKNOWN: value !== null,
  };
  return holds[stringField(node.body, "booltesttype")] === false ? "never" : "always";
}

function expressionTruth(node: Part): Truth {
  const left = partOf(node.body["lexpr"]);
  const right = partOf(node.body["rexpr"]);
  const kind = stringField(node.body, "kind");
  const operator = namesOf(node.body["name"]).at(-1) ?? "";
  const compared = compareConstants(kind, operator, constantOf(left), constantOf(right));
  if (compared !== undefined) return compared ? "always" : "never";
  // A column with itself: true for every row that has a value.
  if (left !== undefined && right !== undefined && looksAtRows(left) && sameText(left, right)) {
    if (kind === "AEXPR_NOT_DISTINCT" || (kind === "AEXPR_OP" && ["=", "<=", ">="].includes(operator))) return "always";
  }
  // LIKE '%' matches every text.
  if ((kind === "AEXPR_LIKE" || kind === "AEXPR_ILIKE") && !operator.startsWith("!")) {
    const pattern = constantOf(right);
    if (typeof pattern === "string" && /^%+$/.test(pattern)) return "always";
  }
  return otherTruth(node);
}

/** What does not look at the row keeps all rows or none, so it cannot be relied on to leave any out. */
function otherTruth(node: Part): Truth {
  return looksAtRows(node) ? "rows" : "always";
}

function looksAtRows(node: Part): boolean {
  let found = false;
  walk(node, (part) => {
    if (part.kind === "ColumnRef" || part.kind === "CurrentOfExpr") found = true;
    return !found;
  });
  return found;
}

function hasParameter(node: Part): boolean {
  let found = false;
  walk(node, (part) => {
    if (part.kind === "ParamRef") found = true;
    return !found;
  });
  return found;
}

type Constant = string | number | boolean | null;

function constantOf(node: Part | undefined): Constant | undefined {
  if (node?.kind === "TypeCast") {
    const inner = constantOf(partOf(node.body["arg"]));
    return typeof inner === "string" ? castText(inner, typeNameOf(node)) : inner;
  }
  if (node?.kind === "CollateClause") return constantOf(partOf(node.body["arg"]));
  const constant = fieldsOf(node, "A_Const");
  if (constant === undefined) return undefined;
  if (constant.isnull === true) return null;
  if (constant.ival !== undefined) return constant.ival.ival ?? 0;
  if (constant.fval !== undefined) return Number(constant.fval.fval);
  if (constant.boolval !== undefined) return constant.boolval.boolval === true;
  if (constant.sval !== undefined) return constant.sval.sval ?? "";
  return undefined;
}

function typeNameOf(node: Part): string {
  const type = node.body["typeName"];
  return typeof type === "object" && type !== null && "names" in type ? (namesOf(type.names).at(-1) ?? "") : "";
}

function castText(text: string, type: string): Constant {
  if (type === "bool") return isTrue(text);
  const number = Number(text);
  return /^(int|float|numeric)/.test(type) && text.trim() !== "" && !Number.isNaN(number) ? number : text;
}

/** Text counts as the server reads a boolean from it: any prefix of true, yes, on; 1. */
function isTrue(value: Constant): boolean {
  if (typeof value !== "string") return value === true;
  const text = value.trim().toLowerCase();
  return text === "1" || text === "on" || (text !== "" && ("true".startsWith(text) || "yes".startsWith(text)));
}

function isFalse(value: Constant): boolean {
  return typeof value === "string" ? !isTrue(value) : value === false;
}

function compareConstants(
  kind: string,
  operator: string,
  left: Constant | undefined,
  right: Constant | undefined,
): boolean | undefined {
  if (left === undefined || right === undefined) return undefined;
  if (kind === "AEXPR_NOT_DISTINCT") return left === right;
  if (kind === "AEXPR_DISTINCT") return left !== right;
  if (kind !== "AEXPR_OP" || left === null || right === null || typeof left !== typeof right) return undefined;
  switch (operator) {
    case "=":
      return left === right;
    case "<>":
      return left !== right;
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    case ">=":
      return left >= right;
    default:
      return undefined;
  }
}

/** The same expression, places in the text aside. */
function sameText(left: Part, right: Part): boolean {
  return left.kind === right.kind && withoutPlaces(left) === withoutPlaces(right);
}

function withoutPlaces(part: Part): string {
  return JSON.stringify(part.body, (key: string, value: unknown) => (key === "location" ? undefined : value));
}
