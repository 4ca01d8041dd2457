/** Code that runs without being named: which statements it makes undecided, and which it leaves alone. */
import type { Catalog, CatalogCast, CatalogRelation } from "@sluice/core/catalog.ts";
import { parseSync } from "libpg-query";
import { describe, expect, it } from "vitest";
import { indexCatalog } from "../catalog-index.ts";
import { emptyScope } from "../scope.ts";
import { analyse } from "./analyse.ts";
import { catalog, relation, settings } from "./testing.ts";

const [MOOD, MOODS, ZIP, ZIPS, BOX, UNKNOWN] = [80_001, 80_002, 80_003, 80_004, 80_005, 80_009];
const TEXT = 25;

function typed(name: string, types: Readonly<Record<string, number>>, more: Partial<CatalogRelation> = {}): CatalogRelation {
  const columns = Object.entries(types).map(([column, typeOid], at) => ({ number: at + 1, name: column, typeOid }));
  return { ...relation(name, ""), columns, ...more };
}

const feelings = typed("feelings", { id: 23, mood: MOOD, note: TEXT });
const side = (typeOid: number, name: string, schema = "public"): CatalogCast["source"] => ({ typeOid, schema, name });
const text = side(TEXT, "text", "pg_catalog");

const given: Catalog = {
  ...catalog,
  relations: [
    ...catalog.relations,
    feelings,
    typed("listed", { id: 23, moods: MOODS }),
    typed("places", { id: 23, zip: ZIP, zips: ZIPS }),
    typed("boxes", { id: 23, box: BOX }),
    typed("odd_types", { id: 23, odd: UNKNOWN }),
    typed("guarded", { id: 23 }, { hiddenFunctions: ["public.mine"], readingFunctions: ["public.mine"] }),
    typed("ruled", { id: 23 }, { hiddenFunctions: ["rule public.ruled.also"] }),
  ],
  userTypes: [
    { schema: "public", name: "mood", kind: "enum", oid: MOOD, parts: [], code: [] },
    { schema: "public", name: "_mood", kind: "array", oid: MOODS, parts: [MOOD], code: [] },
    { schema: "public", name: "zip", kind: "domain", oid: ZIP, parts: [TEXT], code: [], checks: ["public.zip_ok"] },
    { schema: "public", name: "_zip", kind: "array", oid: ZIPS, parts: [ZIP], code: [] },
    { schema: "public", name: "box", kind: "base", oid: BOX, parts: [], code: ["public.box_out"] },
  ],
  operators: [
    { schema: "tools", name: "===", operands: [TEXT, TEXT], functions: ["tools.same"] },
    { schema: "public", name: "=", operands: [MOOD, MOOD], functions: ["public.mood_eq"] },
    { schema: "pg_catalog", name: "=#=", operands: [TEXT, TEXT], functions: ["pg_catalog.later"] },
    { schema: "public", name: ">=", operands: [23, 23], functions: ["public.ge"] },
  ],
  userCasts: [
    { source: side(MOOD, "mood"), target: text, context: "implicit", function: "public.mood_text" },
    {
      source: side(20, "int8", "pg_catalog"),
      target: side(3802, "jsonb", "pg_catalog"),
      context: "explicit",
      function: "public.big",
    },
  ],
  eventFunctions: ["public.on_ddl"],
};
const CAST = "cast from public.mood to pg_catalog.text (function public.mood_text)";
const EQUALS = "operator public.=";

function undecided(
  sql: string,
  path: readonly string[] | null = ["pg_catalog", "public"],
  safe: readonly string[] = [],
  of = given,
): readonly string[] {
  const index = indexCatalog(of, parseSync);
  const analysis = analyse(parseSync, sql, index, { ...emptyScope, path }, { ...settings, safeFunctions: safe });
  if (analysis.kind !== "ok") throw new Error(sql);
  return analysis.statements.at(-1)!.undecided;
}

describe("what is undecided", () => {
  it.each([
    ["SELECT mood, note FROM feelings", []],
    ["SELECT lower(mood) FROM feelings", [CAST]],
    ["SELECT lower(f.mood) FROM (SELECT * FROM feelings) f", [CAST]],
    ["SELECT lower(note) FROM feelings", []],
    ["SELECT to_json(f) FROM feelings f", [CAST]],
    ["SELECT lower(m) FROM feelings AS f(i, m)", [CAST]],
    ["SELECT lower('good'::mood)", [CAST]],
    ["SELECT lower(moods[1]) FROM listed", [CAST]],
    ["SELECT mood FROM feelings WHERE mood = 'good'", [CAST, EQUALS]],
    ["INSERT INTO countries (code) SELECT mood FROM feelings", [CAST]],
    ["WITH c AS (SELECT mood FROM feelings) SELECT 1 FROM c a JOIN c b USING (mood)", [CAST, EQUALS]],
    ["SELECT id FROM feelings WHERE id = 1", []],
    ["SELECT id::int8 FROM feelings", []],
    ["SELECT id::jsonb FROM feelings", ["cast from pg_catalog.int8 to pg_catalog.jsonb (function public.big)"]],
    ["SELECT jsonb '1'", ["cast from pg_catalog.int8 to pg_catalog.jsonb (function public.big)"]],
    ["SELECT id FROM feelings WHERE id BETWEEN 1 AND 2", ["operator public.>="]],
    ["SELECT note OPERATOR(tools.===) 'x' FROM feelings", ["operator tools.==="]],
    ["SELECT note === 'x' FROM feelings", []],
    ["SELECT note =#= 'x' FROM feelings", ["operator pg_catalog.=#="]],
    ["SELECT zip FROM places", []],
    ["SELECT zips FROM places", ["type public.zip"]],
    ["SELECT id::text::zip FROM places", ["type public.zip"]],
    ["INSERT INTO places (id) VALUES (1)", ["type public.zip"]],
    ["SELECT id FROM boxes", []],
    ["SELECT * FROM boxes", ["type public.box"]],
    ["SELECT box IS NULL FROM boxes", ["type public.box"]],
    ["COPY boxes TO STDOUT", ["type public.box"]],
    ["COPY (SELECT id FROM boxes) TO STDOUT", []],
    ["SELECT odd FROM odd_types", [`type with OID ${UNKNOWN}`]],
    ["SELECT 1 FROM guarded", ["row-security or generated-column function public.mine on public.guarded"]],
    ["INSERT INTO ruled VALUES (1)", ["rule public.ruled.also on public.ruled"]],
    ["SELECT id FROM ruled", []],
    ["CREATE TABLE made (id int)", ["event trigger function public.on_ddl"]],
    ["DROP TABLE countries", ["event trigger function public.on_ddl"]],
    ["SELECT 1 INTO made", ["event trigger function public.on_ddl"]],
  ])("%s", (sql, expected) => {
    expect(undecided(sql)).toEqual(expected);
  });

  it("holds in every schema where no path is known", () => {
    expect(undecided("SELECT note === 'x' FROM feelings", null)).toEqual(["operator tools.==="]);
    expect(undecided("SELECT note === 'x' FROM feelings", ["pg_catalog", "tools"])).toEqual(["operator tools.==="]);
  });

  it("is healed by what the resource declares", () => {
    expect(undecided("SELECT lower(mood) FROM feelings", undefined, ["public.mood_text"])).toEqual([]);
    expect(undecided("SELECT note OPERATOR(tools.===) 'x' FROM feelings", undefined, ["tools.same"])).toEqual([]);
    expect(undecided("SELECT note OPERATOR(tools.===) 'x' FROM feelings", undefined, ["operator tools.==="])).toEqual([]);
    expect(undecided("SELECT box FROM boxes", undefined, ["type public.box"])).toEqual([]);
    expect(undecided("SELECT box FROM boxes", undefined, ["public.box_out"])).toEqual([]);
    expect(undecided("SELECT 1 FROM guarded", undefined, ["public.mine"])).toEqual([]);
  });

  it("is whatever could be converted where the agent read no casts", () => {
    const { userCasts: _, ...older } = given;
    const unread = "casts of this database, which its agent does not read";
    expect(undecided("SELECT lower(note) FROM feelings", undefined, [], older)).toEqual([unread]);
    expect(undecided("SELECT note FROM feelings", undefined, [], older)).toEqual([]);
  });
});
