/**
 * The words of column lineage: where the values of an expression come from, which names are in scope, and where findings go.
 * Must never lose an origin: whatever is not understood is `*` or the union of everything below it.
 * Name resolution follows PostgreSQL's parse_relation.c and parse_clause.c.
 */
import type { CatalogFunction } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import type { AnalysisSettings, SessionScope, TemporaryRelation } from "../model.ts";
import type { Part } from "./tree.ts";

/** Qualified base columns, or `*` for "cannot be known". */
export type Origins = ReadonlySet<string>;

export const CLEAN: Origins = new Set();
export const UNKNOWN: Origins = new Set(["*"]);

export interface Value {
  readonly origins: Origins;
  /** The unmodified base column. */
  readonly exact: boolean;
  /** With `exact`: the base column's type. */
  readonly typeOid?: number;
  /** A temporary relation's column as it is stored, unmodified. */
  readonly temporary?: true;
}

export interface Column extends Value {
  readonly name: string;
}

/** What a query returns. `columns` is null when their number is not known; `all` then stands for each of them. */
export interface Rows {
  readonly columns: readonly Column[] | null;
  readonly all: Origins;
  /** Where `columns` is null because a name may mean several relations: the columns any of them has, for lookups by name. */
  readonly named?: readonly Column[];
}

/** One name of a FROM clause. */
export interface Source extends Rows {
  /** Null for a join without alias, whose parts keep their own names. */
  readonly name: string | null;
  /** Set for a relation without alias: it may be named with its schema. */
  readonly schemas: readonly string[];
  /** True for `old`, `new`, `excluded` and USING aliases: found only with their name before the column. */
  readonly qualifiedOnly: boolean;
  /** True for relations, which have system columns. */
  readonly relation: boolean;
  /** Set where what is written goes into a temporary relation, or may. */
  readonly storedIn?: StoredIn;
}

export interface StoredIn {
  readonly name: string;
  /** Null for a view: what is written through it is stored elsewhere. */
  readonly relation: TemporaryRelation | null;
  /** The name can mean nothing else. */
  readonly alone: boolean;
}

/** What one FROM item brings into scope, and what `*` expands to. */
export interface FromItem {
  readonly sources: readonly Source[];
  readonly star: Rows;
}

/** A WITH query; evaluated when first used, so that unused and repeated ones cost nothing twice. */
export interface CteEntry {
  rows(): Rows;
}

export interface Scope {
  readonly sources: readonly Source[];
  readonly ctes: ReadonlyMap<string, CteEntry>;
  readonly outer: Scope | undefined;
}

export const emptyNames: Scope = { sources: [], ctes: new Map(), outer: undefined };

/** Everything one pass over a statement shares. The three `evaluate…` tie the files of this folder together without cycles. */
export interface Lineage {
  readonly index: CatalogIndex;
  readonly settings: AnalysisSettings;
  readonly session: SessionScope;
  /** Nesting of view definitions around this pass. */
  readonly viewDepth: number;
  evaluate(node: Part | undefined, scope: Scope): Value;
  query(node: Part, scope: Scope): Rows;
  /** A relation by its name as written; CTEs are looked up by the caller. */
  relation(schema: string | undefined, name: string): RelationRows;
  /**
   * What a call of a function in language SQL returns, given the values of its inputs; those left out at the end have their defaults.
   * `constant`: every value is a constant or a parameter of the caller's text.
   */
  follow(candidate: CatalogFunction, values: readonly Origins[], constant: boolean): FollowedCall;
  /** A column reference has been dealt with: what is left over at the end is judged by name alone. */
  seen(reference: Part): void;
  influence(origins: Origins, form: "equality" | "other"): void;
  flow(origins: Origins): void;
  /** A value is stored in this column of a temporary relation; null: in any of them. */
  keep(target: StoredIn, column: string | null, value: Value): void;
  /** An expression over these may tell about them by failing, by its number of rows or by being evaluated at all. */
  tell(origins: Origins): void;
  undecided(what: string): void;
  /** Runs `work` and returns the origins of the influences other than equality that it found. */
  collecting<T>(work: () => T): { readonly result: T; readonly influences: Origins };
}

export interface FollowedCall {
  readonly rows: Rows;
  /** What decides about its rows: part of the value where only one row of it is taken. */
  readonly influences: Origins;
}

export interface RelationRows extends Rows {
  readonly schemas: readonly string[];
  readonly storedIn?: StoredIn;
}

/** All of them together. Sets are shared, never changed, so that the common case of nothing new costs no copy. */
export function union(sets: Iterable<Origins>): Origins {
  let result: Origins = CLEAN;
  let copy: Set<string> | undefined;
  for (const set of sets) {
    if (set === result || set.size === 0) continue;
    if (result.size === 0) {
      result = set;
      continue;
    }
    for (const origin of set) {
      if (result.has(origin)) continue;
      copy ??= new Set(result);
      copy.add(origin);
      result = copy;
    }
  }
  return result;
}

export function derived(origins: Origins): Value {
  return { origins, exact: false };
}

/** PostgreSQL's own bound on the columns of a result (MaxTupleAttributeNumber). More are never returned, so never listed. */
const RESULT_COLUMNS_MAX = 1_664;

export function rowsOf(columns: readonly Column[] | null, all?: Origins): Rows {
  const origins = all ?? union((columns ?? []).map((column) => column.origins));
  return { columns: columns !== null && columns.length <= RESULT_COLUMNS_MAX ? columns : null, all: origins };
}

export function unknownRows(all: Origins): Rows {
  return { columns: null, all };
}

const byName = new WeakMap<readonly Column[], ReadonlyMap<string, readonly Column[]>>();

/** Columns of the name. The list is indexed once: a hostile text asks thousands of wide tables for thousands of names. */
export function columnsNamed(columns: readonly Column[] | null, name: string): readonly Column[] {
  if (columns === null) return NO_COLUMNS;
  let index = byName.get(columns);
  if (index === undefined) {
    const groups = new Map<string, Column[]>();
    for (const column of columns) {
      const known = groups.get(column.name);
      if (known === undefined) groups.set(column.name, [column]);
      else known.push(column);
    }
    index = groups;
    byName.set(columns, index);
  }
  return index.get(name) ?? NO_COLUMNS;
}

const NO_COLUMNS: readonly Column[] = [];

/** Renames the first columns, as `AS t(a, b)` does. */
export function renamed(rows: Rows, names: readonly string[]): Rows {
  if (names.length === 0) return rows;
  if (rows.columns === null) return unknownRows(rows.all);
  return { columns: rows.columns.map((column, at) => ({ ...column, name: names[at] ?? column.name })), all: rows.all };
}

/** Position by position, for set operations and relations that share a name. */
export function combined(left: Rows, right: Rows): Rows {
  const all = union([left.all, right.all]);
  if (left.columns === null || right.columns === null || left.columns.length !== right.columns.length) return unknownRows(all);
  const rights = right.columns;
  return {
    all,
    columns: left.columns.map((column, at) => {
      const other = rights[at]!;
      const exact = column.exact && other.exact && sameOrigins(column.origins, other.origins);
      return { name: column.name, origins: union([column.origins, other.origins]), exact };
    }),
  };
}

function sameOrigins(a: Origins, b: Origins): boolean {
  return a.size === b.size && [...a].every((origin) => b.has(origin));
}
