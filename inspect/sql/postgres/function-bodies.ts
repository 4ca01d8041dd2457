/**
 * The statements inside a function in language SQL, ready to be traced: parameters stand there as columns of a row that every name
 * of the body sees last, as the server looks them up. Must never give a part of a body: one that cannot be read as a whole, or that
 * does something else than querying and changing rows, is not followed at all.
 * Follows sql_fn_post_column_ref and sql_fn_resolve_param_name of PostgreSQL's functions.c.
 */
import type { CatalogFunction, FunctionArgument } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import { type Part, partOf, partsOf, walk } from "./tree.ts";

export interface SqlBody {
  readonly statements: readonly Part[];
  /** What the last arguments are when they are not given; empty when that is not known. */
  readonly defaults: readonly Part[];
  readonly names: "bound" | "called" | "elsewhere";
}

/** The row that holds `$1`, `$2` …; no name of SQL contains a NUL. */
export const PARAMETERS = "\0parameters";

const known = new WeakMap<CatalogFunction, SqlBody | null>();

/** Undefined for a function that cannot be followed. Parsed once. */
export function sqlBody(fn: CatalogFunction, index: CatalogIndex): SqlBody | undefined {
  if (fn.kind !== "function" || fn.language !== "sql" || fn.signature === undefined) return undefined;
  if (fn.schema === "pg_temp") return undefined; // may be another session's, of the same name
  let body = known.get(fn);
  if (body === undefined) {
    body = readBody(fn, index) ?? null;
    known.set(fn, body);
  }
  return body ?? undefined;
}

/** The arguments a call gives values for, in the order that `$1`, `$2` … count them. */
export function inputsOf(fn: CatalogFunction): readonly FunctionArgument[] {
  return (fn.signature?.arguments ?? []).filter(({ mode }) => mode === "in" || mode === "inout" || mode === "variadic");
}

/** Whether a call with so many arguments may mean this function. */
export function takes(fn: CatalogFunction, count: number): boolean {
  if (fn.signature === undefined || fn.kind !== "function") return true;
  const inputs = inputsOf(fn);
  const variadic = inputs.at(-1)?.mode === "variadic";
  const least = inputs.length - fn.signature.defaults - (variadic ? 1 : 0);
  return count >= least && (variadic || count <= inputs.length);
}

function readBody(fn: CatalogFunction, index: CatalogIndex): SqlBody | undefined {
  const { body, signature } = fn;
  if (body === undefined || signature === undefined) return undefined;
  const statements =
    body.names === "bound" ? standardBody(body.text, index) : index.parsed(body.text)?.stmts?.map(({ stmt }) => partOf(stmt));
  if (statements === undefined) return undefined;
  const parts = statements.flatMap((part) => part ?? []);
  if (parts.length !== statements.length || !parts.every(onlyQueries)) return undefined;
  const elsewhere = body.searchPath !== undefined || signature.securityDefiner;
  return {
    statements: parts.map(withParameterNames),
    defaults: defaultsOf(signature.defaultValues, index),
    names: body.names === "bound" ? "bound" : elsewhere ? "elsewhere" : "called",
  };
}

/** `BEGIN ATOMIC …; END` or `RETURN expression`, which only the grammar of CREATE FUNCTION knows. */
function standardBody(text: string, index: CatalogIndex): readonly (Part | undefined)[] | undefined {
  const parsed = index.parsed(`CREATE FUNCTION f() RETURNS void LANGUAGE sql ${text}`)?.stmts ?? [];
  const made = partOf(parsed[0]?.stmt);
  if (parsed.length !== 1 || made?.kind !== "CreateFunctionStmt") return undefined;
  const body = partOf(made.body["sql_body"]);
  if (body?.kind === "List") return partsOf(body.body["items"]).flatMap((list) => partsOf(list.body["items"]));
  const value = body?.kind === "ReturnStmt" ? partOf(body.body["returnval"]) : undefined;
  if (value === undefined) return undefined;
  return [{ kind: "SelectStmt", body: { targetList: [{ ResTarget: { val: { [value.kind]: value.body } } }], op: "SETOP_NONE" } }];
}

/** Nothing that makes relations, changes settings or names of the session, or runs text. */
function onlyQueries(statement: Part): boolean {
  if (!queryKinds.has(statement.kind)) return false;
  let only = true;
  walk(statement, (part) => {
    if (part.kind === "IntoClause") only = false;
    if (part.kind === "FuncCall" && partsOf(part.body["funcname"]).at(-1)?.body["sval"] === "set_config") only = false;
    return only;
  });
  return only;
}

const queryKinds: ReadonlySet<string> = new Set(["SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"]);

/** `$n` as a column: constants and parameters of the caller's own text are judged by kind, those of a body by what they hold. */
function withParameterNames(statement: Part): Part {
  const replaced = replaceParameters({ [statement.kind]: statement.body });
  return partOf(replaced) ?? statement;
}

function replaceParameters(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(replaceParameters);
  if (typeof value !== "object" || value === null) return value;
  const part = partOf(value);
  if (part?.kind === "ParamRef") {
    const number = part.body["number"];
    const fields = [PARAMETERS, `$${typeof number === "number" ? number : 0}`].map((sval) => ({ String: { sval } }));
    return { ColumnRef: { fields } };
  }
  return Object.fromEntries(Object.entries(value).map(([field, inner]) => [field, replaceParameters(inner)]));
}

function defaultsOf(text: string | undefined, index: CatalogIndex): readonly Part[] {
  if (text === undefined) return [];
  const statements = index.parsed(`SELECT ${text}`)?.stmts ?? [];
  const select = statements.length === 1 ? partOf(statements[0]?.stmt) : undefined;
  if (select?.kind !== "SelectStmt") return [];
  return partsOf(select.body["targetList"]).flatMap((target) => partOf(target.body["val"]) ?? []);
}
