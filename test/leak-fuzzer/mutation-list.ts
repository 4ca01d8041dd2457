/**
 * Rules of lineage and masking, each with the change of text that switches it off. A text must stand in its file exactly once: one
 * that is rewritten has its mutation rewritten with it.
 */

export interface Mutation {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Why no difference can be expected: what else hides it. */
  readonly notCaught?: string;
}

const postgres = "inspect/sql/postgres";

const values: readonly Mutation[] = [
  {
    name: "operators, casts, constructors lose operands",
    file: `${postgres}/expressions.ts`,
    find: "forEachChild(node, (child) => parts.push(lineage.evaluate(child, scope).origins));",
    replace: "forEachChild(node, (child) => void lineage.evaluate(child, scope).origins);",
  },
  {
    name: "function arguments",
    file: `${postgres}/expressions.ts`,
    find: "const all = union([...args, ...order, filter, window]);",
    replace: "const all = union([...order, filter, window]);",
  },
  {
    name: "aggregate and window keys",
    file: `${postgres}/expressions.ts`,
    find: "const all = union([...args, ...order, filter, window]);",
    replace: "const all = union(args);",
    notCaught: "the keys also count as influences, which policy refuses; switched off together below",
  },
  {
    name: "conditions of a subquery do not show in its value",
    file: `${postgres}/expressions.ts`,
    find: "return derived(union([result.all, influences]));",
    replace: "return derived(result.all);",
    notCaught: "the condition inside is an influence of the statement too, which policy refuses",
  },
  {
    name: "value of a scalar subquery",
    file: `${postgres}/expressions.ts`,
    find: "return derived(union([result.all, influences]));",
    replace: "return derived(influences);",
  },
  {
    name: "count counts anything",
    file: `${postgres}/expressions.ts`,
    find: "return exact || origins.size === 0 || isRow(arg, scope);",
    replace: "return exact || origins.size >= 0;",
  },
  {
    name: "whole rows",
    file: `${postgres}/references.ts`,
    find: "return findSource(names, scope)?.all ?? UNKNOWN;",
    replace: "return new Set();",
    notCaught: "`t.*` as a value is expanded before it comes here; the whole row by its alias is the next one",
  },
  {
    name: "whole row by its alias",
    file: `${postgres}/references.ts`,
    find: "if (row !== undefined) return derived(union([unsure, row.all]));",
    replace: "if (row !== undefined) return derived(unsure);",
  },
  {
    name: "CASE branches that can be noticed",
    file: `${postgres}/expressions.ts`,
    find: "if (branches.some((branch) => branchTells(branch, isStored))) return true;",
    replace: "if (branches.length < 0 && branches.some((branch) => branchTells(branch, isStored))) return true;",
  },
  {
    name: "expressions that fail for some values",
    file: `${postgres}/expressions.ts`,
    find: 'if (tellingOf(node) !== "telling") return false;',
    replace: 'if (tellingOf(node) !== "telling" || node.kind !== "") return false;',
  },
];

const sources: readonly Mutation[] = [
  {
    name: "alias lists lose origins",
    file: `${postgres}/lineage.ts`,
    find: "name: names[at] ?? column.name }))",
    replace: "name: names[at] ?? column.name, origins: CLEAN, exact: false }))",
  },
  {
    name: "second side of a set operation",
    file: `${postgres}/lineage.ts`,
    find: "origins: union([column.origins, other.origins])",
    replace: "origins: column.origins",
  },
  {
    name: "a WITH query hides a table",
    file: `${postgres}/sources.ts`,
    find: "const cte = level.ctes.get(name);",
    replace: "const cte = lineage.index.find(undefined, name, lineage.session).length > 0 ? undefined : level.ctes.get(name);",
  },
  {
    name: "recursive query to its fixpoint",
    file: `${postgres}/queries.ts`,
    find: "if (this.#approximation === undefined || sameRows(rows, this.#approximation)) return rows;",
    replace: "if (round === 0) return this.#approximation ?? rows;",
  },
  {
    name: "columns of a view",
    file: `${postgres}/relation-rows.ts`,
    find: "followed?.[at] ?? { origins: all, exact: false }",
    replace: "followed === null ? { origins: all, exact: false } : { origins: CLEAN, exact: false }",
  },
  {
    name: "columns of SQL functions that are followed",
    file: `${postgres}/expressions.ts`,
    find: "const value = valueOfCall(followed);",
    replace: "const value = valueOfCall(followed).size < 0 ? UNKNOWN : CLEAN;",
  },
  {
    name: "RETURNING",
    file: `${postgres}/changes.ts`,
    find: "const rows = targetRows(targets, items, inner, lineage);",
    replace:
      "const known = targetRows(targets, items, inner, lineage);\n  const rows = { all: CLEAN, columns: known.columns?.map((column) => ({ ...column, origins: CLEAN, exact: false })) ?? null };",
  },
  {
    name: "VALUES after the first row",
    file: `${postgres}/queries.ts`,
    find: "rows = rows === undefined ? rowsOf(columns) : combined(rows, rowsOf(columns));",
    replace: "rows = rows ?? rowsOf(columns);",
  },
  {
    name: "LATERAL sees what stands before",
    file: `${postgres}/sources.ts`,
    find: "const lateral: Scope = { sources: siblings,",
    replace:
      "const lateral: Scope = { sources: siblings.map((source) => ({ ...source, all: CLEAN, columns: source.columns?.map((column) => ({ ...column, origins: CLEAN })) ?? null })),",
  },
];

const influences: readonly Mutation[] = [
  {
    name: "conditions",
    file: `${postgres}/influences.ts`,
    find: 'if (column !== undefined) lineage.influence(column.origins, column.exact ? "equality" : "other");',
    replace: 'if (column !== undefined || condition.kind !== "") void lineage.evaluate(condition, scope);',
  },
  {
    name: "sort and group keys",
    file: `${postgres}/influences.ts`,
    find: 'else lineage.influence(keyOrigins(key, scope, outputs, lineage), "other");',
    replace: "else keyOrigins(key, scope, outputs, lineage);",
  },
  {
    name: "set operations that compare",
    file: `${postgres}/queries.ts`,
    find: 'if (select.op !== "SETOP_UNION" || select.all !== true) lineage.influence(rows.all, "other");',
    replace: "",
  },
  {
    name: "DISTINCT",
    file: `${postgres}/queries.ts`,
    find: 'if (keys.length === 0) lineage.influence(rows.all, "other");',
    replace: "if (keys.length === 0) return;",
  },
  {
    name: "columns that USING compares",
    file: `${postgres}/sources.ts`,
    find: 'for (const column of mergedColumns) lineage.influence(column.origins, "other");',
    replace: "",
  },
  {
    name: "aggregate and window keys, both ways",
    file: `${postgres}/expressions.ts`,
    find: 'for (const used of [...order, filter, window]) lineage.influence(used, "other");\n  const all = union([...args, ...order, filter, window]);',
    replace: "const all = union(args);",
  },
];

const writing: readonly Mutation[] = [
  {
    name: "values stored by INSERT and MERGE",
    file: `${postgres}/changes.ts`,
    find: "if (storedIn?.alone !== true) lineage.flow(all);",
    replace: "",
  },
  {
    name: "values stored by UPDATE",
    file: `${postgres}/changes.ts`,
    find: "if (target.storedIn?.alone !== true) lineage.flow(foreign);",
    replace: "",
  },
  {
    name: "labels of CREATE TEMP TABLE AS",
    file: `${postgres}/temporary-changes.ts`,
    find: 'const made = tableFromRows(rows, namesOf(into["colNames"]), leftOver, into["skipData"] === true);',
    replace:
      'const full = tableFromRows(rows, namesOf(into["colNames"]), leftOver, into["skipData"] === true);\n  const made = { ...full, origins: [], columns: full.columns?.map((column) => ({ ...column, origins: [] })) ?? null };',
  },
  {
    name: "labels of INSERT into a temporary table",
    file: `${postgres}/temporary-changes.ts`,
    find: "work.set(target.name, after);",
    replace: "work.set(target.name, before);",
  },
  {
    name: "set_config and pg_notify keep their arguments",
    file: `${postgres}/expressions.ts`,
    find: "if (keepsArguments(name)) lineage.flow(union(args));",
    replace: "",
  },
];

const session: readonly Mutation[] = [
  {
    name: "search_path",
    file: "inspect/sql/catalog-index.ts",
    find: "if (searched !== null) return onPath(named, searched);",
    replace:
      'if (searched !== null) return named.filter((relation) => relation.schema === "arch" || (relation.schema === "public" && name !== "customers"));',
  },
  {
    name: "ROLLBACK brings back the search_path",
    file: "inspect/sql/session-settings.ts",
    find: "return first === undefined ? { names, frames } : { names: restored(first, names), frames: [] };",
    replace: "return { names, frames: first === undefined ? frames : [] };",
  },
  {
    name: "columns of a cursor",
    file: `${postgres}/statement.ts`,
    find: 'const effects: StatementEffect[] = [{ name: moves ? "move" : "fetch", class: "read" }, ...cursor.effects];\n  const model: StatementModel = { ...cursor,',
    replace:
      'const effects: StatementEffect[] = [{ name: moves ? "move" : "fetch", class: "read" }, ...cursor.effects];\n  const model: StatementModel = { ...cursor, columns: cursor.columns?.map((column) => ({ ...column, origins: [] })) ?? null,',
  },
  {
    name: "columns of a prepared statement",
    file: `${postgres}/statement.ts`,
    find: "    ...prepared,\n    ...classed([...prepared.effects, ...ofParameters]),",
    replace:
      "    ...prepared,\n    columns: prepared.columns?.map((column) => ({ ...column, origins: [] })) ?? null,\n    ...classed([...prepared.effects, ...ofParameters]),",
  },
  {
    name: "EXPLAIN",
    file: `${postgres}/statement.ts`,
    find: 'name: "QUERY PLAN", origins: [...inner.reaches].sort()',
    replace: 'name: "QUERY PLAN", origins: []',
  },
];

const release: readonly Mutation[] = [
  {
    name: "origins on the wire",
    file: "data-plane/session/column-plans.ts",
    find: "if (field.tableOid === 0) return null;",
    replace: "if (field.tableOid >= 0) return null;",
    notCaught: "lineage finds every column of a base table itself: the wire is the second net",
  },
  {
    name: "lineage beside the wire",
    file: "data-plane/session/column-plans.ts",
    find: "if (columnsKnown) return columns?.[index] ?? UNKNOWN;",
    replace:
      "if (columnsKnown) return columns?.[index]?.origins.length === 1 ? { origins: [], exact: true } : (columns?.[index] ?? UNKNOWN);",
  },
  {
    name: "derived values are masked as a whole",
    file: "inspect/policy/column-masks.ts",
    find: "return exact && origins.length === 1 ? found : { ...found, operator: wholeOf(found.operator) };",
    replace: "return exact || origins.length > 0 ? found : { ...found, operator: wholeOf(found.operator) };",
    notCaught: "what is derived is hidden whole once more where cells are edited (maskDerived)",
  },
  {
    name: "NULL of a derived value",
    file: "inspect/dlp/cell-edit.ts",
    find: "{ editsNull: true }",
    replace: "{ editsNull: false }",
  },
  {
    name: "error and notice texts are scrubbed",
    file: "data-plane/session/verdicts.ts",
    find: 'return model.reaches.some((column) => column === "*" || state.labels.entitiesOf(column).length > 0);',
    replace: "return false;",
  },
  {
    name: "COPY is edited",
    file: "data-plane/session/copy-plans.ts",
    find: "if (mask !== null) return maskCopied(mask.operator, typeOid, format);",
    replace: "if (mask !== null) return null;",
  },
  {
    name: "COPY in binary",
    file: "data-plane/session/copy-plans.ts",
    find: "if (mask !== null) return maskCopied(mask.operator, typeOid, format);",
    replace: 'if (mask !== null) return format === "binary" ? null : maskCopied(mask.operator, typeOid, format);',
  },
];

export const mutations: readonly Mutation[] = [...values, ...sources, ...influences, ...writing, ...session, ...release];
