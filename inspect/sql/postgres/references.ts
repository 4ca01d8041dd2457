/**
 * Resolves column references to base columns: unqualified, qualified, whole rows, and functions written as columns. Must never
 * settle on one column where the server could mean another: then the union of all candidates is the answer.
 * Follows colNameToVar and transformColumnRef of PostgreSQL's parser.
 */
import { PARAMETERS } from "./function-bodies.ts";
import { followCall } from "./function-calls.ts";
import { functionNature } from "./functions.ts";
import {
  CLEAN,
  type Column,
  columnsNamed,
  derived,
  type Lineage,
  type Origins,
  type Scope,
  type Source,
  UNKNOWN,
  union,
  type Value,
} from "./lineage.ts";
import { namesOf, type Part, partsOf } from "./tree.ts";

/** The value of a ColumnRef that is not a `*`; one that ends in `*` counts as the whole row. */
export function resolveReference(reference: Part, scope: Scope, lineage: Lineage): Value {
  lineage.seen(reference);
  const names = namesOf(reference.body["fields"]);
  const star = partsOf(reference.body["fields"]).at(-1)?.kind === "A_Star";
  if (star) return derived(names.length === 0 ? everything(scope) : wholeRow(names, scope));
  if (names.length === 1) return unqualified(names[0]!, scope);
  const name = names.at(-1) ?? "";
  const source = findSource(names.slice(0, -1), scope);
  if (source === undefined) return derived(fieldOfParameter(names, scope, lineage));
  return columnOf(source, name, reference, lineage);
}

/** `parameter.field` or `function.parameter.field` in the body of a function. */
function fieldOfParameter(names: readonly string[], scope: Scope, lineage: Lineage): Origins {
  let outermost = scope;
  while (outermost.outer !== undefined) outermost = outermost.outer;
  if (!outermost.sources.some((source) => source.name === PARAMETERS)) return UNKNOWN;
  const [own] = outermost.sources;
  const [first, ...rest] = names[0] === own?.name ? names.slice(1) : names;
  const parameter = columnsNamed(own?.columns ?? null, first ?? "")[0];
  return parameter === undefined ? UNKNOWN : union([parameter.origins, functionsOnParameter(rest, parameter.origins, lineage)]);
}

function functionsOnParameter(names: readonly string[], row: Origins, lineage: Lineage): Origins {
  return names.some((name) => lineage.index.functionsNamed(name).length > 0) ? union([row, UNKNOWN]) : row;
}

/** The source that `a` or `schema.a` (or `database.schema.a`) names, from the inside out. */
export function findSource(qualifier: readonly string[], scope: Scope): Source | undefined {
  const name = qualifier.at(-1);
  const schema = qualifier.length > 1 ? qualifier.at(-2) : undefined;
  for (let level: Scope | undefined = scope; level !== undefined; level = level.outer) {
    const found = level.sources.filter(
      (source) => source.name === name && (schema === undefined || source.schemas.includes(schema)),
    );
    if (found.length === 1) return found[0];
    if (found.length > 1) return merged(found);
  }
  return undefined;
}

/** Columns of the sources in this scope level that have the name, for ORDER BY and GROUP BY, which look at labels too. */
export function unqualified(name: string, scope: Scope): Value {
  let unsure: Origins = CLEAN;
  let sure = true;
  let related = false;
  for (let level: Scope | undefined = scope; level !== undefined; level = level.outer) {
    const hits: Column[] = [];
    const open: Origins[] = [];
    for (const source of level.sources) {
      if (source.qualifiedOnly) continue;
      related ||= source.relation;
      const columns = source.columns ?? source.named;
      if (columns === undefined) open.push(source.all);
      else hits.push(...columnsNamed(columns, name));
    }
    if (sure && hits.length === 1) return hits[0]!;
    if (hits.length > 0) {
      // With several it is the merged column of a USING join, or an error.
      const origins = union([unsure, ...hits.map((hit) => hit.origins)]);
      return derived(origins);
    }
    if (open.length > 0) {
      unsure = union([unsure, ...open]);
      sure = false;
    }
  }
  if (related && systemColumns.has(name)) return derived(unsure);
  const row = findSource([name], scope);
  if (row !== undefined) return derived(union([unsure, row.all]));
  return derived(sure ? UNKNOWN : unsure);
}

function columnOf(source: Source, name: string, reference: Part, lineage: Lineage): Value {
  const hits = columnsNamed(source.columns ?? source.named ?? null, name);
  if (hits.length === 1) return hits[0]!;
  if (hits.length > 1) return derived(union(hits.map((hit) => hit.origins)));
  if (source.relation && systemColumns.has(name)) return derived(CLEAN);
  if (source.columns === null) return derived(source.all);
  // `row.function`: the server tries a function of that name on the whole row.
  const nature = functionNature([name], lineage, 1);
  if (nature.kind === "opaque") lineage.undecided(nature.label);
  if (nature.kind === "followed") {
    const { rows, influences } = followCall(nature.candidates, [reference], [source.all], lineage);
    return derived(union([source.all, rows.all, influences]));
  }
  return derived(nature.kind === "builtin" || nature.kind === "safe" ? source.all : UNKNOWN);
}

function wholeRow(names: readonly string[], scope: Scope): Origins {
  return findSource(names, scope)?.all ?? UNKNOWN;
}

function everything(scope: Scope): Origins {
  return union(scope.sources.map((source) => source.all));
}

function merged(sources: readonly Source[]): Source {
  const { named: _named, ...first } = sources[0]!;
  return { ...first, columns: null, all: union(sources.map((source) => source.all)) };
}

/** System columns hold no values of rows (System Columns, PostgreSQL manual 5.6). */
const systemColumns: ReadonlySet<string> = new Set(["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"]);
