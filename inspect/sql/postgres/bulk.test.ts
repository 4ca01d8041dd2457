/** The shape of a bulk export, WHERE clauses that leave nothing out, and constant limits. */
import { describe, expect, it } from "vitest";
import { emptyScope } from "../scope.ts";
import { model } from "./testing.ts";

describe("bulk export", () => {
  it.each([
    // over the 50,000 rows of customers
    ["SELECT * FROM customers", "export public.customers"],
    ["TABLE customers", "export public.customers"],
    ["SELECT id FROM customers ORDER BY id", "export public.customers"],
    ["SELECT DISTINCT name FROM customers", "export public.customers"],
    ["SELECT name, count(*) FROM customers GROUP BY name", "export public.customers"],
    ["SELECT * FROM customers WHERE true", "export public.customers"],
    ["SELECT * FROM customers LIMIT 1001", "export public.customers"],
    ["SELECT * FROM customers LIMIT 1000000000", "export public.customers"],
    ["SELECT * FROM customers LIMIT ALL", "export public.customers"],
    ["SELECT * FROM customers LIMIT $1", "export public.customers"],
    ["SELECT * FROM customers OFFSET 10", "export public.customers"],
    ["SELECT * FROM customers ORDER BY name FETCH FIRST 5 ROWS WITH TIES", "export public.customers"],
    ["SELECT * FROM customers c JOIN countries k ON k.code = c.name", "export public.countries public.customers"],
    ["SELECT * FROM (SELECT * FROM customers) s", "export public.customers"],
    ["WITH x AS (SELECT * FROM customers) SELECT * FROM x", "export public.customers"],
    ["SELECT 1 AS x UNION ALL SELECT id FROM customers", "export public.customers"],
    ["SELECT * FROM active_customers", "export public.customers"],
    ["SELECT json_agg(c) FROM customers c", "export public.customers"],
    ["SELECT json_agg(c) FROM customers c LIMIT 1", "export public.customers"],
    ["SELECT string_agg(ssn, ',') FROM customers", "export public.customers"],
    ["SELECT array_agg(ssn) OVER () FROM customers LIMIT 1", "export public.customers"],
    ["SELECT xmlagg(xmlelement(name x, ssn)) FROM customers LIMIT 1", "export public.customers"],
    ["SELECT json_arrayagg(ssn) FROM customers LIMIT 1", "export public.customers"],
    ["SELECT (SELECT json_agg(c) FROM customers c)", "export public.customers"],
    ["SELECT ARRAY(SELECT ssn FROM customers)", "export public.customers"],
    ["SELECT j FROM (SELECT json_agg(c) AS j FROM customers c) s WHERE j IS NOT NULL", "export public.customers"],
    ["SELECT unnest(array_agg(ssn)) FROM customers LIMIT 10", "export public.customers"],
    ["WITH s AS (SELECT * FROM customers) SELECT string_agg(ssn, ',') FROM s LIMIT 1", "export public.customers"],
    ["DELETE FROM customers RETURNING *", "export public.customers"],
    ["WITH d AS (DELETE FROM customers RETURNING *) SELECT * FROM d", "export public.customers"],
    ["INSERT INTO countries SELECT name FROM customers", "export public.customers"],
    ["SELECT * FROM events", "export public.events"],
    ["SELECT * FROM archive.orders", "export archive.orders"],
    // by form, whatever the bounds
    ["COPY customers TO STDOUT", "export public.customers"],
    ["COPY countries TO STDOUT", "shape public.countries"],
    ["COPY (SELECT * FROM countries WHERE code = 'x') TO STDOUT", "shape public.countries"],
    ["CREATE TABLE t2 AS SELECT * FROM countries WHERE code = 'x'", "shape public.countries"],
    ["SELECT * INTO t2 FROM countries WHERE code = 'x'", "shape public.countries"],
    ["SELECT query_to_xml('select 1', true, true, '')", "export"],
    ["SELECT table_to_xml('customers', true, true, '')", "export"],
    // of small relations it is a shape only
    ["SELECT * FROM countries", "shape public.countries"],
    ["SELECT json_agg(c) FROM countries c", "shape public.countries"],
    ["SELECT * FROM renamed", "shape public.countries"],
    // bounded
    ["SELECT * FROM customers WHERE id = 1", ""],
    ["SELECT * FROM customers LIMIT 1000", ""],
    ["SELECT * FROM customers FETCH FIRST 5 ROWS ONLY", ""],
    ["SELECT count(*), sum(id), max(name) FROM customers", ""],
    ["SELECT n FROM customer_count", ""],
    ["SELECT json_agg(c) FROM customers c WHERE id = 1", ""],
    ["SELECT json_agg(s) FROM (SELECT * FROM customers LIMIT 10) s", ""],
    ["SELECT * FROM (SELECT * FROM customers LIMIT 10) s", ""],
    ["(SELECT id FROM customers LIMIT 5) UNION ALL (SELECT id FROM customers LIMIT 5)", ""],
    ["SELECT id FROM customers UNION ALL SELECT id FROM customers LIMIT 5", ""],
    ["SELECT * FROM pg_class", ""],
    ["COPY (SELECT relname FROM pg_class) TO STDOUT", ""],
    ["SELECT 1", ""],
    ["SELECT * FROM generate_series(1, 1000000)", ""],
    ["DELETE FROM customers", ""],
    ["UPDATE customers SET name = 'x' WHERE id = 1 RETURNING *", ""],
    ["EXPLAIN SELECT * FROM customers", ""],
    ["COPY customers FROM STDIN", ""],
    ["CREATE VIEW v2 AS SELECT * FROM customers", ""],
    // cursors and prepared statements
    ["DECLARE c CURSOR FOR SELECT * FROM customers", "export public.customers"],
    ["DECLARE c CURSOR FOR SELECT * FROM customers; FETCH 10 FROM c", "export public.customers"],
    ["DECLARE c CURSOR FOR SELECT * FROM customers; MOVE 10 FROM c", ""],
    ["DECLARE c CURSOR FOR SELECT * FROM customers WHERE id = 1; FETCH ALL FROM c", ""],
    ["PREPARE p AS SELECT * FROM customers; EXECUTE p", "export public.customers"],
  ])("%s", (sql, expected) => {
    const { bulkExport, bulkShape, bulkRelations } = model(sql);
    expect([...(bulkExport ? ["export"] : bulkShape ? ["shape"] : []), ...bulkRelations].join(" ")).toBe(expected);
  });

  it("has its bounds from the resource", () => {
    expect(model("SELECT * FROM customers", emptyScope, { bulkRowsMin: 50_000 }).bulkExport).toBe(false);
    expect(model("SELECT * FROM customers", emptyScope, { bulkRowsMin: 49_999 }).bulkExport).toBe(true);
    expect(model("SELECT * FROM customers LIMIT 50", emptyScope, { bulkLimitMax: 49 }).bulkExport).toBe(true);
  });
});

describe("hasWhere", () => {
  it.each([
    ["id = 1", true],
    ["name LIKE 'a%'", true],
    ["false", true],
    ["1 = 0", true],
    ["null", true],
    ["id = $1", true],
    ["$1 IS NULL OR id = $1", true],
    ["true AND id = 1", true],
    ["false OR id = 1", true],
    ["NOT (id = 1)", true],
    ["id IN (SELECT id FROM countries)", true],
    ["EXISTS (SELECT 1 FROM countries k WHERE k.code = name)", true],
    ["id <> id", true],
    ["true", false],
    ["1 = 1", false],
    ["'a' = 'a'", false],
    ["'a'::text = 'a'", false],
    ["NOT false", false],
    ["NOT (1 = 2)", false],
    ["1 < 2", false],
    ["2 >= 2 AND 'x' <> 'y'", false],
    ["id = 1 OR true", false],
    ["id = 1 OR 1 = 1", false],
    ["true OR id = 1", false],
    ["1 IS NOT NULL", false],
    ["null IS NULL", false],
    ["1 IS NOT DISTINCT FROM 1", false],
    ["(1 = 1) IS TRUE", false],
    ["true IS NOT FALSE", false],
    ["'t'::bool", false],
    ["'yes'::boolean", false],
    ["id = id", false],
    ["customers.name = customers.name", false],
    ["name LIKE '%'", false],
    ["name ILIKE '%%'", false],
    ["now() > '2000-01-01'", false],
    ["$1", false],
    ["$1 = $1", false],
    ["coalesce(true, id = 1)", false],
    ["EXISTS (SELECT 1)", false],
    ["(SELECT true)", false],
    ["id = 1 OR now() > '2000-01-01'", false],
  ])("WHERE %s", (condition, expected) => {
    expect(model(`SELECT 1 FROM customers WHERE ${condition}`).hasWhere).toBe(expected);
    expect(model(`DELETE FROM customers WHERE ${condition}`).hasWhere).toBe(expected);
  });

  it.each([
    ["DELETE FROM customers", false],
    ["UPDATE customers SET name = 'x'", false],
    ["SELECT id FROM customers WHERE id = 1 UNION SELECT id FROM customers", false],
    ["SELECT id FROM customers WHERE id = 1 UNION SELECT id FROM customers WHERE id = 2", true],
    ["MERGE INTO countries t USING customers s ON t.code = s.name WHEN MATCHED THEN DELETE", true],
    ["MERGE INTO countries t USING customers s ON true WHEN MATCHED THEN DELETE", false],
    ["EXPLAIN DELETE FROM customers WHERE id = 1", true],
    ["COPY (SELECT 1 FROM customers WHERE id = 1) TO STDOUT", true],
    ["SELECT 1 FROM (SELECT 1 FROM customers WHERE id = 1) s", false],
    ["BEGIN", false],
  ])("%s", (sql, expected) => {
    expect(model(sql).hasWhere).toBe(expected);
  });
});

describe("limit", () => {
  it.each([
    ["SELECT 1 LIMIT 10", 10],
    ["SELECT 1 LIMIT 0", 0],
    ["SELECT 1 LIMIT 10 OFFSET 5", 10],
    ["SELECT 1 LIMIT 10::bigint", 10],
    ["SELECT 1 LIMIT '10'", 10],
    ["SELECT 1 LIMIT 5000000000", 5_000_000_000],
    ["SELECT 1 FETCH FIRST 5 ROWS ONLY", 5],
    ["SELECT 1 FETCH FIRST ROW ONLY", 1],
    ["SELECT 1 UNION SELECT 2 LIMIT 7", 7],
    ["SELECT 1 LIMIT ALL", null],
    ["SELECT 1 LIMIT NULL", null],
    ["SELECT 1 LIMIT $1", null],
    ["SELECT 1 LIMIT 5 + 5", null],
    ["SELECT 1 FROM (SELECT 1 LIMIT 3) s", null],
    ["DELETE FROM customers", null],
    ["DECLARE c CURSOR FOR SELECT 1 LIMIT 3", 3],
    ["DECLARE c CURSOR FOR SELECT 1; FETCH 10 FROM c", 10],
    ["DECLARE c CURSOR FOR SELECT 1; FETCH ALL FROM c", null],
    ["DECLARE c CURSOR FOR SELECT 1; FETCH c", 1],
    ["DECLARE c CURSOR FOR SELECT 1; FETCH LAST FROM c", 1],
  ])("%s", (sql, expected) => {
    expect(model(sql).limit).toBe(expected);
  });
});
