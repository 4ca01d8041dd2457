/** What an analysis says once its catalog may have changed: never less than before, and nothing at all of what it rests on. */
import { describe, expect, it } from "vitest";
import { catalog, model } from "./postgres/testing.ts";
import { applyScopeChange, emptyScope } from "./scope.ts";
import { unsure, unsureAnalysis, unsureScope } from "./unsure.ts";

describe("an analysis in doubt", () => {
  it("no longer trusts names, operators or counts", () => {
    const read = unsure(model("SELECT count(ssn) FROM customers WHERE ssn = $1"));
    expect(read.columns).toEqual([{ name: "count", origins: ["*"], exact: false }]);
    expect(read.influences).toEqual([{ column: "public.customers.ssn", form: "other" }]);
    expect(read.reaches).toContain("*");
    expect(read.writeFlows).toEqual([]);
  });

  it("takes what reads and writes for a flow of anything, and only that", () => {
    expect(unsure(model("INSERT INTO countries SELECT 1, count(ssn)::text FROM customers")).writeFlows).toEqual(["*"]);
    expect(unsure(model("CREATE TABLE t2 AS SELECT count(ssn) FROM customers")).writeFlows).toEqual(["*"]);
    expect(unsure(model("INSERT INTO countries VALUES ($1, $2)")).writeFlows).toEqual([]);
    expect(unsure(model("UPDATE countries SET label = $1 WHERE code = $2")).writeFlows).toEqual([]);
  });

  it("keeps what speaks of no relation", () => {
    for (const sql of ["SELECT 1", "SELECT now()", "SHOW search_path", "BEGIN"]) expect(unsure(model(sql))).toEqual(model(sql));
    expect(unsure(model("SELECT leak()")).columns?.[0]?.origins).toEqual(["*"]);
  });

  it("is the same object for the same object, so that verdicts on it last", () => {
    const analysis = { kind: "ok", statements: [model("SELECT id FROM customers")], epoch: catalog.epoch } as const;
    expect(unsureAnalysis(analysis)).toBe(unsureAnalysis(analysis));
  });

  it("reaches the names of a session", () => {
    let scope = applyScopeChange(emptyScope, { kind: "prepare", name: "p", model: model("SELECT name FROM customers") });
    scope = applyScopeChange(scope, { kind: "declare", name: "c", model: model("SELECT name FROM customers") });
    const aged = unsureScope(scope);
    expect([aged.prepared["p"]?.columnsKnown, aged.cursors["c"]?.columnsKnown]).toEqual([false, false]);
    expect(aged.digest).not.toBe(scope.digest);
    expect(unsureScope(emptyScope)).toBe(emptyScope);
  });
});
