import type { ClassifierSpec } from "@sluice/core/snapshot.ts";
import { describe, expect, it } from "vitest";
import { type ColumnLabels, labelColumns } from "./labels.ts";
import { catalogOf, INT4, relation, TEXT } from "./sample-input.ts";

function classifier(entity: string, over: Partial<ClassifierSpec>): ClassifierSpec {
  return { name: entity.toLowerCase(), entity, columns: [], columnNames: [], ...over };
}

function namesOf(labels: ColumnLabels): readonly string[] {
  return [...labels.labelledColumns()].map(({ qualified }) => qualified).sort();
}

describe("labelColumns", () => {
  const catalog = catalogOf([
    relation(1, "public.customers", [`id:${INT4}`, "ssn", "Home_SSN", "email"]),
    relation(2, "public.customer_view", ["ssn", "mail"], { kind: "view", definition: "SELECT ssn, email FROM public.customers" }),
    relation(3, "public.customer_copy", ["ssn"], { kind: "matview" }),
    relation(4, "hr.people", ["ssn", "badge"]),
    relation(5, "pg_catalog.pg_class", ["ssn"], { system: true }),
    relation(6, "public.remote", ["ssn"], { kind: "foreign" }),
    relation(7, "public.ssn_type", ["ssn"], { kind: "composite" }),
  ]);

  it.each([
    [["ssn"], ["hr.people.ssn", "public.customer_copy.ssn", "public.customers.ssn", "public.remote.ssn"]],
    [["*_ssn"], ["public.customers.Home_SSN"]],
    [["HOME_*"], ["public.customers.Home_SSN"]],
    [
      ["*s*n"],
      ["hr.people.ssn", "public.customer_copy.ssn", "public.customers.Home_SSN", "public.customers.ssn", "public.remote.ssn"],
    ],
    [
      ["*"],
      [
        "hr.people.badge",
        "hr.people.ssn",
        "public.customer_copy.ssn",
        "public.customers.Home_SSN",
        "public.customers.email",
        "public.customers.id",
        "public.customers.ssn",
        "public.remote.ssn",
      ],
    ],
    [["ss"], []],
    [["s*s*s*n"], []],
    [["b*dge*e"], []],
    [["b*a*dge"], ["hr.people.badge"]],
  ])("column names %j are labelled where data is stored", (columnNames, expected) => {
    expect(namesOf(labelColumns([classifier("X", { columnNames })], catalog))).toEqual(expected);
  });

  it.each([
    [["public.customers.ssn"], ["public.customers.ssn"]],
    [["PUBLIC.Customers.SSN"], ["public.customers.ssn"]],
    [["*.*.badge"], ["hr.people.badge"]],
    [["public.customer*.ssn"], ["public.customer_copy.ssn", "public.customer_view.ssn", "public.customers.ssn"]],
    [["public.*"], []],
    [["pg_catalog.*.*"], []],
  ])("column paths %j match within one part, views too", (columns, expected) => {
    expect(namesOf(labelColumns([classifier("X", { columns })], catalog))).toEqual(expected);
  });

  it("answers by name, by what the wire reports, and for whole rows", () => {
    const labels = labelColumns(
      [
        classifier("US_SSN", { columnNames: ["*ssn"] }),
        classifier("PERSON", { columns: ["public.customers.ssn"] }),
        classifier("MAIL", { columnNames: ["email"] }),
      ],
      catalog,
    );
    expect(labels.entitiesOf("public.customers.ssn")).toEqual(["PERSON", "US_SSN"]);
    expect(labels.entitiesOf("public.customers.id")).toEqual([]);
    expect(labels.entitiesByOid(1, 2)).toEqual(["PERSON", "US_SSN"]);
    expect(labels.entitiesByOid(1, 0)).toEqual(["MAIL", "PERSON", "US_SSN"]);
    expect(labels.entitiesByOid(99, 1)).toEqual([]);
    expect(labels.qualifiedByOid(1, 3)).toBe("public.customers.Home_SSN");
    expect(labels.qualifiedByOid(1, 9)).toBeUndefined();
    expect([1, 2, 3, 6, 99].map((oid) => labels.isBaseTable(oid))).toEqual([true, false, false, true, false]);
    expect(labels.hasLabels).toBe(true);
    expect(
      ["hr.people", "public.customer_copy", "public.customers", "public.remote"].map((name) =>
        labels.protectedRelations.has(name),
      ),
    ).toEqual([true, true, true, true]);
    expect(
      ["public.customer_view", "pg_catalog.pg_class", "public.ssn_type", "public", "customers", "public.customers.ssn"].map(
        (name) => labels.protectedRelations.has(name),
      ),
    ).toEqual([false, false, false, false, false, false]);
    expect(labels.entitiesOfRelation("public.customers")).toEqual(["MAIL", "PERSON", "US_SSN"]);
    expect(labels.entitySets).toEqual(expect.arrayContaining([["PERSON", "US_SSN"], ["US_SSN"], ["MAIL"]]));
    expect(labels.mayHoldText("public.customers.id")).toBe(false);
    expect(labels.mayHoldText("public.customers.email")).toBe(true);
    expect(labels.mayHoldText("public.unknown.column")).toBe(true);
  });

  it("has no labels without a match", () => {
    expect(labelColumns([classifier("X", { columnNames: ["nothing"] })], catalog).hasLabels).toBe(false);
  });

  it("follows inheritance and partitions in both directions, by column name", () => {
    const family = catalogOf([
      relation(10, "public.events", ["id", "ssn"], { kind: "partitioned" }),
      relation(11, "public.events_2026", ["ssn", "id"], { parents: [10] }),
      relation(12, "public.events_2026_q1", ["id", "ssn"], { parents: [11] }),
      relation(13, "public.archive", ["ssn"], { parents: [10, 999] }),
      relation(14, "public.other", ["ssn"]),
    ]);
    for (const start of ["events", "events_2026_q1", "archive"]) {
      const labels = labelColumns([classifier("X", { columns: [`public.${start}.ssn`] })], family);
      expect(namesOf(labels)).toEqual([
        "public.archive.ssn",
        "public.events.ssn",
        "public.events_2026.ssn",
        "public.events_2026_q1.ssn",
      ]);
      expect(labels.entitiesByOid(11, 1)).toEqual(["X"]);
      expect(labels.entitiesByOid(11, 2)).toEqual([]);
    }
  });

  it("follows fields into the columns that hold them, and columns into what is generated from them", () => {
    const holding = catalogOf([
      relation(20, "public.contact", ["label", "ssn"], { kind: "composite" }),
      {
        ...relation(21, "public.wrapped", []),
        kind: "composite",
        columns: [{ number: 1, name: "inner", typeOid: 20_000, rowOf: 20 }],
      },
      {
        ...relation(22, "public.people", []),
        columns: [
          { number: 1, name: "ssn", typeOid: TEXT },
          { number: 2, name: "area", typeOid: TEXT, generatedFrom: [1] },
          { number: 3, name: "initial", typeOid: TEXT, generatedFrom: [4] },
          { number: 4, name: "name", typeOid: TEXT },
          { number: 5, name: "person", typeOid: 20_001, rowOf: 20 },
          { number: 6, name: "deep", typeOid: 20_002, rowOf: 21 },
          { number: 7, name: "other", typeOid: 20_003, rowOf: 999 },
        ],
      },
      relation(23, "public.people_1", ["ssn", "area"], { parents: [22] }),
      {
        ...relation(24, "public.seen", ["id"], { kind: "view" }),
        columns: [{ number: 1, name: "p", typeOid: 20_001, rowOf: 20 }],
      },
    ]);
    const labels = labelColumns([classifier("X", { columnNames: ["ssn"] })], holding);
    expect(namesOf(labels)).toEqual([
      "public.people.area",
      "public.people.deep",
      "public.people.person",
      "public.people.ssn",
      "public.people_1.area",
      "public.people_1.ssn",
    ]);
    expect([1, 2, 3].map((number) => labels.isGenerated(22, number))).toEqual([false, true, true]);
  });

  it("shares labels where names with dots collide", () => {
    const dottedColumn = { number: 1, name: "d.c", typeOid: 25 };
    const colliding = catalogOf([
      relation(1, "a.b", ["x"]),
      { ...relation(2, "a.b", []), columns: [dottedColumn] },
      { ...relation(3, "a.b", ["c"]), name: "b.d" },
    ]);
    const labels = labelColumns([classifier("X", { columnNames: ["c"] })], colliding);
    expect(labels.entitiesOf("a.b.d.c")).toEqual(["X"]);
    expect(["a.b", "a.b.d"].map((name) => labels.protectedRelations.has(name))).toEqual([false, true]);
    expect(labels.entitiesByOid(2, 1)).toEqual([]);
  });
});
