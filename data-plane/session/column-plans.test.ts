import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import { compileDetector } from "@sluice/inspect/dlp/detect.ts";
import { labelColumns } from "@sluice/inspect/policy/labels.ts";
import type { PrincipalMasking } from "@sluice/inspect/policy/masking.ts";
import type { OutputColumn, StatementModel } from "@sluice/inspect/sql/model.ts";
import type { FieldDescription } from "@sluice/inspect/wire/judgement.ts";
import { describe, expect, it } from "vitest";
import { stateOf } from "../upstream/catalogs.ts";
import { type ColumnPlanInput, planColumns } from "./column-plans.ts";

const TEXT = 25;
const CUSTOMERS = 16_400;
const CONTACTS = 16_410;
const PG_CLASS = 1_259;
const SEQUENCE = 16_420;
const SCRATCH = 16_430;
const SSN = "public.customers.ssn";

const relation = (
  oid: number,
  name: string,
  kind: CatalogRelation["kind"],
  columns: readonly string[],
  system = false,
): CatalogRelation => ({
  oid,
  schema: system ? "pg_catalog" : "public",
  name,
  kind,
  system,
  columns: columns.map((column, index) => ({ number: index + 1, name: column, typeOid: TEXT })),
  parents: [],
  estimatedRows: 3,
  hiddenFunctions: [],
});

const catalog: Catalog = {
  epoch: "e" as CatalogEpoch, // a test's own epoch
  protocol: "postgres",
  serverVersion: 150_000,
  relations: [
    relation(CUSTOMERS, "customers", "table", ["id", "name", "ssn"]),
    relation(CONTACTS, "contacts", "view", ["id", "contact"]),
    relation(PG_CLASS, "pg_class", "table", [], true),
    relation(SEQUENCE, "ids", "sequence", ["last_value"]),
    { ...relation(SCRATCH, "scratch", "table", ["x"]), schema: "pg_temp" },
  ],
  functions: [],
  builtinFunctions: [],
  userOperators: [],
  userTypes: [],
};
const state = stateOf(catalog, labelColumns([{ name: "ssn", entity: "US_SSN", columns: [SSN], columnNames: [] }], catalog));

const masking: PrincipalMasking = {
  protects: true,
  isProtected: (origin) => origin === SSN || origin === "*",
  maskFor: (origins, exact) => {
    if (!origins.includes(SSN) && !origins.includes("*")) return null;
    return {
      entity: "US_SSN",
      rule: "agents/mask",
      operator: exact ? { kind: "partial", keepFirst: 0, keepLast: 4 } : { kind: "redact" },
    };
  },
  detectors: [],
};

const field = (tableOid: number, columnNumber: number): FieldDescription => ({
  name: "x",
  tableOid,
  columnNumber,
  typeOid: TEXT,
  format: "text",
});
const column = (exact: boolean, ...origins: string[]): OutputColumn => ({ name: "x", origins, exact });

function planned(
  columns: readonly OutputColumn[] | null,
  fields: readonly FieldDescription[],
  more: Partial<ColumnPlanInput> = {},
): { shown: readonly (string | null)[]; disagreements: readonly string[]; unknown: boolean } {
  // Only what planning reads of a model.
  const relations: StatementModel["relations"] = [{ name: "public.customers", access: "read" }];
  const model = { columns, columnsKnown: columns !== null, relations } as StatementModel;
  const result = planColumns({ model, fields, masking, scanRules: [], state, dirty: false, ...more });
  const value = Buffer.from("521-44-9382");
  const shown = fields.map((_, index) => {
    const edit = result.plan?.[index] ?? null;
    const edited = edit === null ? undefined : edit(value, 0, value.length);
    return edited === undefined ? value.toString() : (edited?.toString() ?? null);
  });
  return { shown, disagreements: result.disagreements, unknown: result.unknownRelation };
}

describe("planColumns", () => {
  it("takes the wire's word for a base table's column, in both directions", () => {
    expect(planned([column(false, SSN, "public.customers.name")], [field(CUSTOMERS, 2)]).shown).toEqual(["521-44-9382"]);
    expect(planned([column(true, "public.customers.name")], [field(CUSTOMERS, 3)])).toEqual({
      shown: ["***-**-9382"],
      disagreements: ["x"],
      unknown: false,
    });
  });

  it("keeps to the analysis where the wire names a view, a whole row or nothing", () => {
    for (const wire of [field(CONTACTS, 2), field(CUSTOMERS, 0), field(0, 0)]) {
      expect(planned([column(false, SSN)], [wire]).shown).toEqual(["****"]);
      expect(planned([column(false, "public.customers.name")], [wire]).shown).toEqual(["521-44-9382"]);
    }
  });

  it("masks what a relation outside the catalog returns, and says that the catalog is behind", () => {
    expect(planned([column(true, "public.customers.name")], [field(99_999, 1)])).toEqual({
      shown: ["****"],
      disagreements: [],
      unknown: true,
    });
    expect(planned([column(true, "public.customers.name")], [field(CUSTOMERS, 9)]).unknown).toBe(true);
  });

  it("believes the analysis of a temporary relation only where it expects one", () => {
    for (const oid of [99_999, SCRATCH]) {
      const stored = (...origins: string[]): OutputColumn => ({ ...column(false, ...origins), temporary: true });
      expect(planned([stored()], [field(oid, 1)])).toEqual({ shown: ["521-44-9382"], disagreements: [], unknown: false });
      expect(planned([stored(SSN)], [field(oid, 1)]).shown).toEqual(["****"]);
      expect(planned([{ ...stored(SSN), exact: true }], [field(oid, 1)]).shown).toEqual(["***-**-9382"]);
      expect(planned([column(true, "public.customers.name")], [field(oid, 1)]).shown).toEqual(["****"]);
      expect(planned([stored()], [field(oid, 1)], { dirty: true }).shown).toEqual(["****"]);
    }
    expect(planned([{ ...column(false), temporary: true }], [field(CUSTOMERS, 3)])).toEqual({
      shown: ["***-**-9382"],
      disagreements: ["x"],
      unknown: false,
    });
  });

  it("clears nothing that is no table's column", () => {
    expect(planned([column(false, SSN)], [field(SEQUENCE, 1)]).shown).toEqual(["****"]);
    expect(planned([column(false)], [field(SEQUENCE, 1)]).shown).toEqual(["521-44-9382"]);
  });

  it("takes a column of another type than its origin's for a derived one", () => {
    const typed = (typeOid: number): OutputColumn => ({ ...column(true, SSN), typeOid });
    expect(planned([typed(TEXT)], [field(0, 0)]).shown).toEqual(["***-**-9382"]);
    expect(planned([typed(1_043)], [field(0, 0)]).shown).toEqual(["****"]);
    expect(planned([typed(16_999)], [field(0, 0)]).shown).toEqual(["***-**-9382"]); // a domain goes by its base type there
  });

  it("uses what is known of all columns where their number is not", () => {
    const open = (...origins: string[]): StatementModel =>
      ({ columns: [column(false, ...origins)], columnsKnown: false, relations: [] }) as unknown as StatementModel; // only what planning reads
    const fields = [field(0, 0), field(0, 0)];
    expect(planned(null, fields, { model: open() }).shown).toEqual(["521-44-9382", "521-44-9382"]);
    expect(planned(null, fields, { model: open(SSN) }).shown).toEqual(["****", "****"]);
    expect(planned(null, fields, { model: open("*") }).shown).toEqual(["****", "****"]);
  });

  it("clears system relations and system columns", () => {
    expect(planned([column(false, "*")], [field(PG_CLASS, 4)]).shown).toEqual(["521-44-9382"]);
    expect(planned([column(false, "*")], [field(CUSTOMERS, -1)]).shown).toEqual(["521-44-9382"]);
  });

  it("masks all that the wire does not prove while DDL is under way", () => {
    const clean = [column(true, "public.customers.name")];
    expect(planned(clean, [field(0, 0)], { dirty: true }).shown).toEqual(["****"]);
    expect(planned(clean, [field(CUSTOMERS, 2)], { dirty: true }).shown).toEqual(["521-44-9382"]);
    const constant = { columns: [column(false)], columnsKnown: true, relations: [] } as unknown as StatementModel; // as above
    expect(planned(null, [field(0, 0)], { dirty: true, model: constant }).shown).toEqual(["521-44-9382"]);
  });

  it("treats unknown columns as anything, and refuses another number of columns", () => {
    expect(planned(null, [field(0, 0), field(CUSTOMERS, 2)]).shown).toEqual(["****", "521-44-9382"]);
    expect(() => planned([column(true, SSN)], [field(0, 0), field(0, 0)])).toThrow("other columns");
  });

  it("shows no part of a detected value in a derived output", () => {
    const scanRules = [
      {
        detector: compileDetector("US_SSN", { kind: "builtin", detector: "US_SSN" }),
        operator: { kind: "partial", keepFirst: 0, keepLast: 4 } as const,
      },
    ];
    const clean = [column(false, "public.customers.name")];
    expect(planned(clean, [field(0, 0)], { scanRules }).shown).toEqual(["****"]);
    expect(planned(clean, [field(CUSTOMERS, 2)], { scanRules }).shown).toEqual(["***-**-9382"]);
  });

  it("plans nothing for a caller without masks", () => {
    const result = planColumns({
      model: { columns: [], columnsKnown: true } as unknown as StatementModel,
      fields: [field(0, 0)],
      masking: { ...masking, protects: false },
      scanRules: [],
      state,
      dirty: true,
    }); // only what planning reads
    expect(result.plan).toBeNull();
  });
});
