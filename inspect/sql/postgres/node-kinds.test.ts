/**
 * No kind of the grammar is forgotten: each is a statement of the table, an expression through which a protected value is followed,
 * a part that is walked, or stands in no text. A kind that a new parser brings fails here until somebody has classified it.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseSync } from "libpg-query";
import { describe, expect, it } from "vitest";
import { commandSamples } from "./command-samples.ts";
import { clauseSamples, expressionSamples } from "./node-samples.test-fixture.ts";
import {
  analysedKinds,
  clauseKinds,
  expressionKinds,
  internalKinds,
  libraryKinds,
  mayStandInText,
  valueKinds,
} from "./node-kinds.ts";
import { statementKinds } from "./statement-kinds.ts";
import { analyse } from "./analyse.ts";
import { emptyScope } from "../scope.ts";
import { index, model, settings } from "./testing.ts";
import { forEachChild, type Parse, type Part, partOf, walk } from "./tree.ts";

/** The generated types of the parser in use: every message of its tree's schema. */
const types = readFileSync(
  createRequire(createRequire(import.meta.url).resolve("libpg-query"))
    .resolve("@pgsql/types")
    .replace(/index\.js$/, "types.d.ts"),
  "utf8",
);
const everyKind = [...types.matchAll(/^export interface (\w+) \{/gm)].map((match) => match[1]!);

function kindsOf(sql: string): ReadonlySet<string> {
  const kinds = new Set<string>();
  for (const raw of parseSync(sql).stmts ?? []) walk(partOf(raw.stmt)!, (part) => void kinds.add(part.kind));
  return kinds;
}

describe("every kind of the grammar", () => {
  it("is classified, once", () => {
    const classified = [
      ...Object.keys(statementKinds),
      ...valueKinds,
      ...expressionKinds,
      ...clauseKinds,
      ...analysedKinds,
      ...internalKinds,
      ...libraryKinds,
    ];
    expect(everyKind.length).toBeGreaterThan(250);
    expect([...classified].sort()).toEqual([...everyKind].sort());
  });

  it("that can stand in a text stands in a sample of ours", () => {
    const samples = [...commandSamples.map(({ sql }) => sql), ...Object.values(expressionSamples), ...clauseSamples];
    const seen = new Set(samples.flatMap((sql) => [...kindsOf(sql)]));
    // It wraps each statement; only in PL/pgSQL's own parser; only after analysis; only inside A_Const, without a name.
    const nowhere = ["RawStmt", "PLAssignStmt", "SetOperationStmt", "BitString"];
    const missing = [...Object.keys(statementKinds), ...valueKinds, ...expressionKinds, ...clauseKinds].filter(
      (kind) => !seen.has(kind) && !nowhere.includes(kind),
    );
    expect(missing).toEqual([]);
    expect([...seen].filter((kind) => !mayStandInText(kind))).toEqual([]);
  });

  it("makes its statement unknown where it should not stand or nobody has heard of it", () => {
    for (const kind of [...analysedKinds, ...internalKinds, "FutureExpr", "constructor"]) {
      const future: Parse = () =>
        ({
          version: 190_000,
          stmts: [{ stmt: { SelectStmt: { targetList: [{ ResTarget: { val: { [kind]: { args: [] } } } }] } } }],
        }) as unknown as ReturnType<Parse>; // a tree that no parser of today makes
      const analysis = analyse(future, "SELECT …", index, emptyScope, settings);
      expect([kind, analysis]).toMatchObject([kind, { statements: [{ class: "unknown", undecided: ["statement kind"] }] }]);
    }
  });
});

describe("every expression kind", () => {
  const withoutColumns = [
    "CurrentOfExpr",
    "ParamRef",
    "SQLValueFunction",
    "SetToDefault",
    "JsonFormat",
    "JsonReturning",
    "MergeSupportFunc",
  ];

  it.each(expressionKinds.filter((kind) => !withoutColumns.includes(kind)))("%s keeps what is below it", (kind) => {
    const sql = expressionSamples[kind]!;
    expect([...kindsOf(sql)]).toContain(kind);
    const { columns, writeFlows, influences } = model(sql);
    const found = [
      ...(columns ?? []).flatMap((column) => column.origins),
      ...writeFlows,
      ...influences.map(({ column }) => column),
    ];
    expect(found).toContain("public.customers.ssn");
  });
});

describe("walking", () => {
  /** Every object below, found without any knowledge of kinds. */
  function objectsIn(value: unknown, found: Set<object>): Set<object> {
    if (typeof value !== "object" || value === null) return found;
    if (!Array.isArray(value)) found.add(value);
    for (const inner of Object.values(value)) objectsIn(inner, found);
    return found;
  }

  /** Objects that carry no node: wrappers, values and empty ones. */
  function nodesOf(root: Part): Set<object> {
    const found = new Set<object>([root.body]);
    const visit = (part: Part): void =>
      forEachChild(part, (child) => {
        found.add(child.body);
        visit(child);
      });
    visit(root);
    return found;
  }

  const leaves = new Set<string>(valueKinds);
  const all = [...commandSamples.map(({ sql }) => sql), ...Object.values(expressionSamples), ...clauseSamples];

  it.each(all)("loses nothing of %s", (sql) => {
    for (const raw of parseSync(sql).stmts ?? []) {
      const root = partOf(raw.stmt)!;
      const visited = nodesOf(root);
      const lost = [...objectsIn(raw.stmt, new Set())].filter((object) => {
        if (visited.has(object) || Object.keys(object).length === 0) return false;
        const inner = partOf(object);
        // A wrapper's node was visited, or it is a value inside a leaf.
        return inner === undefined
          ? !isValue(object)
          : !visited.has(inner.body) && Object.keys(inner.body).length > 0 && !leaves.has(inner.kind);
      });
      expect(lost).toEqual([]);
    }
  });

  /** `{ sval: "x" }` and its kin, the insides of constants. */
  function isValue(object: object): boolean {
    return Object.keys(object).every((key) => ["ival", "fval", "sval", "bsval", "boolval", "isnull", "location"].includes(key));
  }
});
