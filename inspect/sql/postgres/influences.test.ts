/** What statements use outside their output, and which uses are whole-value equality. */
import { describe, expect, it } from "vitest";
import { model, short } from "./testing.ts";

/** `column=` for equality, `column` for any other use. */
function influences(sql: string): string {
  return model(sql)
    .influences.map(({ column, form }) => `${short(column)}${form === "equality" ? "=" : ""}`)
    .join(" ");
}

const cases: readonly (readonly [sql: string, expected: string])[] = [
  ["SELECT ssn FROM customers", ""],
  // equality with a whole value
  ["SELECT 1 FROM customers WHERE ssn = $1", "customers.ssn="],
  ["SELECT 1 FROM customers WHERE ssn = '123'", "customers.ssn="],
  ["SELECT 1 FROM customers WHERE '123' = ssn", "customers.ssn="],
  ["SELECT 1 FROM customers WHERE ssn = $1::text AND name = 'x'", "customers.name= customers.ssn="],
  ["SELECT 1 FROM customers c WHERE (c.ssn = $1 AND (c.email = $2))", "customers.email= customers.ssn="],
  ["SELECT 1 FROM active_customers WHERE tax_id = $1", "customers.ssn="],
  ["SELECT 1 FROM (SELECT ssn AS x FROM customers) s WHERE x = $1", "customers.ssn="],
  ["UPDATE customers SET name = $2 WHERE ssn = $1", "customers.ssn="],
  ["DELETE FROM customers WHERE ssn = $1", "customers.ssn="],
  ["SELECT 1 FROM customers JOIN public.orders ON customers.ssn = $1", "customers.ssn="],
  ["SELECT 1 WHERE EXISTS (SELECT 1 FROM customers WHERE ssn = $1)", "customers.ssn="],
  ["INSERT INTO customers (email) VALUES ($1) ON CONFLICT (email) DO NOTHING", "customers.email="],
  // anything looser
  ["SELECT 1 FROM customers WHERE ssn LIKE '1%'", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn = $1 OR name = 'x'", "customers.name customers.ssn"],
  ["SELECT 1 FROM customers WHERE NOT ssn = $1", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn <> $1", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn > $1", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn IN ('1', '2')", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn = ANY ($1)", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn BETWEEN '1' AND '2'", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn IS NULL", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn::int = 5", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE substr(ssn, 1, 1) = '1'", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE left(ssn, 1) = $1 AND ssn = $2", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn = name", "customers.name customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn = '1' || '2'", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE (ssn = '1') = true", "customers.ssn"],
  ["SELECT 1 FROM customers WHERE ssn = $1 AND ssn LIKE '1%'", "customers.ssn"],
  ["SELECT 1 FROM (SELECT substr(ssn, 1, 1) AS x FROM customers) s WHERE x = $1", "customers.ssn"],
  ["SELECT 1 FROM active_customers WHERE em = $1", "customers.email"],
  [
    "SELECT 1 FROM customers c WHERE c IS NOT NULL AND id = 1",
    "customers.card customers.email customers.id customers.name customers.notes customers.ssn",
  ],
  ["SELECT 1 FROM customers WHERE 1 / (CASE WHEN ssn = '1' THEN 0 ELSE 1 END) = 1", "customers.ssn"],
  // joins
  ["SELECT 1 FROM customers a JOIN customers b ON a.ssn = b.ssn", "customers.ssn"],
  ["SELECT 1 FROM customers JOIN accounts USING (id)", "accounts.id customers.id"],
  ["SELECT 1 FROM customers NATURAL JOIN accounts", "accounts.id customers.id"],
  ["SELECT 1 FROM customers, (VALUES ('1')) g(v) WHERE ssn = g.v", "customers.ssn"],
  ["SELECT 1 FROM customers c, generate_series(1, c.ssn::int)", "customers.ssn"],
  // sorting and grouping, also by number and by label
  ["SELECT name FROM customers ORDER BY ssn", "customers.ssn"],
  ["SELECT ssn, name FROM customers ORDER BY 1", "customers.ssn"],
  ["SELECT ssn AS x, name FROM customers ORDER BY x DESC", "customers.ssn"],
  ["SELECT substr(ssn, 1, 1) AS name FROM customers ORDER BY name", "customers.name customers.ssn"],
  ["SELECT upper(ssn) FROM customers ORDER BY upper(ssn)", "customers.ssn"],
  ["SELECT count(*) FROM customers GROUP BY ssn", "customers.ssn"],
  ["SELECT substr(ssn, 1, 1) AS p, count(*) FROM customers GROUP BY 1", "customers.ssn"],
  ["SELECT substr(ssn, 1, 1) AS p, count(*) FROM customers GROUP BY p", "customers.ssn"],
  ["SELECT count(*) FROM customers GROUP BY ROLLUP (ssn, name)", "customers.name customers.ssn"],
  ["SELECT count(*) FROM customers GROUP BY id HAVING max(ssn) > '5'", "customers.id customers.ssn"],
  ["SELECT DISTINCT ssn FROM customers", "customers.ssn"],
  ["SELECT DISTINCT ON (ssn) name FROM customers", "customers.ssn"],
  ["SELECT count(DISTINCT ssn) FROM customers", "customers.ssn"],
  ["SELECT count(*) FILTER (WHERE ssn LIKE '1%') FROM customers", "customers.ssn"],
  ["SELECT string_agg(name, ',' ORDER BY ssn) FROM customers", "customers.ssn"],
  ["SELECT rank() OVER (ORDER BY ssn) FROM customers", "customers.ssn"],
  ["SELECT rank() OVER w FROM customers WINDOW w AS (PARTITION BY ssn)", "customers.ssn"],
  ["SELECT name FROM customers LIMIT (SELECT max(ssn)::int FROM customers)", "customers.ssn"],
  ["SELECT name FROM customers OFFSET (SELECT count(*) FROM customers WHERE ssn > '5')", "customers.ssn"],
  // set operations compare whole rows; UNION ALL does not
  ["SELECT ssn FROM customers UNION ALL SELECT name FROM customers", ""],
  ["SELECT ssn FROM customers UNION SELECT name FROM customers", "customers.name customers.ssn"],
  ["SELECT ssn FROM customers EXCEPT ALL SELECT '1'", "customers.ssn"],
  ["SELECT ssn FROM customers INTERSECT SELECT '1'", "customers.ssn"],
  // subqueries
  [
    "SELECT 1 FROM public.orders WHERE customer_id IN (SELECT id FROM customers WHERE ssn LIKE '1%')",
    "customers.id customers.ssn orders.customer_id",
  ],
  ["WITH x AS (SELECT 1 FROM customers WHERE ssn LIKE '1%') SELECT 1", "customers.ssn"],
  ["SELECT (SELECT 1 FROM customers WHERE ssn LIKE '1%')", "customers.ssn"],
  // functions that return rows: their number tells
  ["SELECT unnest(string_to_array(ssn, '-')) FROM customers", "customers.ssn"],
  ["SELECT generate_series(1, length(ssn)) FROM customers", "customers.ssn"],
  ["SELECT upper(unnest(string_to_array(ssn, '-'))) FROM customers", "customers.ssn"],
  ["SELECT unnest(ARRAY[1, 2]) FROM customers", ""],
  // data-modifying statements
  ["UPDATE countries SET label = 'x' FROM customers WHERE ssn LIKE '1%'", "customers.ssn"],
  ["DELETE FROM countries USING customers WHERE ssn > code", "countries.code customers.ssn"],
  [
    "MERGE INTO countries t USING customers s ON s.ssn = t.code WHEN MATCHED AND s.card > '4' THEN DELETE",
    "countries.code customers.card customers.ssn",
  ],
  [
    "INSERT INTO customers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE customers.ssn > '5'",
    "customers.id= customers.ssn",
  ],
  ["COPY customers FROM STDIN WHERE ssn > '5'", "customers.ssn"],
  ["EXPLAIN SELECT 1 FROM customers WHERE ssn > '5'", "customers.ssn"],
  ["DECLARE c CURSOR FOR SELECT 1 FROM customers WHERE ssn > '5'", "customers.ssn"],
  // a view's own conditions are not the caller's
  ["SELECT id FROM active_customers", ""],
  ["SELECT status FROM nested WHERE status = 'x'", "orders.status="],
  // system relations and names nobody knows
  ["SELECT 1 FROM pg_class WHERE relname ~ 'x' ORDER BY relname", ""],
  ["SELECT 1 FROM nowhere WHERE x = 1", "*"],
  ["SELECT 1 FROM customers WHERE nothing > 1", "*"],
];

describe("influences", () => {
  it.each(cases)("%s", (sql, expected) => {
    expect(influences(sql)).toBe(expected);
  });
});
