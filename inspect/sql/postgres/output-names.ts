/**
 * Names of output columns as the server gives them to expressions without AS. For people and rules only: nothing is decided by
 * them. Follows FigureColname of PostgreSQL's parse_target.c.
 */
import { fieldsOf, namesOf, type Part, partOf, partsOf, stringField } from "./tree.ts";

/** The name of one entry of a target list. */
export function outputName(target: Part): string {
  const given = stringField(target.body, "name");
  if (given !== "") return given;
  const value = partOf(target.body["val"]);
  return strongName(value) ?? weakName(value) ?? "?column?";
}

/** The name of what an expression is made of, which a cast or CASE around it takes over. */
function strongName(part: Part | undefined): string | undefined {
  if (part === undefined) return undefined;
  const { body, kind } = part;
  switch (kind) {
    case "ColumnRef":
    case "FuncCall":
      return namesOf(body[kind === "ColumnRef" ? "fields" : "funcname"]).at(-1);
    case "A_Indirection":
      return namesOf(body["indirection"]).at(-1) ?? strongName(partOf(body["arg"]));
    case "TypeCast":
    case "CollateClause":
      return strongName(partOf(body["arg"]));
    case "CaseExpr":
      return strongName(partOf(body["defresult"]));
    case "A_Expr":
      return body["kind"] === "AEXPR_NULLIF" ? "nullif" : undefined;
    case "SubLink":
      return sublinkName(part);
    case "SQLValueFunction":
      return stringField(body, "op").replace("SVFOP_", "").replace(/_N$/, "").toLowerCase();
    default:
      return fixedNames.get(kind) ?? xmlName(part);
  }
}

/** The names of a cast and of CASE themselves, when there is no better one inside. */
function weakName(part: Part | undefined): string | undefined {
  if (part?.kind === "CaseExpr") return "case";
  if (part?.kind === "TypeCast") return typeName(part.body["typeName"]);
  return part?.kind === "CollateClause" || part?.kind === "A_Indirection" ? weakName(partOf(part.body["arg"])) : undefined;
}

const fixedNames: ReadonlyMap<string, string> = new Map([
  ["A_ArrayExpr", "array"],
  ["RowExpr", "row"],
  ["CoalesceExpr", "coalesce"],
  ["GroupingFunc", "grouping"],
  ["MergeSupportFunc", "merge_action"],
  ["XmlSerialize", "xmlserialize"],
  ["JsonParseExpr", "json"],
  ["JsonScalarExpr", "json_scalar"],
  ["JsonSerializeExpr", "json_serialize"],
  ["JsonObjectConstructor", "json_object"],
  ["JsonArrayConstructor", "json_array"],
  ["JsonArrayQueryConstructor", "json_array"],
  ["JsonObjectAgg", "json_objectagg"],
  ["JsonArrayAgg", "json_arrayagg"],
]);

function xmlName(part: Part): string | undefined {
  if (part.kind === "MinMaxExpr") return part.body["op"] === "IS_LEAST" ? "least" : "greatest";
  const op = stringField(part.body, "op");
  if (part.kind === "XmlExpr") return op === "IS_DOCUMENT" ? undefined : op.replace("IS_", "").toLowerCase();
  if (part.kind === "JsonFuncExpr") return `json_${op.replace("JSON_", "").replace("_OP", "").toLowerCase()}`;
  return undefined;
}

function typeName(value: unknown): string | undefined {
  return typeof value === "object" && value !== null && "names" in value ? namesOf(value.names).at(-1) : undefined;
}

function sublinkName(part: Part): string | undefined {
  switch (stringField(part.body, "subLinkType")) {
    case "EXISTS_SUBLINK":
      return "exists";
    case "ARRAY_SUBLINK":
      return "array";
    case "EXPR_SUBLINK": {
      let query = fieldsOf(partOf(part.body["subselect"]), "SelectStmt");
      while (query?.larg !== undefined) query = query.larg;
      if (query?.valuesLists !== undefined && query.valuesLists.length > 0) return "column1";
      const target = partsOf(query?.targetList)[0];
      return target === undefined ? undefined : outputName(target);
    }
    default:
      return undefined;
  }
}
