/**
 * What trees name besides functions: columns, types, operators, and whether anything in them could be converted. Collected over a
 * statement and all it reaches, and judged in unnamed-code.ts. Must never leave a name out: where columns come without a name, all count.
 */
import type { CatalogIndex, LookupNames } from "../catalog-index.ts";
import { namesOf, type Part, partOf, partsOf, stringField, walk } from "./tree.ts";

export interface NamedType {
  readonly names: readonly string[];
  readonly lookup: LookupNames;
}

export class Mentions {
  /** Names of columns, wherever they stand. */
  readonly columns: Set<string> = new Set();
  /** Some column comes without its name. */
  everyColumn = false;
  readonly types: NamedType[] = [];
  readonly operators: NamedType[] = [];
  /** Types of arguments and results of functions that are called. */
  readonly argumentTypes: Set<number> = new Set();
  readonly resultTypes: { readonly typeOid: number; readonly rowOf: number | undefined }[] = [];
  /** Something besides plain columns and constants: there the server may convert one value into another. */
  converts = false;
  /** Something is assigned: to columns, parameters, results of functions. */
  assigns = false;
  /** SELECT INTO. */
  makesRelation = false;
  readonly #index: CatalogIndex;

  constructor(index: CatalogIndex) {
    this.#index = index;
  }

  /** `lookup`: what names mean in this tree. */
  add(tree: Part, lookup: LookupNames): void {
    const kind = tree.kind === "CopyStmt" && tree.body["query"] === undefined ? "" : tree.kind;
    if (!queryKinds.has(kind) && tree.kind.endsWith("Stmt")) this.everyColumn = true;
    if (!readingKinds.has(kind) && tree.kind.endsWith("Stmt")) this.assigns = true;
    const aliases = new Set<string>();
    const references = new Set<string>();
    walk(tree, (part, parent) => {
      this.#alias(part, aliases);
      if (!plainKinds.has(part.kind)) this.converts = true;
      switch (part.kind) {
        case "ColumnRef":
        case "A_Indirection": {
          const fields = part.body[part.kind === "ColumnRef" ? "fields" : "indirection"];
          if (partsOf(fields).at(-1)?.kind === "A_Star") this.everyColumn = true;
          const names = namesOf(fields);
          for (const name of names) this.columns.add(name);
          references.add(names.at(-1) ?? "");
          break;
        }
        case "JoinExpr":
          if (part.body["isNatural"] === true) this.everyColumn = true;
          for (const name of namesOf(part.body["usingClause"])) this.columns.add(name);
          if (part.body["isNatural"] === true || part.body["usingClause"] !== undefined) this.#operator(["="], lookup);
          break;
        case "IntoClause":
          this.makesRelation = true;
          break;
        case "SelectStmt":
          if (["whereClause", "havingClause", "limitCount", "limitOffset"].some((field) => converting(partOf(part.body[field]))))
            this.converts = true;
          if (part.body["valuesLists"] !== undefined || stringField(part.body, "op") !== "SETOP_NONE") this.converts = true;
          break;
        case "InsertStmt":
        case "UpdateStmt":
        case "DeleteStmt":
        case "MergeStmt":
          this.assigns = true;
          break;
        case "FuncCall":
          this.#call(part, lookup);
          break;
        case "TypeName":
          if (parent?.kind !== "ObjectWithArgs") this.types.push({ names: namesOf(part.body["names"]), lookup });
          break;
        case "A_Expr":
          this.#expression(part, lookup);
          break;
        case "SubLink":
          if (part.body["testexpr"] !== undefined) this.#operator(orEquals(namesOf(part.body["operName"])), lookup);
          break;
        case "SortBy":
          if (part.body["useOp"] !== undefined) this.#operator(namesOf(part.body["useOp"]), lookup);
          break;
        case "CaseExpr":
          if (part.body["arg"] !== undefined) this.#operator(["="], lookup);
          break;
        default:
      }
    });
    // A relation's name in place of a column's is its whole row.
    for (const alias of aliases) if (references.has(alias)) this.everyColumn = true;
  }

  #alias(part: Part, aliases: Set<string>): void {
    const alias = stringField(part.body, "aliasname");
    if (alias !== "") {
      aliases.add(alias);
      // Other names for columns, in their order.
      if (part.body["colnames"] !== undefined) this.everyColumn = true;
    }
    if (part.kind === "RangeVar") aliases.add(stringField(part.body, "relname"));
  }

  #call(part: Part, lookup: LookupNames): void {
    const names = namesOf(part.body["funcname"]);
    // `mood(x)` converts where no function has the name.
    this.types.push({ names, lookup });
    for (const { schema, signature } of this.#index.functionsNamed(names.at(-1) ?? "")) {
      if (signature === undefined || (names.length > 1 && schema !== names.at(-2))) continue;
      for (const { typeOid } of signature.arguments) this.argumentTypes.add(typeOid);
      this.resultTypes.push({ typeOid: signature.returnTypeOid, rowOf: signature.returnsRowOf });
    }
  }

  #expression(part: Part, lookup: LookupNames): void {
    const kind = stringField(part.body, "kind");
    if (kind.includes("BETWEEN")) for (const name of ["<", "<=", ">", ">="]) this.#operator([name], lookup);
    else this.#operator(namesOf(part.body["name"]), lookup);
  }

  #operator(names: readonly string[], lookup: LookupNames): void {
    this.operators.push({ names, lookup });
  }
}

/** Around a query, whose parts say what they use. */
const readingKinds: ReadonlySet<string> = new Set(["SelectStmt", "CopyStmt", "CreateTableAsStmt", "ViewStmt"]);

const queryKinds: ReadonlySet<string> = new Set([
  ...readingKinds,
  "InsertStmt",
  "UpdateStmt",
  "DeleteStmt",
  "MergeStmt",
  "PrepareStmt",
  "ExecuteStmt",
]);

/** Nodes around plain columns and constants. */
const plainKinds: ReadonlySet<string> = new Set([
  "",
  "SelectStmt",
  "CopyStmt",
  "DefElem",
  "ResTarget",
  "ColumnRef",
  "A_Star",
  "A_Const",
  "ParamRef",
  "RangeVar",
  "RangeSubselect",
  "SortBy",
  "String",
  "Integer",
  "Float",
  "Boolean",
  "WithClause",
  "CommonTableExpr",
  "Alias",
  "IntoClause",
  "NullTest",
]);

/** A condition or a number that is no constant becomes a boolean or a bigint. */
function converting(part: Part | undefined): boolean {
  return part !== undefined && part.kind !== "A_Const" && part.kind !== "ParamRef" && part.kind !== "NullTest";
}

function orEquals(names: readonly string[]): readonly string[] {
  return names.length === 0 ? ["="] : names;
}
