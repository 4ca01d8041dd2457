/** Columns that keep their label by what survives a rename. */
import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { ClassifierSpec, ColumnBindings } from "@sluice/core/snapshot.ts";
import { expect, it } from "vitest";
import { flatLabels } from "./flat-labels.ts";
import { columnLabels } from "./labels.ts";

const classifier: ClassifierSpec = { name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn"] };
const bound = (changes: Partial<ColumnBindings> = {}): ColumnBindings => {
  return { resource: "orders", database: "orders", databaseOid: 5, entity: "US_SSN", columns: [20, 2], ...changes };
};

it.each([
  ["a column renamed", relation("public", "customers", "note"), bound(), ["US_SSN"]],
  ["its table renamed and moved", relation("archive", "people", "ssn2"), bound(), ["US_SSN"]],
  ["a database made anew", relation("public", "customers", "note"), bound({ databaseOid: 6 }), []],
  ["an entity that nobody names", relation("public", "customers", "note"), bound({ entity: "IBAN" }), []],
  ["another column of the table", relation("public", "customers", "note"), bound({ columns: [20, 1] }), []],
])("%s", (_, customers, binding, expected) => {
  const labels = columnLabels(flatLabels({ classifiers: [classifier], bindings: [binding] }, catalog([customers])));
  expect(labels.entitiesByOid(20, 2)).toEqual(expected);
  expect(labels.entitiesOf(`${customers.schema}.${customers.name}.${customers.columns[1]!.name}`)).toEqual(expected);
});

it("goes on to partitions, and needs no database's OID where there is nothing bound", () => {
  const parts = [relation("public", "all", "note"), { ...relation("public", "part", "note"), oid: 21, parents: [20] }];
  const labels = columnLabels(flatLabels({ classifiers: [classifier], bindings: [bound()] }, catalog(parts)));
  expect(labels.entitiesByOid(21, 2)).toEqual(["US_SSN"]);
  const { databaseOid: _, ...older } = catalog([relation("public", "customers", "ssn")]);
  expect(columnLabels(flatLabels({ classifiers: [classifier] }, older)).entitiesByOid(20, 2)).toEqual(["US_SSN"]);
});

function catalog(relations: readonly CatalogRelation[]): Catalog {
  return {
    epoch: "1" as CatalogEpoch, // a test's own
    protocol: "postgres",
    serverVersion: 180_000,
    relations,
    functions: [],
    builtinFunctions: [],
    userOperators: [],
    userTypes: [],
    databaseOid: 5,
  };
}

function relation(schema: string, name: string, column: string): CatalogRelation {
  const columns = [
    { number: 1, name: "id", typeOid: 23 },
    { number: 2, name: column, typeOid: 25 },
  ];
  return { oid: 20, schema, name, kind: "table", system: false, columns, parents: [], estimatedRows: 1, hiddenFunctions: [] };
}
