/** Samples that the tests of this folder share: a catalog, principals, statements. Nothing of the product imports it. */
import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import type { CatalogEpoch, DecisionId } from "@sluice/core/ids.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { Snapshot } from "@sluice/core/snapshot.ts";
import type { StatementModel } from "../sql/model.ts";
import { compileSnapshot } from "./compile.ts";
import type { SessionFacts } from "./conditions.ts";
import type { DecideInput } from "./input.ts";
import { labelColumns } from "./labels.ts";

export const TEXT = 25;
export const INT4 = 23;

/** Columns as `name` (text) or `name:typeOid`. */
export function relation(
  oid: number,
  name: string,
  columns: readonly string[],
  more: Partial<CatalogRelation> = {},
): CatalogRelation {
  const [schema = "", table = ""] = name.split(".");
  return {
    oid,
    schema,
    name: table,
    kind: "table",
    system: false,
    columns: columns.map((column, index) => {
      const [columnName = "", typeOid = `${TEXT}`] = column.split(":");
      return { number: index + 1, name: columnName, typeOid: Number(typeOid) };
    }),
    parents: [],
    estimatedRows: 100,
    hiddenFunctions: [],
    ...more,
  };
}

export function catalogOf(relations: readonly CatalogRelation[]): Catalog {
  return {
    epoch: "sample" as CatalogEpoch, // a sample needs no real hash
    protocol: "postgres",
    serverVersion: 150_018,
    relations,
    functions: [],
    builtinFunctions: [],
    userOperators: [],
    userTypes: [],
  };
}

export const shopCatalog: Catalog = catalogOf([
  relation(100, "public.customers", [`id:${INT4}`, "name", "email", "ssn", "card"]),
  relation(101, "public.orders", [`id:${INT4}`, `customer_id:${INT4}`, "note"]),
  relation(102, "public.totals", [`day:1082`, `amount:1700`]),
]);

export function principal(over: Partial<Principal> = {}): Principal {
  return {
    subject: "planner",
    issuer: "https://login.example.com",
    groups: ["agents"],
    kind: "agent",
    owner: "ann",
    task: "t1",
    claims: { team: "core", level: 3, tags: ["a", "b"] },
    ...over,
  };
}

export const session: SessionFacts = {
  id: "s_1",
  clientAddress: "127.0.0.1",
  application: "psql",
  startedAtMs: Date.UTC(2026, 0, 2, 8),
  declared: { purpose: "test" },
};

/** A plain `SELECT id FROM public.orders WHERE id = 1`, with what differs. */
export function statement(over: Partial<StatementModel> = {}): StatementModel {
  return {
    class: "read",
    effects: [{ name: "select", class: "read" }],
    relations: [{ name: "public.orders", access: "read" }],
    influences: [],
    bulkExport: false,
    bulkShape: false,
    bulkRelations: [],
    hasWhere: true,
    limit: null,
    undecided: [],
    columns: [{ name: "id", origins: ["public.orders.id"], exact: true }],
    columnsKnown: true,
    writeFlows: [],
    reaches: ["public.orders.id", "public.orders.customer_id", "public.orders.note"],
    sensitiveCatalogs: [],
    escapes: [],
    settings: [],
    scopeChanges: [],
    copy: "none",
    changesCatalog: false,
    ...over,
  };
}

/** A statement with one effect of this class. */
export function effectOf(
  statementClass: StatementModel["class"],
  name: string,
  over: Partial<StatementModel> = {},
): StatementModel {
  return statement({ class: statementClass, effects: [{ name, class: statementClass }], columns: null, ...over });
}

/** Input for a snapshot's first resource; throws when the snapshot does not compile, since then the sample is wrong. */
export function inputFor(snapshot: Snapshot, over: Partial<DecideInput> = {}, catalog: Catalog = shopCatalog): DecideInput {
  const { compiled, faults } = compileSnapshot(snapshot);
  const [resource] = snapshot.resources;
  if (faults.length > 0 || resource === undefined) throw new Error(`the sample snapshot is wrong: ${JSON.stringify(faults)}`);
  return {
    compiled,
    principal: principal(),
    resource,
    session,
    statement: statement(),
    text: "select id from orders where id = 1",
    labels: labelColumns(snapshot.classifiers, catalog),
    nowMs: Date.UTC(2026, 0, 2, 9),
    decisionId: "d_1" as DecisionId, // a sample needs no randomness
    ...over,
  };
}
