/**
 * Expressions that tell about their arguments without returning them: they fail for some values and not for others, return more
 * rows for some, or do something that others see. Must never call a form silent that is not known to be: what is not listed tells.
 * Source: PostgreSQL 15 to 18, "Functions and Operators" and the errors raised in the functions' own code.
 */
import { literalText } from "./classify.ts";
import { calledName } from "./functions.ts";
import { forEachChild, namesOf, type Part, partOf, partsOf, stringField } from "./tree.ts";

/**
 * `silent`: one value comes out, whatever goes in. `fixed`: whether it fails is settled by its constants alone.
 * `telling`: neither is known.
 */
export type Telling = "silent" | "fixed" | "telling";

/** Judges one node by its own kind and its constants, not by what is below it. */
export function tellingOf(node: Part): Telling {
  switch (node.kind) {
    case "FuncCall":
      return callTelling(node);
    case "A_Expr":
      return operatorTelling(node);
    case "TypeCast":
      return castTelling(node);
    case "A_ArrayExpr":
      // Arrays within arrays must have equal lengths.
      return partsOf(node.body["elements"]).every(isNoArray) ? "silent" : "telling";
    case "XmlExpr":
      return silentXml.has(stringField(node.body, "op")) ? "silent" : "telling";
    case "JsonObjectConstructor":
    case "JsonObjectAgg":
      return hasConstantKeys(node) ? "silent" : "telling";
    default:
      return silentKinds.has(node.kind) ? "silent" : "telling";
  }
}

/**
 * The parts of CASE, COALESCE, AND, OR and of what the server writes as these (BETWEEN, IN, comparisons of rows) that are evaluated
 * for some values only, or a second time for some; undefined for any other node.
 */
export function branchesOf(node: Part): readonly Part[] | undefined {
  switch (node.kind) {
    case "CaseExpr": {
      const whens = partsOf(node.body["args"]);
      const conditions = whens.slice(1).flatMap((when) => partOf(when.body["expr"]) ?? []);
      const results = [...whens.map((when) => when.body["result"]), node.body["defresult"]];
      return [...conditions, ...results.flatMap((result) => partOf(result) ?? [])];
    }
    case "CoalesceExpr":
      return partsOf(node.body["args"]).slice(1);
    case "BoolExpr":
      return stringField(node.body, "boolop") === "NOT_EXPR" ? undefined : partsOf(node.body["args"]).slice(1);
    case "A_Expr":
      return comparedAgain(node);
    default:
      return undefined;
  }
}

/** Source: transformAExprIn, transformAExprBetween and make_row_comparison_op in parse_expr.c. */
function comparedAgain(node: Part): readonly Part[] | undefined {
  const left = partOf(node.body["lexpr"]);
  const right = partOf(node.body["rexpr"]);
  const both = [left, right].flatMap((side) => side ?? []);
  switch (stringField(node.body, "kind")) {
    case "AEXPR_BETWEEN":
    case "AEXPR_NOT_BETWEEN": // a >= low AND a <= high
    case "AEXPR_IN": // a = first OR a = second …
      return [...(left === undefined ? [] : [left]), ...partsOf(right?.body["items"]).slice(1)];
    case "AEXPR_BETWEEN_SYM":
    case "AEXPR_NOT_BETWEEN_SYM":
      return both;
    default:
      // (a, b) = (c, d): b and d are looked at where a and c do not settle it.
      return both.some(({ kind }) => kind === "RowExpr") ? both.flatMap(laterFields) : undefined;
  }
}

function laterFields(side: Part): readonly Part[] {
  return side.kind === "RowExpr" ? partsOf(side.body["args"]).slice(1) : [side];
}

/** A branch whose being evaluated can be noticed. `isStored`: the reference is to a column as it is stored. */
export function branchTells(branch: Part, isStored: (reference: Part) => boolean): boolean {
  if (branch.kind === "ColumnRef") return !isStored(branch); // what it stands for may be computed only here
  // A constant's conversion happens before anything is evaluated.
  if (branch.kind === "TypeCast" && partOf(branch.body["arg"])?.kind === "A_Const") return false;
  if (branch.kind === "SubLink" || tellingOf(branch) !== "silent") return true;
  let tells = false;
  forEachChild(branch, (child) => {
    tells ||= branchTells(child, isStored);
  });
  return tells;
}

const silentKinds: ReadonlySet<string> = new Set([
  "",
  "A_Const",
  "A_Indirection",
  "A_Indices",
  "A_Star",
  "Boolean",
  "BoolExpr",
  "BooleanTest",
  "CaseExpr",
  "CaseWhen",
  "CoalesceExpr",
  "CollateClause",
  "DeleteStmt",
  "ColumnRef",
  "GroupingFunc",
  "InsertStmt",
  "Integer",
  "JsonAggConstructor",
  "JsonArrayAgg",
  "JsonArrayConstructor",
  "JsonArrayQueryConstructor",
  "JsonFormat",
  "JsonIsPredicate",
  "JsonKeyValue",
  "JsonReturning",
  "JsonScalarExpr",
  "JsonValueExpr",
  "List",
  "MergeStmt",
  "MinMaxExpr",
  "NamedArgExpr",
  "NullTest",
  "ParamRef",
  "ResTarget",
  "RowExpr",
  "SelectStmt",
  "SetToDefault",
  "SortBy",
  "SQLValueFunction",
  "String",
  "SubLink",
  "TypeName",
  "UpdateStmt",
  "WindowDef",
]);

const silentXml: ReadonlySet<string> = new Set(["IS_XMLELEMENT", "IS_XMLFOREST", "IS_XMLCONCAT"]);

/** A key that is NULL or comes twice is an error. */
function hasConstantKeys(node: Part): boolean {
  if (node.body["unique"] === true) return false;
  const pairs = node.kind === "JsonObjectAgg" ? [node.body["arg"]] : partsOf(node.body["exprs"]).map((part) => part.body);
  return pairs.every((pair) => {
    const key = typeof pair === "object" && pair !== null && "key" in pair ? partOf(pair.key) : undefined;
    return key?.kind === "A_Const";
  });
}

function operatorTelling(node: Part): Telling {
  const operator = namesOf(node.body["name"]).at(-1) ?? "";
  const right = partOf(node.body["rexpr"]);
  switch (stringField(node.body, "kind")) {
    case "AEXPR_LIKE":
    case "AEXPR_ILIKE": {
      // A pattern that ends in a backslash fails once a text has matched up to there.
      const pattern = literalText(right);
      return pattern !== null && !pattern.includes("\\") ? "silent" : "telling";
    }
    case "AEXPR_SIMILAR":
      return partsOf(right?.body["args"]).every(isConstant) ? "fixed" : "telling";
    case "AEXPR_OP":
      if (silentOperators.has(operator)) return "silent";
      if (operator === "||") return [partOf(node.body["lexpr"]), right].every(isNoArray) ? "silent" : "telling";
      return regexOperators.has(operator) && isConstant(right) ? "fixed" : "telling";
    case "AEXPR_OP_ANY":
    case "AEXPR_OP_ALL":
      return silentOperators.has(operator) ? "silent" : "telling";
    case "AEXPR_DISTINCT":
    case "AEXPR_NOT_DISTINCT":
    case "AEXPR_NULLIF":
    case "AEXPR_IN":
    case "AEXPR_BETWEEN":
    case "AEXPR_NOT_BETWEEN":
    case "AEXPR_BETWEEN_SYM":
    case "AEXPR_NOT_BETWEEN_SYM":
      return "silent";
    default:
      return "telling";
  }
}

const silentOperators: ReadonlySet<string> = new Set("= <> != < <= > >= @> <@ && ^@ -> ->> #> #>> ? ?| ?&".split(" "));

const regexOperators: ReadonlySet<string> = new Set(["~", "~*", "!~", "!~*"]);

/** Conversions that accept every value. */
function castTelling(node: Part): Telling {
  const arg = partOf(node.body["arg"]);
  if (arg?.kind === "A_Const" || arg?.kind === "ParamRef") return "fixed";
  const type = node.body["typeName"];
  if (typeof type !== "object" || type === null || !("names" in type)) return "telling";
  if ("arrayBounds" in type) return "telling";
  const name = namesOf(type.names).at(-1) ?? "";
  if (textTypes.has(name)) return "silent";
  const called = calledName(arg).at(-1) ?? "";
  return (name === "json" || name === "jsonb") && jsonMakers.has(called) ? "silent" : "telling";
}

/** To a type without a modifier, which would be a threshold to choose, and not to a name that is looked up. */
export function isPlainCast(node: Part): boolean {
  const type = node.body["typeName"];
  if (typeof type !== "object" || type === null || !("names" in type) || "typmods" in type) return false;
  return !(namesOf(type.names).at(-1) ?? "reg").startsWith("reg");
}

const textTypes: ReadonlySet<string> = new Set(["text", "varchar", "bpchar", "name"]);

const jsonMakers: ReadonlySet<string> = new Set(
  "to_json to_jsonb row_to_json array_to_json json_agg jsonb_agg json_build_array jsonb_build_array".split(" "),
);

/** Plainly no array: two arrays are joined or collected only where their dimensions fit. */
function isNoArray(part: Part | undefined): boolean {
  if (part === undefined) return true;
  switch (part.kind) {
    case "A_Const":
    case "ColumnRef":
    case "ParamRef":
    case "SQLValueFunction":
    case "BoolExpr":
    case "NullTest":
      return true;
    case "A_Expr":
      return operatorTelling(part) !== "telling";
    case "TypeCast":
      return castTelling(part) === "silent";
    case "FuncCall":
      return scalarFunctions.has(calledName(part).at(-1) ?? "");
    case "CoalesceExpr":
    case "MinMaxExpr":
      return partsOf(part.body["args"]).every(isNoArray);
    case "CaseExpr":
      return partsOf(part.body["args"])
        .map((when) => partOf(when.body["result"]))
        .concat([partOf(part.body["defresult"])])
        .every(isNoArray);
    default:
      return false;
  }
}

function isConstant(part: Part | undefined): boolean {
  if (part?.kind === "TypeCast") return isConstant(partOf(part.body["arg"]));
  return part?.kind === "A_Const";
}

/** Built-in functions that return one value that is no array, whatever they are given. */
const scalarFunctions: ReadonlySet<string> = new Set(
  `upper lower initcap length char_length character_length octet_length bit_length pg_column_size ascii reverse left right
  md5 sha224 sha256 sha384 sha512 concat concat_ws quote_literal quote_ident quote_nullable btrim ltrim rtrim replace translate
  starts_with strpos position text varchar bpchar name to_json to_jsonb row_to_json array_to_json json_build_array
  jsonb_build_array json_typeof jsonb_typeof jsonb_pretty json_strip_nulls jsonb_strip_nulls array_to_string cardinality
  array_length array_upper array_lower array_ndims num_nulls num_nonnulls hashtext hashtextextended pg_typeof sign
  ceil ceiling floor age min max count sum avg string_agg json_agg jsonb_agg xmlagg bool_and bool_or every any_value mode
  percentile_disc row_number rank dense_rank percent_rank cume_dist first_value last_value now random gen_random_uuid
  clock_timestamp statement_timestamp transaction_timestamp host abbrev family isfinite`.split(/\s+/),
);

/** The same where what stands behind the first argument is constant: numbers not below zero, texts. */
const silentWithConstants: ReadonlySet<string> = new Set("substr substring lag lead round trunc".split(" "));

/** Those whose constants may be wrong, which fails for every value alike. `extract` has its constant first. */
const fixedWithConstants: ReadonlySet<string> = new Set(
  `overlay split_part regexp_replace regexp_match regexp_like regexp_count regexp_instr regexp_substr regexp_split_to_array to_char
  date_part date_trunc extract timezone ntile nth_value encode to_tsvector convert_to normalize`.split(/\s+/),
);

/** Numbers below which a text made longer stays far from the largest that the server can hold. */
const LENGTH_MAX = 10_000;

function callTelling(node: Part): Telling {
  const name = calledName(node).at(-1) ?? "";
  const args = partsOf(node.body["args"]);
  if (scalarFunctions.has(name) || name === "string_to_array") return "silent";
  const rest = args.slice(1);
  const constants = args.filter(isConstant);
  switch (name) {
    case "array_agg":
      return args.every(isNoArray) ? "silent" : "telling";
    case "format":
      return isPlainFormat(args[0]) ? "silent" : "telling";
    case "json_build_object":
    case "jsonb_build_object":
      return args.every((arg, at) => at % 2 === 1 || isConstant(arg)) ? "silent" : "telling";
    case "lpad":
    case "rpad":
    case "repeat":
      return Number(literalText(rest[0]) ?? Number.NaN) <= LENGTH_MAX ? "silent" : "telling";
    default:
  }
  if (silentWithConstants.has(name) && rest.every(isPlainConstant)) return name.startsWith("substr") ? substring(rest) : "silent";
  const fixed = fixedWithConstants.has(name) || silentWithConstants.has(name);
  return fixed && constants.length >= args.length - 1 ? "fixed" : "telling";
}

/** `substring(text from pattern)` takes a regular expression, which may be wrong. */
function substring(rest: readonly Part[]): Telling {
  return rest.every((part) => /^\d+$/.test(literalText(part) ?? "")) ? "silent" : "fixed";
}

function isPlainConstant(part: Part): boolean {
  return isConstant(part) && !(literalText(part) ?? "").startsWith("-");
}

/** `%I` of NULL, a width taken from an argument and unknown letters are errors. */
function isPlainFormat(part: Part | undefined): boolean {
  const text = literalText(part);
  return text !== null && !/%(?!s|L|%|\d+\$[sL])/.test(text.replaceAll("%%", ""));
}
