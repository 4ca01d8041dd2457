/** What cannot be known to be harmless: functions, operators, types, triggers, foreign tables, names nobody made. */
import { describe, expect, it } from "vitest";
import { model } from "./testing.ts";

describe("undecided", () => {
  it.each([
    ["SELECT upper('x'), pg_catalog.upper('x')", ""],
    ["SELECT leak('x')", "function public.leak"],
    ["SELECT public.leak('x')", "function public.leak"],
    ["SELECT nobody('x')", "function nobody"],
    ["SELECT pg_temp.f('x')", "function pg_temp.f"],
    ["SELECT pg_catalog.nobody('x')", "function pg_catalog.nobody"],
    // A function of the same name elsewhere may come first on the search_path.
    ["SELECT lower('x')", "function evil.lower"],
    ["SELECT pg_catalog.lower('x')", ""],
    ["SELECT safe('x')", ""],
    ["SELECT public.safe('x')", ""],
    ["SELECT other.safe('x')", "function other.safe"],
    ["SELECT * FROM leak('x')", "function public.leak"],
    ["SELECT 1 FROM customers WHERE leak(name) = 'x'", "function public.leak"],
    ["SELECT count(*) FILTER (WHERE leak(name) = 'x') FROM customers", "function public.leak"],
    ["SELECT 1 ORDER BY leak('x')", "function public.leak"],
    ["SELECT CASE WHEN leak('x') = '' THEN 1 END", "function public.leak"],
    ["SELECT (SELECT leak('x'))", "function public.leak"],
    ["WITH w AS (SELECT leak('x')) SELECT 1", "function public.leak"],
    ["INSERT INTO countries VALUES (leak('x'))", "function public.leak"],
    ["CREATE TABLE t2 (a text DEFAULT leak('x'))", "function public.leak"],
    ["CREATE INDEX ON customers (leak(name))", "function public.leak"],
    ["EXPLAIN SELECT leak('x')", "function public.leak"],
    ["COPY (SELECT leak('x')) TO STDOUT", "function public.leak"],
    ["PREPARE p AS SELECT leak('x')", "function public.leak"],
    ["SELECT x FROM odd", "function public.leak"],
    ["SELECT c.leak FROM customers c", "function public.leak"],
    ["SELECT (c).leak FROM customers c", "function public.leak"],
    ["SELECT ssn(c) FROM customers c", ""],
    ["SELECT nobody(c) FROM customers c", "function nobody"],
    ["CALL leak('x')", "function public.leak"],
    ["CALL safe_procedure('x')", ""],
    ["CALL safe_procedure(leak('x'))", "function public.leak"],
    ["DO $$BEGIN END$$", "DO"],
    ["SELECT * FROM customers TABLESAMPLE bernoulli (10)", ""],
    ["SELECT * FROM customers TABLESAMPLE custom (10)", "function custom"],
    // operators
    ["SELECT 1 FROM customers WHERE name ~~~ 'x'", "operator ~~~"],
    ["SELECT name OPERATOR(public.~~~) 'x' FROM customers", "operator ~~~"],
    ["SELECT name OPERATOR(pg_catalog.~~) 'x' FROM customers", ""],
    ["SELECT 1 FROM customers ORDER BY name USING ~~~", "operator ~~~"],
    ["SELECT name ~~~ ANY (SELECT code FROM countries) FROM customers", "operator ~~~"],
    // types
    ["SELECT 'x'::zip", "type public.zip"],
    ["SELECT CAST('x' AS public.vector)", "type public.vector"],
    ["SELECT '{x}'::zip[]", "type public.zip"],
    ["SELECT 'sad'::mood", ""],
    ["SELECT null::address", ""],
    ["PREPARE p (zip) AS SELECT $1", "type public.zip"],
    ["SELECT * FROM json_to_record('{}') AS t(a zip)", "function json_to_record, type public.zip"],
    // hidden code
    ["INSERT INTO accounts VALUES (1)", "trigger or default function public.audit on public.accounts"],
    ["UPDATE accounts SET balance = 1", "trigger or default function public.audit on public.accounts"],
    ["COPY accounts FROM STDIN", "trigger or default function public.audit on public.accounts"],
    ["TRUNCATE accounts", "trigger or default function public.audit on public.accounts"],
    ["WITH d AS (DELETE FROM accounts) SELECT 1", "trigger or default function public.audit on public.accounts"],
    ["SELECT * FROM accounts", ""],
    // other servers
    ["SELECT secret FROM remote", "foreign table public.remote"],
    // names of the session
    ["EXECUTE p", "prepared statement p"],
    ["EXPLAIN ANALYZE EXECUTE p", "prepared statement p"],
    ["FETCH c", "cursor c"],
    ["MOVE c", "cursor c"],
    ["CREATE TABLE t2 AS EXECUTE p", "prepared statement p"],
    // naming is not using
    ["DROP FUNCTION leak(text)", ""],
    ["DROP TYPE zip", ""],
    ["COMMENT ON FUNCTION leak(text) IS 'x'", ""],
    ["GRANT EXECUTE ON FUNCTION leak(text) TO x", ""],
    ["SELECT x FROM nowhere", ""],
  ])("%s", (sql, expected) => {
    expect(model(sql).undecided.join(", ")).toBe(expected);
  });

  it("takes declarations of the resource into account", () => {
    const declared = {
      safeFunctions: ["public.safe", "public.leak", "evil.lower", "operator ~~~", "type public.zip", "public.audit"],
    };
    const sql = "INSERT INTO accounts SELECT leak(lower('x'::zip)) WHERE 'a' ~~~ 'b'";
    expect(model(sql, undefined, declared).undecided).toEqual([]);
    expect(model(sql).undecided).toHaveLength(5);
  });
});

describe("relations", () => {
  it.each([
    ["SELECT 1 FROM customers", "public.customers:read"],
    ["SELECT 1 FROM nested", "public.nested:read public.active_customers:read public.customers:read public.orders:read"],
    ["SELECT 1 FROM orders", "public.orders:read archive.orders:read"],
    ["SELECT 1 FROM nowhere, x.y", "nowhere:read x.y:read"],
    ["WITH customers AS (SELECT 1) SELECT * FROM customers", ""],
    ["WITH a AS (SELECT 1 FROM countries) SELECT * FROM a", "public.countries:read"],
    ["WITH customers AS (SELECT 1) SELECT 1 FROM public.customers", "public.customers:read"],
    ["WITH customers AS (SELECT 1 FROM customers) SELECT 1 FROM customers", "public.customers:read"],
    ["SELECT 1 FROM (WITH customers AS (SELECT 1) SELECT 1) s, customers", "public.customers:read"],
    ["WITH customers AS (SELECT 1) DELETE FROM customers", "public.customers:write"],
    ["INSERT INTO countries SELECT code FROM countries", "public.countries:write public.countries:read"],
    ["UPDATE countries SET code = 'x' FROM customers", "public.countries:write public.customers:read"],
    ["DELETE FROM active_customers", "public.active_customers:write public.customers:write"],
    ["MERGE INTO countries t USING customers s ON true WHEN MATCHED THEN DELETE", "public.countries:write public.customers:read"],
    ["EXPLAIN DELETE FROM countries", "public.countries:read"],
    ["COPY countries FROM STDIN", "public.countries:write"],
    ["COPY countries TO STDOUT", "public.countries:read"],
    ["TRUNCATE countries, customers", "public.countries:write public.customers:write"],
    ["SELECT 1 FROM countries c FOR UPDATE OF c", "public.countries:read"],
    ["CREATE TABLE t2 AS SELECT 1 FROM countries", "public.countries:read t2:ddl"],
    ["ALTER TABLE countries ADD x int", "public.countries:ddl"],
    ["DROP TABLE countries, archive.orders", "public.countries:ddl archive.orders:ddl"],
    ["DROP TRIGGER t ON customers", "public.customers:ddl"],
    ["COMMENT ON COLUMN customers.ssn IS 'x'", "public.customers:ddl"],
    ["GRANT SELECT (ssn) ON customers TO x", "public.customers:ddl"],
    ["CREATE INDEX ON customers (ssn)", "public.customers:ddl"],
    ["CREATE VIEW v2 AS SELECT 1 FROM customers", "v2:ddl public.customers:read"],
    ["SELECT 1 WHERE EXISTS (SELECT 1 FROM customers)", "public.customers:read"],
    ["SELECT relname FROM pg_class", "pg_catalog.pg_class:read"],
  ])("%s", (sql, expected) => {
    const uses = model(sql).relations.map(({ name, access }) => `${name}:${access}`);
    expect(uses.sort()).toEqual(expected === "" ? [] : expected.split(" ").sort());
  });

  it("reaches all members of a family, from any of them", () => {
    const members = ["events", "events_2024", "events_2025"].flatMap((name) =>
      ["at", "id", "secret", "who"].map((column) => `public.${name}.${column}`),
    );
    expect(model("SELECT id FROM events").reaches).toEqual(members.sort());
    expect(model("SELECT id FROM events_2024").reaches).toEqual(members);
    expect(model("SELECT pid FROM staff").reaches).toContain("public.people.pid");
    expect(model("SELECT id FROM nested").reaches).toContain("public.customers.notes");
    expect(model("SELECT x FROM nowhere").reaches).toEqual(["*"]);
    expect(model("SELECT x FROM broken").reaches).toContain("*");
    expect(model("CREATE TABLE t2 (a int)").reaches).toEqual([]);
  });
});
