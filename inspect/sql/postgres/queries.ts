/**
 * Output columns of SELECT, VALUES, TABLE, set operations and WITH, and what they use on the way. Must never give fewer origins
 * than the server can return: unknown shapes become rows of unknown columns that carry everything the sources hold.
 * Follows transformSelectStmt, transformSetOperationStmt and transformWithClause of PostgreSQL's analyze.c and parse_cte.c.
 */
import { evaluateCall } from "./expressions.ts";
import { useCondition, useExpression, useSortKeys } from "./influences.ts";
import {
  CLEAN,
  type Column,
  combined,
  type CteEntry,
  type FromItem,
  type Lineage,
  type Origins,
  renamed,
  type Rows,
  rowsOf,
  type Scope,
  UNKNOWN,
  union,
  unknownRows,
} from "./lineage.ts";
import { outputName } from "./output-names.ts";
import { findSource, resolveReference } from "./references.ts";
import { fromClause, scopeOf } from "./sources.ts";
import { bare, fieldsOf, namesOf, type Part, partOf, partsOf, stringField, typed } from "./tree.ts";

/** Rows of a SELECT in any of its forms. */
export function selectRows(node: Part, outer: Scope, lineage: Lineage): Rows {
  const select = typed(node, "SelectStmt");
  const scope = withClause(node.body["withClause"], outer, lineage);
  let rows: Rows;
  let inner = scope;
  if (select.larg !== undefined && select.rarg !== undefined) {
    rows = setOperation(node, scope, lineage);
  } else if (select.valuesLists !== undefined) {
    rows = valuesRows(partsOf(select.valuesLists), scope, lineage);
  } else {
    const items = fromClause(partsOf(select.fromClause), scope, lineage);
    inner = scopeOf(items, scope);
    useCondition(partOf(select.whereClause), inner, lineage);
    rows = targetRows(partsOf(select.targetList), items, inner, lineage);
    useClauses(node, inner, rows, lineage);
  }
  useSortKeys(partsOf(select.sortClause), inner, rows, lineage);
  useExpression(partOf(select.limitCount), inner, lineage);
  useExpression(partOf(select.limitOffset), inner, lineage);
  // Of a statement's own INTO the whole statement is asked; one within a body is not followed.
  if (select.intoClause !== undefined && lineage.viewDepth > 0) lineage.flow(UNKNOWN);
  return rows;
}

/** The columns of a target list or RETURNING list over these FROM items. */
export function targetRows(targets: readonly Part[], items: readonly FromItem[], scope: Scope, lineage: Lineage): Rows {
  const columns: Column[] = [];
  const others: Origins[] = [];
  let known = true;
  for (const target of targets) {
    const value = partOf(target.body["val"]);
    const expanded = value === undefined ? rowsOf([]) : starRows(value, items, scope, lineage);
    if (expanded === undefined) {
      columns.push({ ...lineage.evaluate(value, scope), name: outputName(target) });
    } else if (expanded.columns === null) {
      known = false;
      others.push(expanded.all);
    } else {
      columns.push(...expanded.columns);
      others.push(expanded.all);
    }
  }
  const all = union([...others, ...columns.map((column) => column.origins)]);
  return known ? rowsOf(columns, all) : unknownRows(all);
}

/** What `*`, `t.*` or `(expression).*` expands to; undefined for everything else. */
function starRows(value: Part, items: readonly FromItem[], scope: Scope, lineage: Lineage): Rows | undefined {
  if (value.kind === "A_Indirection" && partsOf(value.body["indirection"]).at(-1)?.kind === "A_Star") {
    const arg = partOf(value.body["arg"]);
    const only = partsOf(value.body["indirection"]).length === 1;
    if (!only || arg?.kind !== "FuncCall") return unknownRows(lineage.evaluate(value, scope).origins);
    const called = evaluateCall(arg, scope, lineage);
    return called.rows === undefined ? unknownRows(called.origins) : withInfluences(called.rows, called.influences);
  }
  if (value.kind !== "ColumnRef" || partsOf(value.body["fields"]).at(-1)?.kind !== "A_Star") return undefined;
  resolveReference(value, scope, lineage);
  const names = namesOf(value.body["fields"]);
  if (names.length > 0) return findSource(names, scope) ?? unknownRows(UNKNOWN);
  const all = union(items.map((item) => item.star.all));
  if (items.some((item) => item.star.columns === null)) return unknownRows(all);
  return rowsOf(
    items.flatMap((item) => item.star.columns ?? []),
    all,
  );
}

/** Rows of which what decides about them is part of each value. */
function withInfluences(rows: Rows, influences: Origins): Rows {
  if (influences.size === 0) return rows;
  const columns = rows.columns?.map((column) => ({ ...column, origins: union([column.origins, influences]), exact: false }));
  return { columns: columns ?? null, all: union([rows.all, influences]) };
}

function useClauses(node: Part, scope: Scope, rows: Rows, lineage: Lineage): void {
  const select = typed(node, "SelectStmt");
  useSortKeys(partsOf(select.groupClause), scope, rows, lineage);
  useCondition(partOf(select.havingClause), scope, lineage);
  for (const window of partsOf(select.windowClause)) useExpression(window, scope, lineage);
  if (select.distinctClause !== undefined) {
    const keys = partsOf(select.distinctClause);
    if (keys.length === 0) lineage.influence(rows.all, "other");
    else useSortKeys(keys, scope, rows, lineage);
  }
}

function setOperation(node: Part, scope: Scope, lineage: Lineage): Rows {
  const select = typed(node, "SelectStmt");
  const left = lineage.query(bare("SelectStmt", select.larg!), scope);
  const right = lineage.query(bare("SelectStmt", select.rarg!), scope);
  const rows = combined(left, right);
  // UNION ALL compares nothing; every other set operation tells which rows are alike.
  if (select.op !== "SETOP_UNION" || select.all !== true) lineage.influence(rows.all, "other");
  return rows;
}

function valuesRows(lists: readonly Part[], scope: Scope, lineage: Lineage): Rows {
  let rows: Rows | undefined;
  let starred = false;
  for (const list of lists) {
    const items = partsOf(list.body["items"]);
    const columns = items.map((part, at) => {
      return { name: `column${at + 1}`, origins: lineage.evaluate(part, scope).origins, exact: false };
    });
    starred ||= items.some(isStar);
    rows = rows === undefined ? rowsOf(columns) : combined(rows, rowsOf(columns));
  }
  // `LATERAL (VALUES (t.*))` has as many columns as t.
  return starred ? unknownRows(rows?.all ?? CLEAN) : (rows ?? rowsOf([]));
}

function isStar(part: Part): boolean {
  const field = part.kind === "ColumnRef" ? "fields" : part.kind === "A_Indirection" ? "indirection" : undefined;
  return field !== undefined && partsOf(part.body[field]).at(-1)?.kind === "A_Star";
}

/** The scope inside a statement with a WITH clause; the same scope with no names of its own when there is none. */
export function withClause(clause: unknown, outer: Scope, lineage: Lineage): Scope {
  if (typeof clause !== "object" || clause === null) return { sources: [], ctes: new Map(), outer };
  const body = clause as Part["body"]; // WithClause comes unwrapped
  const ctes = new Map<string, CteEntry>();
  const inner: Scope = { sources: [], ctes, outer };
  const recursive = body["recursive"] === true;
  for (const part of partsOf(body["ctes"])) {
    // Without RECURSIVE a WITH query sees only those before it.
    const seen: Scope = recursive ? inner : { sources: [], ctes: new Map(ctes), outer };
    ctes.set(stringField(part.body, "ctename"), new WithQuery(part, seen, recursive, lineage));
  }
  // Those that nobody refers to run too when they change data, and their conditions are used all the same.
  for (const entry of ctes.values()) entry.rows();
  return inner;
}

/** Rounds after which a recursive query that still grows is given up as unknown. Each round adds at least one origin. */
const RECURSION_ROUNDS_MAX = 32;

class WithQuery implements CteEntry {
  readonly #part: Part;
  readonly #scope: Scope;
  readonly #recursive: boolean;
  readonly #lineage: Lineage;
  #rows: Rows | undefined;
  #approximation: Rows | undefined;
  #running = false;

  constructor(part: Part, scope: Scope, recursive: boolean, lineage: Lineage) {
    this.#part = part;
    this.#scope = scope;
    this.#recursive = recursive;
    this.#lineage = lineage;
  }

  rows(): Rows {
    if (this.#rows !== undefined) return this.#rows;
    // Asked for while being evaluated: the recursive reference. Before there is an approximation it cannot be known.
    if (this.#running) return this.#approximation ?? unknownRows(UNKNOWN);
    this.#running = true;
    this.#rows = this.#evaluate();
    this.#running = false;
    return this.#rows;
  }

  #evaluate(): Rows {
    const query = partOf(this.#part.body["ctequery"]);
    if (query === undefined) return unknownRows(UNKNOWN);
    const start = fieldsOf(query, "SelectStmt")?.larg;
    if (this.#recursive && start !== undefined && query.body["withClause"] === undefined) {
      this.#approximation = this.#named(this.#lineage.query(bare("SelectStmt", start), this.#scope));
    }
    for (let round = 0; round < RECURSION_ROUNDS_MAX; round++) {
      const rows = this.#named(this.#lineage.query(query, this.#scope));
      if (this.#approximation === undefined || sameRows(rows, this.#approximation)) return rows;
      this.#approximation = joined(this.#approximation, rows);
    }
    return unknownRows(UNKNOWN);
  }

  #named(rows: Rows): Rows {
    const named = renamed(rows, namesOf(this.#part.body["aliascolnames"]));
    const extra = addedColumns(this.#part, named.all);
    return named.columns === null || extra.length === 0 ? named : rowsOf([...named.columns, ...extra], named.all);
  }
}

/** Both approximations together, so that rounds only ever grow. */
function joined(before: Rows, after: Rows): Rows {
  return combined(after, before);
}

function sameRows(a: Rows, b: Rows): boolean {
  if (a.all.size !== b.all.size || a.columns?.length !== b.columns?.length) return false;
  return (a.columns ?? []).every((column, at) => {
    const other = b.columns?.[at];
    return other !== undefined && column.exact === other.exact && column.origins.size === other.origins.size;
  });
}

/** SEARCH and CYCLE add columns that hold the values of the columns they name. */
function addedColumns(part: Part, origins: Origins): readonly Column[] {
  const search = part.body["search_clause"];
  const cycle = part.body["cycle_clause"];
  const names: [string, Origins][] = [];
  if (typeof search === "object" && search !== null)
    names.push([stringField(search as Part["body"], "search_seq_column"), origins]);
  if (typeof cycle === "object" && cycle !== null) {
    names.push([stringField(cycle as Part["body"], "cycle_mark_column"), CLEAN]);
    names.push([stringField(cycle as Part["body"], "cycle_path_column"), origins]);
  }
  return names.map(([name, of]) => ({ name, origins: of, exact: false }));
}
