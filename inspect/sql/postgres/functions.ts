/**
 * Which functions and types a tree uses, and whether each is known to do nothing but compute. What is not built in,
 * or is shadowed outside pg_catalog, is undecided unless the resource declares it safe. Must never trust a name alone that
 * somebody else could have defined too.
 */
import type { CatalogFunction } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import type { AnalysisSettings } from "../model.ts";
import { sqlBody, takes } from "./function-bodies.ts";
import { isEscape } from "./function-lists.ts";
import { namesOf, type Part, partsOf, typed, walk } from "./tree.ts";

/**
 * What a called name may be. `safe`: declared so by the resource. `followed`: functions in SQL, any of which the server may choose;
 * `plain` when it may as well be a safe or built-in one. `opaque`: anything.
 */
export type FunctionNature =
  | { readonly kind: "builtin"; readonly name: string }
  | { readonly kind: "safe"; readonly name: string }
  | { readonly kind: "escape"; readonly name: string }
  | { readonly kind: "followed"; readonly candidates: readonly CatalogFunction[]; readonly plain: boolean }
  | { readonly kind: "opaque"; readonly label: string };

export interface FunctionFacts {
  readonly undecided: ReadonlySet<string>;
  readonly escapes: ReadonlySet<string>;
  /** Functions whose bodies have to be looked at for the rest. */
  readonly followed: ReadonlySet<CatalogFunction>;
}

/** Where names of functions are looked up. `path` null: in every schema. */
export interface NameContext {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
  readonly session: { readonly path: readonly string[] | null };
}

/**
 * What a function name as written means. All that the server may choose from count: it takes the one that fits the arguments' types
 * best, from any schema of the path. `argumentCount` leaves out those that take another number.
 */
export function functionNature(
  names: readonly string[],
  { index, settings, session }: NameContext,
  argumentCount?: number,
): FunctionNature {
  const name = names.at(-1) ?? "";
  const schema = names.length > 1 ? names.at(-2) : undefined;
  if (isEscape(name)) return { kind: "escape", name };
  const candidates = index
    .functionsNamed(name)
    .filter((candidate) => isVisible(candidate.schema, schema, session.path))
    .filter((candidate) => argumentCount === undefined || takes(candidate, argumentCount));
  const isSafe = (candidate: CatalogFunction): boolean =>
    settings.safeFunctions.includes(`${candidate.schema}.${candidate.name}`);
  const unsafe = candidates.filter((candidate) => !isSafe(candidate));
  const opaque = unsafe.find((candidate) => sqlBody(candidate, index) === undefined);
  if (opaque !== undefined) return { kind: "opaque", label: label(opaque.schema, opaque.name) };
  // information_schema's own functions are not listed one by one; what a superuser adds there is, like any user's function.
  const system = schema === undefined || schema === "pg_catalog" || schema === "information_schema";
  const builtin = system && (index.isBuiltin(name) || schema === "information_schema");
  if (unsafe.length > 0) return { kind: "followed", candidates: unsafe, plain: builtin || unsafe.length < candidates.length };
  if (candidates.length > 0) return { kind: "safe", name };
  if (builtin) return { kind: "builtin", name };
  if (schema !== undefined && settings.safeFunctions.includes(`${schema}.${name}`)) return { kind: "safe", name };
  return { kind: "opaque", label: label(schema, name) };
}

/** Functions, unlike relations, are never found in the temporary schema without its name (FuncnameGetCandidates). */
function isVisible(actual: string, written: string | undefined, path: readonly string[] | null): boolean {
  if (written !== undefined) return actual === written;
  return path === null || path.includes(actual);
}

/** Collects what the tree uses. `columnNames`: columns of the relations reached, for `column(row)`, which is no call. */
export function functionFacts(
  root: Part,
  index: CatalogIndex,
  settings: AnalysisSettings,
  columnNames: (name: string) => boolean,
  path: readonly string[] | null = null,
): FunctionFacts {
  const undecided = new Set<string>();
  const escapes = new Set<string>();
  const followed = new Set<CatalogFunction>();
  const context: NameContext = { index, settings, session: { path } };
  const useFunction = (names: readonly string[], argumentCount?: number): void => {
    const nature = functionNature(names, context, argumentCount);
    if (nature.kind === "followed") for (const candidate of nature.candidates) followed.add(candidate);
    if (nature.kind === "escape") escapes.add(nature.name);
    if (nature.kind === "opaque") undecided.add(nature.label);
    // An extension's function that reaches out is no built-in either: both are said.
    if (nature.kind === "escape" && !index.isBuiltin(nature.name)) undecided.add(label(undefined, nature.name));
  };
  walk(root, (part, parent) => {
    switch (part.kind) {
      case "FuncCall": {
        const names = namesOf(part.body["funcname"]);
        if (!isColumnOfRow(part, names, index, columnNames)) useFunction(names, partsOf(part.body["args"]).length);
        break;
      }
      case "RangeTableSample":
        useFunction(namesOf(part.body["method"]));
        break;
      case "ColumnRef": {
        // `row.function` calls the function on the row when it is no column.
        const names = namesOf(part.body["fields"]);
        const name = names.length > 1 ? (names.at(-1) ?? "") : "";
        if (name !== "" && index.functionsNamed(name).length > 0 && !columnNames(name)) useFunction([name], 1);
        if (name !== "" && isEscape(name) && !columnNames(name)) useFunction([name]);
        break;
      }
      case "A_Indirection":
        for (const name of namesOf(part.body["indirection"])) if (index.functionsNamed(name).length > 0) useFunction([name], 1);
        break;
      case "TypeName": {
        if (parent?.kind === "ObjectWithArgs") break; // names a function's signature, converts nothing
        const type = undecidedType(part, index, settings);
        if (type !== undefined) undecided.add(type);
        break;
      }
      default:
    }
  });
  return { undecided, escapes, followed };
}

/** `ssn(c)` reads column ssn of row c where no function of that name exists. */
function isColumnOfRow(
  part: Part,
  names: readonly string[],
  index: CatalogIndex,
  columnNames: (name: string) => boolean,
): boolean {
  const name = names[0] ?? "";
  const args = partsOf(typed(part, "FuncCall").args);
  if (names.length !== 1 || args.length !== 1 || index.isBuiltin(name) || isEscape(name)) return false;
  return index.functionsNamed(name).length === 0 && columnNames(name);
}

/** Input functions of base and range types and the checks of domains are code; enums and composites are not. */
function undecidedType(part: Part, index: CatalogIndex, settings: AnalysisSettings): string | undefined {
  const names = namesOf(part.body["names"]);
  const name = names.at(-1) ?? "";
  const schema = names.length > 1 ? names.at(-2) : undefined;
  for (const type of [...index.typesNamed(name), ...index.typesNamed(name.replace(/^_/, ""))]) {
    if (schema !== undefined && type.schema !== schema) continue;
    if (type.kind === "enum" || type.kind === "composite" || type.kind === "pseudo" || type.kind === "array") continue;
    // What is known of it is judged with all types that occur.
    if (type.code !== undefined) continue;
    if (!settings.safeFunctions.includes(`type ${type.schema}.${type.name}`)) return `type ${type.schema}.${type.name}`;
  }
  return undefined;
}

function label(schema: string | undefined, name: string): string {
  return schema === undefined ? `function ${name}` : `function ${schema}.${name}`;
}

/** The name a call is made by; empty for a part that is no call. */
export function calledName(part: Part | undefined): readonly string[] {
  return part?.kind === "FuncCall" ? namesOf(part.body["funcname"]) : [];
}
