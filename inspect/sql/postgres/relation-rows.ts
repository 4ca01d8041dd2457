/**
 * Columns of a relation of the catalog: a table's own, a view's through its definition. Must never take a view at its word: one
 * without a definition that can be followed gives `*`.
 */
import type { CatalogRelation } from "@sluice/core/catalog.ts";
import type { CatalogIndex } from "../catalog-index.ts";
import { isSensitiveCatalog } from "./function-lists.ts";
import { CLEAN, type Column, type Rows, rowsOf, UNKNOWN, union, unknownRows, type Value } from "./lineage.ts";
import { isSessionRelation } from "./temporary.ts";
import { type Part, partOf } from "./tree.ts";

/** Views upon views beyond this depth are not followed. Real ones stay under ten. */
export const VIEW_DEPTH_MAX = 32;

/** What reading the relation returns. `follow` evaluates the query of a view's definition; undefined: too deep or circular. */
export function relationRows(relation: CatalogRelation, index: CatalogIndex, follow: (query: Part) => Rows | undefined): Rows {
  if (isSessionRelation(relation)) return relation.rows;
  if (relation.system) return unknownRows(isSensitiveCatalog(relation.schema, relation.name) ? UNKNOWN : CLEAN);
  switch (relation.kind) {
    case "table":
    case "partitioned":
    case "foreign":
      return baseOf(relation).rows;
    case "sequence":
      return rowsOf(["last_value", "log_cnt", "is_called"].map((name) => ({ name, origins: CLEAN, exact: false })));
    case "view":
    case "matview": {
      const query = definitionQuery(relation, index);
      return viewRows(relation, query === undefined ? undefined : follow(query));
    }
    default:
      return unknownRows(UNKNOWN);
  }
}

/** The SELECT behind a view. */
export function definitionQuery(relation: CatalogRelation, index: CatalogIndex): Part | undefined {
  const statements = index.definition(relation)?.stmts ?? [];
  const query = statements.length === 1 ? partOf(statements[0]?.stmt) : undefined;
  return query?.kind === "SelectStmt" ? query : undefined;
}

export function qualifiedName(relation: CatalogRelation): string {
  return `${relation.schema}.${relation.name}`;
}

/** `schema.table.column` of each column the relation stores. */
export function baseColumnNames(relation: CatalogRelation): readonly string[] {
  return baseOf(relation).names;
}

interface Base {
  readonly rows: Rows;
  readonly names: readonly string[];
}

/** Relations whose columns are kept made: what most statements are about. Some KiB each. */
const BASES_MAX = 2_000;
let bases = new WeakMap<CatalogRelation, Base>();
let basesMade = 0;

/** The same for every statement, since neither the relation nor what is made of it ever changes. */
function baseOf(relation: CatalogRelation): Base {
  const known = bases.get(relation);
  if (known !== undefined) return known;
  if (++basesMade > BASES_MAX) {
    bases = new WeakMap();
    basesMade = 1;
  }
  const names = relation.columns.map((column) => `${qualifiedName(relation)}.${column.name}`);
  const columns = relation.columns.map(
    (column, at): Column => ({
      name: column.name,
      origins: new Set([names[at]!]),
      // Computed from others: what a mask leaves visible of it could be any part of them.
      exact: column.generatedFrom === undefined,
      typeOid: column.typeOid,
    }),
  );
  const base: Base = { rows: rowsOf(columns), names };
  bases.set(relation, base);
  return base;
}

function viewRows(relation: CatalogRelation, rows: Rows | undefined): Rows {
  const all = rows?.all ?? UNKNOWN;
  if (relation.columns.length === 0) return rows ?? unknownRows(all);
  const followed = rows?.columns?.length === relation.columns.length ? rows.columns : null;
  const columns = relation.columns.map((column, at): Column => {
    return storedColumn(relation, column.name, followed?.[at] ?? { origins: all, exact: false });
  });
  return { columns, all: union([all, ...columns.map((column) => column.origins)]) };
}

/** A materialised view stores its rows: what it makes of other columns may carry a label of its own. */
function storedColumn(relation: CatalogRelation, name: string, value: Value): Column {
  const { origins, exact } = value;
  const only = origins.size === 1 ? [...origins][0] : undefined;
  if (relation.kind === "view" || (exact && only?.endsWith(`.${name}`) === true)) return { ...value, name };
  return { name, origins: union([origins, new Set([`${qualifiedName(relation)}.${name}`])]), exact: false };
}
