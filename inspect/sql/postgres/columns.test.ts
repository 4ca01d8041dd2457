/** Where output columns come from: every way to rename, wrap, move or rebuild a value keeps its origins. */
import { describe, expect, it } from "vitest";
import { model, outputs } from "./testing.ts";

const CUSTOMER = "customers.card, customers.email, customers.id, customers.name, customers.notes, customers.ssn";

function table(title: string, cases: readonly (readonly [sql: string, expected: string])[]): void {
  describe(title, () => {
    it.each(cases)("%s", (sql, expected) => {
      expect(outputs(sql)).toBe(expected);
    });
  });
}

table("a star among values is as many columns as its row", [
  ["SELECT * FROM countries n, LATERAL (VALUES (n.*)) v", "? *: countries.code, countries.label"],
  ["SELECT v.column2 FROM countries n, LATERAL (VALUES ('a', 'b'), (n.*)) v", "column2: countries.code, countries.label"],
  ["SELECT v.column1 FROM countries n, LATERAL (VALUES (n.*), (n.label, 'x')) v", "column1: countries.code, countries.label"],
]);

table("plain columns are exact", [
  ["SELECT ssn FROM customers", "ssn: customers.ssn!"],
  ["SELECT c.ssn FROM customers c", "ssn: customers.ssn!"],
  ["SELECT customers.ssn FROM customers", "ssn: customers.ssn!"],
  ["SELECT public.customers.ssn FROM public.customers", "ssn: customers.ssn!"],
  ["SELECT ssn AS x FROM customers", "x: customers.ssn!"],
  ["SELECT (ssn) FROM customers", "ssn: customers.ssn!"],
  ['SELECT "ssn" FROM "customers"', "ssn: customers.ssn!"],
  ['SELECT U&"\\0073sn" FROM customers', "ssn: customers.ssn!"],
  ["SELECT /* ' */ ssn -- x\n FROM customers /* /* nested */ */", "ssn: customers.ssn!"],
  ["SELECT code, label FROM countries LIMIT 3", "code: countries.code!; label: countries.label!"],
  ["TABLE countries", "code: countries.code!; label: countries.label!"],
  ["SELECT * FROM countries", "code: countries.code!; label: countries.label!"],
  ["SELECT c.*, 1 AS one FROM countries c", "code: countries.code!; label: countries.label!; one:"],
  ["SELECT * FROM countries AS t(x)", "x: countries.code!; label: countries.label!"],
  ["SELECT y FROM countries AS t(x, y)", "y: countries.label!"],
  ["SELECT ctid, xmin FROM customers", "ctid:; xmin:"],
]);

table("expressions are derived", [
  ["SELECT substr(ssn, 1, 4) FROM customers", "substr: customers.ssn"],
  ["SELECT ssn || name AS x FROM customers", "x: customers.name, customers.ssn"],
  ["SELECT ssn::text FROM customers", "ssn: customers.ssn"],
  ["SELECT CAST(ssn AS int) FROM customers", "ssn: customers.ssn"],
  ['SELECT ssn COLLATE "C" FROM customers', "ssn: customers.ssn"],
  ["SELECT CASE WHEN ssn LIKE '1%' THEN 1 ELSE 0 END FROM customers", "case: customers.ssn"],
  ["SELECT CASE ssn WHEN '1' THEN name END FROM customers", "case: customers.name, customers.ssn"],
  ["SELECT coalesce(ssn, name) FROM customers", "coalesce: customers.name, customers.ssn"],
  [
    "SELECT greatest(ssn, 'a'), nullif(name, card) FROM customers",
    "greatest: customers.ssn; nullif: customers.card, customers.name",
  ],
  ["SELECT ARRAY[ssn] FROM customers", "array: customers.ssn"],
  ["SELECT (ARRAY[ssn])[1] FROM customers", "array: customers.ssn"],
  ["SELECT ROW(ssn, 1) FROM customers", "row: customers.ssn"],
  ["SELECT ssn IS NULL FROM customers", "?column?: customers.ssn"],
  ["SELECT ssn = '1' FROM customers", "?column?: customers.ssn"],
  [
    "SELECT substring(ssn FROM 2 FOR 3), overlay(ssn placing 'x' from 1) FROM customers",
    "substring: customers.ssn; overlay: customers.ssn",
  ],
  ["SELECT extract(year FROM created_at) FROM orders", "extract: orders.created_at"],
  [
    "SELECT encode(ssn::bytea, 'base64'), reverse(ssn), md5(ssn) FROM customers",
    "encode: customers.ssn; reverse: customers.ssn; md5: customers.ssn",
  ],
  ["SELECT xmlelement(name a, ssn), xmlforest(name AS n) FROM customers", "xmlelement: customers.ssn; xmlforest: customers.name"],
  ["SELECT json_object('a': ssn), json_array(name) FROM customers", "json_object: customers.ssn; json_array: customers.name"],
  ["SELECT 1, 'x', now(), current_user, $1::int", "?column?:; ?column?:; now:; current_user:; int4:"],
  ["SELECT (VALUES (1)), (SELECT 1 AS a UNION SELECT 2)", "column1:; a:"],
  ["SELECT version(), pg_backend_pid()", "version:; pg_backend_pid:"],
]);

table("whole rows taint", [
  ["SELECT c FROM customers c", `c: ${CUSTOMER}`],
  ["SELECT customers FROM customers", `customers: ${CUSTOMER}`],
  ["SELECT row_to_json(c) FROM customers c", `row_to_json: ${CUSTOMER}`],
  ["SELECT to_jsonb(c) ->> 'name' FROM customers c", `?column?: ${CUSTOMER}`],
  ["SELECT c.row_to_json FROM customers c", `row_to_json: ${CUSTOMER}`],
  ["SELECT ssn(c) FROM customers c", `ssn: ${CUSTOMER}`],
  ["SELECT (c).ssn FROM customers c", `ssn: ${CUSTOMER}`],
  ["SELECT (c).* FROM customers c", `? *: ${CUSTOMER}`],
  ["SELECT ROW(c.*) FROM customers c", `row: ${CUSTOMER}`],
  ["SELECT c::text FROM customers c", `c: ${CUSTOMER}`],
  ["SELECT c IS NULL FROM customers c", `?column?: ${CUSTOMER}`],
  ["SELECT value FROM customers c, json_each_text(row_to_json(c))", `value: ${CUSTOMER}`],
  ["SELECT jsonb_populate_record(null::orders, to_jsonb(c)) FROM customers c", `jsonb_populate_record: ${CUSTOMER}`],
  ["SELECT x FROM (SELECT name, ssn FROM customers) x", "x: customers.name, customers.ssn"],
  ["SELECT v FROM renamed v", "v: countries.code, countries.label"],
]);

table("aggregates and windows", [
  ["SELECT count(*), count(ssn), count(DISTINCT name) FROM customers", "count:; count:; count:"],
  ["SELECT count(CASE WHEN ssn LIKE '5%' THEN 1 END) FROM customers", "count: customers.ssn"],
  ["SELECT count(nullif(left(ssn, 1), '5')) FROM customers", "count: customers.ssn"],
  ["SELECT count(x.a) FROM (SELECT CASE WHEN ssn LIKE '5%' THEN 1 END AS a FROM customers) x", "count: customers.ssn"],
  ["SELECT min(ssn), max(name) FROM customers", "min: customers.ssn; max: customers.name"],
  ["SELECT string_agg(name, ',' ORDER BY ssn) FROM customers", "string_agg: customers.name, customers.ssn"],
  ["SELECT sum(total) FILTER (WHERE status = 'x') FROM orders", "sum: orders.status, orders.total"],
  ["SELECT json_agg(c.name) FROM customers c", "json_agg: customers.name"],
  [
    "SELECT json_arrayagg(ssn), json_objectagg(name: card) FROM customers",
    "json_arrayagg: customers.ssn; json_objectagg: customers.card, customers.name",
  ],
  ["SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders", "percentile_cont: orders.total"],
  ["SELECT lag(ssn) OVER (ORDER BY id) FROM customers", "lag: customers.id, customers.ssn"],
  ["SELECT row_number() OVER (PARTITION BY name) FROM customers", "row_number: customers.name"],
  ["SELECT row_number() OVER w FROM customers WINDOW w AS (ORDER BY ssn)", "row_number:"],
]);

table("joins", [
  [
    "SELECT name, status FROM customers JOIN orders o ON o.customer_id = customers.id",
    "name: customers.name!; status: orders.status!",
  ],
  ["SELECT code FROM countries JOIN renamed r ON code = a", "code: countries.code!"],
  ["SELECT id FROM customers JOIN accounts USING (id)", "id: accounts.id, customers.id"],
  [
    "SELECT * FROM countries a JOIN countries b USING (code)",
    "code: countries.code!; label: countries.label!; label: countries.label!",
  ],
  [
    "SELECT * FROM countries NATURAL JOIN renamed",
    "code: countries.code!; label: countries.label!; a: countries.code!; b: countries.label!",
  ],
  ["SELECT j.label FROM (countries a JOIN renamed b ON true) j", "label: countries.label!"],
  ["SELECT j.y FROM (countries a JOIN renamed b ON true) j(x, y)", "y: countries.label!"],
  ["SELECT u.code FROM countries a JOIN countries b USING (code) AS u", "code: countries.code!"],
  ["SELECT a.ssn FROM customers a, customers b", "ssn: customers.ssn!"],
]);

table("subqueries and scopes", [
  ["SELECT s.x FROM (SELECT ssn AS x FROM customers) s", "x: customers.ssn!"],
  ["SELECT * FROM (SELECT substr(ssn, 1, 2) FROM customers) s(p)", "p: customers.ssn"],
  ["SELECT x FROM customers c, LATERAL (SELECT c.ssn AS x) l", "x: customers.ssn!"],
  // Without LATERAL the inner c is the outer query's, not its sibling.
  ["SELECT (SELECT s.v FROM countries c, (SELECT c.ssn AS v) s) FROM customers c", "v: customers.ssn"],
  ["SELECT (SELECT ssn FROM customers LIMIT 1)", "ssn: customers.ssn"],
  ["SELECT ARRAY(SELECT ssn FROM customers)", "array: customers.ssn"],
  ["SELECT (SELECT name) FROM customers", "name: customers.name"],
  ["SELECT EXISTS (SELECT 1 FROM customers WHERE ssn LIKE '1%')", "exists: customers.ssn"],
  ["SELECT EXISTS (SELECT 1 FROM customers WHERE ssn = $1)", "exists:"],
  [
    "SELECT (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) FROM customers c",
    "count: customers.id, orders.customer_id",
  ],
  ["SELECT 1 IN (SELECT id FROM customers)", "?column?: customers.id"],
  ["SELECT * FROM (VALUES ('a', 1)) v(x, y)", "x:; y:"],
  ["SELECT column1 FROM (VALUES ((SELECT ssn FROM customers LIMIT 1))) v", "column1: customers.ssn"],
  ["VALUES ('a'), ((SELECT card FROM customers LIMIT 1))", "column1: customers.card"],
  ["SELECT g FROM generate_series(1, 3) g", "g:"],
  ["SELECT c.name, g.g FROM countries c0, customers c, generate_series(1, 3) g", "name: customers.name!; g:"],
  ["SELECT t.x FROM customers, unnest(ARRAY[ssn]) AS t(x)", "x: customers.ssn"],
]);

table("WITH", [
  ["WITH a AS (SELECT ssn FROM customers) SELECT * FROM a", "ssn: customers.ssn!"],
  ["WITH a(x) AS (SELECT ssn FROM customers) SELECT x FROM a", "x: customers.ssn!"],
  ["WITH a AS (SELECT ssn AS v FROM customers), b AS (SELECT v || 'x' AS w FROM a) SELECT w FROM b", "w: customers.ssn"],
  ["WITH countries AS (SELECT ssn AS code FROM customers) SELECT code FROM countries", "code: customers.ssn!"],
  ["WITH countries AS (SELECT ssn AS code FROM customers) SELECT code FROM public.countries", "code: countries.code!"],
  // A WITH query does not see itself without RECURSIVE: this is the table.
  ["WITH countries AS (SELECT code FROM countries) SELECT * FROM countries", "code: countries.code!"],
  ["WITH RECURSIVE t(n) AS (SELECT ssn FROM customers UNION ALL SELECT n || 'x' FROM t) SELECT n FROM t", "n: customers.ssn"],
  [
    "WITH RECURSIVE t(a, b) AS (SELECT code, 'x' FROM countries UNION SELECT b, a FROM t) SELECT a, b FROM t",
    "a: countries.code; b: countries.code",
  ],
  [
    "WITH RECURSIVE t(a, b, c) AS (SELECT ssn, 'x', 'y' FROM customers UNION SELECT c, a, b FROM t) SELECT c FROM t",
    "c: customers.ssn",
  ],
  ["WITH d AS (DELETE FROM customers RETURNING ssn) SELECT * FROM d", "ssn: customers.ssn!"],
  [
    "WITH x AS (SELECT 1 AS one) SELECT (WITH x AS (SELECT ssn FROM customers LIMIT 1) SELECT ssn FROM x) FROM x",
    "ssn: customers.ssn",
  ],
]);

table("set operations", [
  ["SELECT ssn FROM customers UNION SELECT name FROM customers", "ssn: customers.name, customers.ssn"],
  ["SELECT ssn FROM customers UNION ALL SELECT ssn FROM customers", "ssn: customers.ssn!"],
  ["SELECT 'x' UNION ALL SELECT ssn FROM customers", "?column?: customers.ssn"],
  [
    "SELECT code, label FROM countries EXCEPT SELECT ssn, name FROM customers",
    "code: countries.code, customers.ssn; label: countries.label, customers.name",
  ],
  ["(SELECT code FROM countries) INTERSECT (SELECT a FROM renamed)", "code: countries.code!"],
]);

table("views", [
  ["SELECT id, tax_id, em FROM active_customers", "id: customers.id!; tax_id: customers.ssn!; em: customers.email"],
  ["SELECT * FROM nested", "id: customers.id!; tax_id: customers.ssn!; status: orders.status!"],
  ["SELECT n FROM customer_count", "n:"],
  ["SELECT ssn, c FROM customer_cards", "ssn: customers.ssn!; c: customer_cards.c, customers.card"],
  ["SELECT x FROM odd", "x: *, customers.name"],
  ["SELECT x FROM loop", "x: *"],
  ["SELECT x FROM broken", "x: *"],
]);

table("families, system relations, unknown names", [
  ["SELECT secret FROM events", "secret: events.secret!"],
  ["SELECT badge FROM staff", "badge: staff.badge!"],
  ["SELECT relname FROM pg_class", "relname:"],
  ["SELECT * FROM pg_catalog.pg_class", "? *:"],
  ["SELECT table_name FROM information_schema.tables", "table_name:"],
  ["SELECT query FROM pg_stat_activity", "query: *"],
  ["SELECT most_common_vals FROM pg_stats", "most_common_vals: *"],
  ["SELECT chunk_data FROM pg_toast.pg_toast_16384", "chunk_data: *"],
  ["SELECT x FROM nowhere", "x: *"],
  ["SELECT * FROM nowhere", "? *: *"],
  ["SELECT c.name, n.x FROM customers c, nowhere n", "name: customers.name!; x: *"],
  ["SELECT nothing FROM customers", "nothing: *"],
  ["SELECT status FROM orders", "status: orders.status!"],
  ["SELECT id FROM orders", "id: archive.orders.id, orders.id"],
  [
    "SELECT * FROM orders",
    "? *: archive.orders.id, archive.orders.memo, orders.created_at, orders.customer_id, orders.id, orders.status, orders.total",
  ],
  [
    "SELECT a FROM orders o(a)",
    "a: archive.orders.id, archive.orders.memo, orders.created_at, orders.customer_id, orders.id, orders.status, orders.total",
  ],
  ["SELECT status FROM public.orders", "status: orders.status!"],
  ["SELECT memo FROM archive.orders", "memo: archive.orders.memo!"],
  ["SELECT last_value FROM order_seq", "last_value:"],
  ["SELECT leak(name) FROM customers", "leak: *, customers.name"],
  ["SELECT safe(name) FROM customers", "safe: customers.name"],
  ["SELECT * FROM leak('x')", "? *: *"],
  ["SELECT pg_read_file('x')", "pg_read_file: *"],
  ["SELECT query_to_xml('select 1', true, true, '')", "query_to_xml: *"],
]);

table("statements that return rows", [
  ["INSERT INTO countries (code) VALUES ('x') RETURNING code, label", "code: countries.code!; label: countries.label!"],
  ["INSERT INTO countries (code) SELECT ssn FROM customers RETURNING code", "code: countries.code, customers.ssn"],
  ["UPDATE countries SET label = 'x' WHERE code = 'y' RETURNING *", "code: countries.code!; label: countries.label!"],
  ["UPDATE countries SET label = ssn FROM customers RETURNING label", "label: countries.label, customers.ssn"],
  ["UPDATE countries c SET label = 'x' FROM customers x RETURNING c.code, x.ssn", "code: countries.code!; ssn: customers.ssn!"],
  ["UPDATE countries SET label = 'x' RETURNING old.label, new.code", "label: countries.label!; code: countries.code!"],
  ["DELETE FROM customers USING countries WHERE false RETURNING ssn, label", "ssn: customers.ssn!; label: countries.label!"],
  ["DELETE FROM customers", "none"],
  [
    "MERGE INTO countries t USING customers s ON t.code = s.id WHEN MATCHED THEN DELETE RETURNING s.ssn, t.code",
    "ssn: customers.ssn!; code: countries.code!",
  ],
  ["COPY countries TO STDOUT", "code: countries.code!; label: countries.label!"],
  ["COPY customers (ssn, id) TO STDOUT", "ssn: customers.ssn!; id: customers.id!"],
  ["COPY (SELECT upper(ssn) FROM customers) TO STDOUT", "upper: customers.ssn"],
  ["COPY (DELETE FROM customers RETURNING ssn) TO STDOUT", "ssn: customers.ssn!"],
  ["COPY customers FROM STDIN", "none"],
  ["EXPLAIN SELECT 1 FROM countries WHERE code = 'x'", "QUERY PLAN: countries.code, countries.label"],
  ["SHOW search_path", "search_path:"],
  ["SHOW ALL", "name:; setting:; description:"],
  ["CALL leak('x')", "? *: *"],
  ["CALL safe_procedure('x')", "? *:"],
  ["SELECT ssn INTO t2 FROM customers", "none"],
  ["CREATE TABLE t2 AS SELECT ssn FROM customers", "none"],
  ["SET search_path = x", "none"],
]);

it("lists one entry for a result wider than a result can be", () => {
  const wide = model(`SELECT ${Array.from({ length: 2_000 }, () => "name").join(",")} FROM customers`);
  expect(wide.columnsKnown).toBe(false);
  expect(wide.columns).toEqual([{ name: "*", origins: ["public.customers.name"], exact: false }]);
});
