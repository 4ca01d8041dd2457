/** A catalog as large as asked for: tables of twenty columns, views over them, functions, names as applications give them. */
import type { Catalog, CatalogColumn, CatalogRelation } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";

export interface BigCatalogSize {
  readonly tables: number;
  readonly columnsPerTable: number;
  readonly views: number;
  readonly functions: number;
}

/** What a gateway must load in under five seconds and 200 MB. */
export const bigCatalog: BigCatalogSize = { tables: 10_000, columnsPerTable: 20, views: 2_000, functions: 1_000 };

const words = "id customer order name email ssn created amount status note code region phone city street total".split(" ");
const types = [23, 25, 20, 1043, 1700, 1114, 16, 2950];

export function makeBigCatalog({ tables, columnsPerTable, views, functions }: BigCatalogSize): Catalog {
  const relations: CatalogRelation[] = [];
  for (let at = 0; at < tables; at++) relations.push(tableOf(at, columnsPerTable));
  for (let at = 0; at < views; at++) {
    const table = tableOf(at % Math.max(tables, 1), columnsPerTable);
    const names = table.columns.map(({ name }) => `t.${name}`).join(",\n    ");
    relations.push({
      ...table,
      oid: 1_000_000 + at,
      name: `v_${table.name}_${at}`,
      kind: "view",
      definition: ` SELECT ${names}\n   FROM ${table.schema}.${table.name} t\n  WHERE t.${table.columns[0]!.name} > 0;`,
      estimatedRows: -1,
    });
  }
  return {
    epoch: `big-${tables}-${columnsPerTable}-${views}-${functions}` as CatalogEpoch, // a test's own
    protocol: "postgres",
    serverVersion: 180_000,
    relations,
    functions: Array.from({ length: functions }, (_, at) => ({
      schema: "app",
      name: `calculate_${words[at % words.length]}_${at}`,
      language: "sql",
      volatility: "stable",
      kind: "function",
      body: { text: `SELECT ${words[at % words.length]} FROM app.orders_${at} WHERE id = $1`, names: "called" },
    })),
    builtinFunctions: Array.from({ length: 2_800 }, (_, at) => `builtin_${at}`),
    userOperators: [],
    userTypes: [],
  };
}

function tableOf(at: number, columns: number): CatalogRelation {
  return {
    oid: 16_384 + 4 * at,
    schema: `app_${at % 12}`,
    name: `${words[at % words.length]}_${words[(at * 7) % words.length]}_${at}`,
    kind: "table",
    system: false,
    columns: Array.from({ length: columns }, (_, column) => columnOf(at, column)),
    parents: [],
    estimatedRows: 1_000 + at,
    hiddenFunctions: at % 50 === 0 ? [`app.check_${at}`] : [],
  };
}

function columnOf(table: number, column: number): CatalogColumn {
  const word = words[(table + column) % words.length]!;
  return {
    number: column + 1,
    name: column === 0 ? "id" : column % 4 === 3 ? `${word}_${table % 500}_${column}` : `${word}_${column}`,
    typeOid: types[(table + column) % types.length]!,
  };
}
