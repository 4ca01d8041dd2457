/** Texts as sessions send them: batches, prepared statements, cursors, settings, what does not parse, what clients ask by themselves. */
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { type Node, parseSync } from "libpg-query";
import { describe, expect, it } from "vitest";
import type { SessionScope } from "../model.ts";
import { applyScopeChange, emptyScope } from "../scope.ts";
import { analyse } from "./analyse.ts";
import { index, model, models, outputs, settings } from "./testing.ts";
import type { Parse } from "./tree.ts";

function after(...texts: readonly string[]): SessionScope {
  let scope = emptyScope;
  for (const text of texts) {
    scope = models(text, scope)
      .flatMap(({ scopeChanges }) => scopeChanges)
      .reduce(applyScopeChange, scope);
  }
  return scope;
}

describe("texts", () => {
  it.each(["", "   \n", ";", ";;", "-- only a comment", "/* only */"])("%j holds no statement", (text) => {
    expect(models(text)).toEqual([]);
  });

  it.each([
    ["SELECT FROM WHERE", 13],
    ["SELECT 'ééé', from x", 15],
    ["selec 1", 0],
  ])("%s does not parse", (text, position) => {
    expect(analyse(parseSync, text, index, emptyScope, settings)).toEqual({
      kind: "unparsed",
      message: expect.stringContaining("syntax error"),
      position,
    });
  });

  it("says no more than a short message of a long text", () => {
    const analysis = analyse(parseSync, `SELECT 'x' ${"/*".repeat(200)}`, index, emptyScope, settings);
    expect(analysis.kind === "unparsed" && analysis.message.length).toBe(200);
  });

  it("lets a parser's own failure through", () => {
    const broken: Parse = () => {
      throw new RangeError("Maximum call stack size exceeded");
    };
    expect(() => analyse(broken, "SELECT 1", index, emptyScope, settings)).toThrow(RangeError);
  });

  it("refuses a tree that is nested too deeply to follow", () => {
    let node: Node = { ParamRef: { number: 1 } };
    for (let at = 0; at < 8_000; at++) node = { BoolExpr: { boolop: "NOT_EXPR", args: [node] } };
    const deep: Parse = () => ({
      version: 180_004,
      stmts: [{ stmt: { SelectStmt: { targetList: [{ ResTarget: { val: node } }] } } }],
    });
    expect(() => analyse(deep, "SELECT …", index, emptyScope, settings)).toThrow(
      expect.objectContaining({ code: "statement_too_long" }),
    );
  });

  it("speaks for the epoch of its catalog", () => {
    expect(analyse(parseSync, "SELECT 1", index, emptyScope, settings)).toMatchObject({ kind: "ok", epoch: "epoch-1" });
  });

  it("gives a model that survives the way between threads", () => {
    const all = models("PREPARE p AS SELECT * FROM nested WHERE id = $1; EXECUTE p(1); COPY customers TO STDOUT");
    expect(structuredClone(all)).toEqual(all);
  });
});

describe("batches", () => {
  it("analyses every statement", () => {
    expect(models("SELECT 1; DELETE FROM customers; COMMIT").map((each) => each.class)).toEqual(["read", "write", "transaction"]);
  });

  it("no longer trusts the catalog after a statement that may change it", () => {
    const [, late] = models("ALTER TABLE countries RENAME TO c2; SELECT code FROM countries");
    expect(late).toMatchObject({ columnsKnown: false, columns: [{ origins: ["*", "public.countries.code"], exact: false }] });
    expect(late?.reaches).toContain("*");
    const [, , inserted] = models("CREATE VIEW v2 AS SELECT 1; BEGIN; INSERT INTO countries SELECT code FROM countries");
    expect(inserted?.writeFlows).toContain("*");
    const [, prepared] = models("DO 'x'; PREPARE p AS SELECT code FROM countries");
    expect(prepared?.scopeChanges[0]).toMatchObject({ kind: "prepare", model: { columnsKnown: false } });
  });

  it.each([
    ["CREATE TABLE t2 (a int)", true],
    ["GRANT SELECT ON customers TO x", true],
    ["CALL leak('x')", true],
    ["DO 'x'", true],
    ["SELECT leak('x')", true],
    ["SELECT 1", false],
    ["DELETE FROM customers", false],
    ["ANALYZE customers", false],
    ["EXPLAIN CREATE TABLE t2 AS SELECT 1", false],
  ])("%s changes the catalog: %s", (sql, expected) => {
    expect(model(sql).changesCatalog).toBe(expected);
  });
});

describe("prepared statements", () => {
  const scope = after(
    "PREPARE p AS SELECT ssn FROM customers WHERE id = $1",
    "PREPARE w AS INSERT INTO countries SELECT ssn FROM customers",
  );

  it("stand for what was prepared", () => {
    expect(model("EXECUTE p(1)", scope)).toEqual(model("SELECT ssn FROM customers WHERE id = $1"));
    expect(model("EXECUTE w", scope)).toMatchObject({ class: "write", writeFlows: ["public.customers.ssn"], columns: null });
    expect(outputs("EXECUTE p(1)", scope)).toBe("ssn: customers.ssn!");
    expect(outputs("EXPLAIN EXECUTE p(1)", scope)).toContain("customers.ssn");
    expect(model("EXPLAIN ANALYZE EXECUTE w", scope).class).toBe("write");
  });

  it("are judged with their parameters' expressions", () => {
    expect(model("EXECUTE p(nextval('order_seq'))", scope).class).toBe("write");
    expect(model("EXECUTE p(pg_read_file('x'))", scope).escapes).toEqual(["pg_read_file"]);
    expect(model("EXECUTE p(leak('x'))", scope).undecided).toEqual(["function public.leak"]);
    expect(model("EXECUTE p(set_config('search_path', 'x', false))", scope)).toMatchObject({
      class: "session",
      settings: [{ name: "search_path", value: "x", local: false }],
    });
  });

  it("carry their values into tables made from them", () => {
    expect(model("CREATE TABLE t2 AS EXECUTE p(1)", scope)).toMatchObject({
      class: "ddl",
      columns: null,
      bulkExport: true,
      writeFlows: ["public.customers.ssn"],
      undecided: [],
    });
    expect(model("CREATE TABLE t2 AS EXECUTE p(1)", scope).effects.map((effect) => effect.name)).toEqual([
      "create_table_as",
      "select",
    ]);
  });

  it("work within one text", () => {
    const [, executed, , gone] = models("PREPARE q AS SELECT card FROM customers; EXECUTE q; DEALLOCATE q; EXECUTE q");
    expect(executed?.columns).toMatchObject([{ name: "card", origins: ["public.customers.card"], exact: true }]);
    expect(gone?.undecided).toEqual(["prepared statement q"]);
  });

  it("named like what objects have by nature are unknown until made", () => {
    expect(model("EXECUTE constructor").undecided).toEqual(["prepared statement constructor"]);
    expect(model("EXECUTE __proto__").undecided).toEqual(["prepared statement __proto__"]);
    expect(model("EXECUTE __proto__", after("PREPARE __proto__ AS SELECT ssn FROM customers")).undecided).toEqual([]);
  });
});

describe("cursors", () => {
  const scope = after("DECLARE c CURSOR WITH HOLD FOR SELECT ssn FROM customers WHERE id = 1 FOR UPDATE");

  it("stand for their query", () => {
    expect(model("FETCH 5 FROM c", scope)).toMatchObject({
      class: "write",
      limit: 5,
      columns: [{ origins: ["public.customers.ssn"] }],
    });
    expect(model("FETCH 5 FROM c", after("DECLARE c CURSOR FOR SELECT 1")).class).toBe("read");
    expect(model("MOVE 5 IN c", scope).columns).toBeNull();
    expect(outputs("FETCH ALL c", after("DECLARE c CURSOR FOR SELECT ssn AS x FROM customers"))).toBe("x: customers.ssn!");
  });

  it("are closed by name, all at once, or with the session's state", () => {
    for (const text of ["CLOSE c", "CLOSE ALL", "DISCARD ALL"]) {
      expect(model("FETCH c", after("DECLARE c CURSOR FOR SELECT 1", text)).undecided).toEqual(["cursor c"]);
    }
    expect(model("FETCH c", after("DECLARE c CURSOR FOR SELECT 1", "DISCARD PLANS")).undecided).toEqual([]);
  });
});

describe("settings", () => {
  it.each([
    ["SET search_path TO a, b", [{ name: "search_path", value: "a, b", local: false }]],
    ["SET LOCAL Search_Path = 'x'", [{ name: "search_path", value: "x", local: true }]],
    ["SET standard_conforming_strings = off", [{ name: "standard_conforming_strings", value: "off", local: false }]],
    ["SET work_mem TO DEFAULT", [{ name: "work_mem", value: null, local: false }]],
    ["RESET work_mem", [{ name: "work_mem", value: null, local: false }]],
    ["RESET ALL", [{ name: "all", value: null, local: false }]],
    ["SET NAMES 'latin1'", [{ name: "client_encoding", value: "latin1", local: false }]],
    ["SET TIME ZONE 'UTC'", [{ name: "timezone", value: "UTC", local: false }]],
    ["SET SCHEMA 'x'", [{ name: "search_path", value: "x", local: false }]],
    ["SET TRANSACTION READ ONLY", [{ name: "transaction_read_only", value: "1", local: false }]],
    ["SET ROLE x", [{ name: "role", value: "x", local: false }]],
    ["SELECT set_config('Search_Path', 'x', true)", [{ name: "search_path", value: "x", local: true }]],
    ["SELECT set_config('a.b', $1, false)", [{ name: "a.b", value: null, local: false }]],
    ["SELECT set_config($1, 'x', false)", [{ name: "*", value: "x", local: false }]],
    ["SELECT 1 FROM customers WHERE pg_catalog.set_config('a', 'b', true) = ''", [{ name: "a", value: "b", local: true }]],
    ["EXPLAIN SELECT set_config('a', 'b', true)", []],
    ["SELECT 1", []],
  ])("%s", (sql, expected) => {
    expect(model(sql).settings).toEqual(expected);
  });
});

it("finds nothing amiss in what psql asks of the catalog by itself", () => {
  const text = readFileSync(new URL("./psql-describe.fixture.sql", import.meta.url), "utf8");
  const queries = text.split("-- end").filter((query) => /select/i.test(query));
  expect(queries.length).toBe(12);
  for (const query of queries) {
    expect(model(query)).toMatchObject({
      class: "read",
      undecided: [],
      escapes: [],
      sensitiveCatalogs: [],
      influences: [],
      bulkExport: false,
      bulkShape: false,
      writeFlows: [],
      reaches: [],
    });
    expect(model(query).columns?.flatMap((column) => column.origins)).toEqual([]);
  }
});

it("never loses a protected value that is handed on through any number of steps", () => {
  const wrap: readonly ((query: string) => string)[] = [
    (query) => `SELECT v FROM (${query}) s`,
    (query) => `SELECT upper(v) AS v FROM (${query}) s`,
    (query) => `WITH w AS (${query}) SELECT v FROM w`,
    (query) => `WITH RECURSIVE w(v) AS (${query} UNION SELECT v || 'x' FROM w) SELECT v FROM w`,
    (query) => `SELECT 'x' AS v UNION ALL (${query})`,
    (query) => `SELECT (SELECT max(v) FROM (${query}) s) AS v`,
    (query) => `SELECT s::text AS v FROM (${query}) s`,
    (query) => `SELECT j.v FROM countries NATURAL JOIN (${query}) j`,
    (query) => `SELECT l.v FROM (${query}) s, LATERAL (SELECT s.v) l`,
    (query) => `SELECT x AS v FROM (VALUES (ARRAY(${query}))) t(x)`,
    (query) => `SELECT to_json(s) ->> 'v' AS v FROM (${query}) s`,
    (query) => `SELECT CASE WHEN v = '1' THEN 'a' ELSE 'b' END AS v FROM (${query}) s`,
    (query) => `SELECT max(v) OVER (ORDER BY v) AS v FROM (${query}) s`,
  ];
  fc.assert(
    fc.property(fc.array(fc.nat(wrap.length - 1), { maxLength: 8 }), (steps) => {
      const query = steps.reduce((inner, step) => wrap[step]!(inner), "SELECT tax_id AS v FROM nested");
      const [column] = model(query).columns ?? [];
      expect(column?.origins).toContain("public.customers.ssn");
      expect(model(`INSERT INTO countries (code) ${query}`).writeFlows).toContain("public.customers.ssn");
    }),
    { numRuns: 100 },
  );
});
