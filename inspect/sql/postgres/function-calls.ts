/**
 * A call of a function in language SQL, from the caller's side: which value each parameter gets, and which columns come back. Must
 * never give a column to a wrong value: where the shapes of body and result differ, every column holds all of the body's result.
 * Follows get_expr_result_type and get_func_result_name of PostgreSQL's funcapi.c, and addRangeTableEntryForFunction.
 */
import type { CatalogFunction } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import { inputsOf, PARAMETERS } from "./function-bodies.ts";
import {
  CLEAN,
  type Column,
  combined,
  type FollowedCall,
  type Lineage,
  type Origins,
  type Rows,
  rowsOf,
  type Scope,
  type Source,
  UNKNOWN,
  union,
  unknownRows,
} from "./lineage.ts";
import { type Part, partOf, stringField } from "./tree.ts";

/** Follows all functions that a call may mean, given the values of its arguments in the order of the text. */
export function followCall(
  candidates: readonly CatalogFunction[],
  args: readonly Part[],
  values: readonly Origins[],
  lineage: Lineage,
): FollowedCall {
  const constant = args.every(isConstantOfCaller);
  const all = candidates.map((candidate): FollowedCall => {
    const bound = boundValues(candidate, args, values);
    const followed = lineage.follow(candidate, bound, constant);
    if (candidate.signature?.strict !== true) return followed;
    // Whether there is a result at all tells whether an argument is NULL.
    return { rows: followed.rows, influences: union([followed.influences, ...values]) };
  });
  const influences = union(all.map((each) => each.influences));
  return { rows: all.map((each) => each.rows).reduce((left, right) => combined(left, right)), influences };
}

/** Where the parameters of a body are found: the outermost names, those of the queries come first. */
export function parameterScope(fn: CatalogFunction, values: readonly Origins[]): Scope {
  const named: Column[] = [];
  const numbered: Column[] = [];
  inputsOf(fn).forEach((input, at) => {
    const origins = values[at] ?? UNKNOWN;
    if (input.name !== "") named.push({ name: input.name, origins, exact: false });
    numbered.push({ name: `$${at + 1}`, origins, exact: false });
  });
  return {
    sources: [parameterSource(fn.name, named, false), parameterSource(PARAMETERS, numbered, true)],
    ctes: new Map(),
    outer: undefined,
  };
}

/** The result of the body's last statement under the names that the function gives it. */
export function resultRows(fn: CatalogFunction, last: Rows | undefined, index: CatalogIndex): Rows {
  const { signature } = fn;
  if (signature === undefined) return unknownRows(UNKNOWN);
  if (signature.returnTypeOid === VOID) return rowsOf([{ name: fn.name, origins: CLEAN, exact: false }]);
  if (last === undefined) return unknownRows(UNKNOWN);
  const outputs = signature.arguments.filter(({ mode }) => mode === "out" || mode === "inout" || mode === "table");
  if (outputs.length === 1) return fitted([outputs[0]!.name === "" ? fn.name : outputs[0]!.name], last);
  if (outputs.length > 1)
    return fitted(
      outputs.map(({ name }, at) => (name === "" ? `column${at + 1}` : name)),
      last,
    );
  if (signature.returnsRowOf !== undefined) {
    const relation = index.byOid(signature.returnsRowOf);
    if (relation === undefined || relation.columns.length === 0) return unknownRows(last.all);
    return fitted(
      relation.columns.map(({ name }) => name),
      last,
    );
  }
  if (signature.returnTypeOid === RECORD)
    return last.columns === null
      ? last
      : fitted(
          last.columns.map(({ name }) => name),
          last,
        );
  return fitted([fn.name], last);
}

/** Type OIDs of pg_type.dat. */
const VOID = 2_278;
const RECORD = 2_249;

/** Positions count where both have as many columns; else (a row as one value) each column may hold any part of it. */
function fitted(names: readonly string[], rows: Rows): Rows {
  const columns = rows.columns?.length === names.length ? rows.columns : null;
  return rowsOf(
    names.map((name, at) => ({ name, origins: columns?.[at]?.origins ?? rows.all, exact: false })),
    rows.all,
  );
}

function parameterSource(name: string, columns: readonly Column[], qualifiedOnly: boolean): Source {
  return { ...rowsOf(columns), name, schemas: [], qualifiedOnly, relation: false };
}

/** One set of origins for each input that the call gives a value for; a name that cannot be placed goes to every input. */
function boundValues(fn: CatalogFunction, args: readonly Part[], values: readonly Origins[]): readonly Origins[] {
  const inputs = inputsOf(fn);
  const bound: Origins[] = [];
  let everywhere: Origins = CLEAN;
  args.forEach((arg, at) => {
    const value = values[at] ?? UNKNOWN;
    if (arg.kind !== "NamedArgExpr") {
      const to = Math.min(at, inputs.length - 1);
      if (to >= 0) bound[to] = union([bound[to] ?? CLEAN, value]);
      return;
    }
    const to = inputs.findIndex(({ name }) => name === stringField(arg.body, "name"));
    if (to === -1) everywhere = union([everywhere, value]);
    else bound[to] = union([bound[to] ?? CLEAN, value]);
  });
  // Named ones may leave gaps that defaults fill: what those are is known for the last ones alone.
  const gaps = Array.from(bound, (value) => union([value ?? UNKNOWN, everywhere]));
  return everywhere.size === 0 ? gaps : inputs.map((_, at) => gaps[at] ?? union([UNKNOWN, everywhere]));
}

/** A constant or a parameter of the statement's own text, cast or not. */
function isConstantOfCaller(part: Part): boolean {
  if (part.kind === "TypeCast" || part.kind === "NamedArgExpr") {
    const arg = partOf(part.body["arg"]);
    return arg !== undefined && isConstantOfCaller(arg);
  }
  return part.kind === "A_Const" || part.kind === "ParamRef";
}
