/** Which expressions tell about what they are computed from although the result is masked, and which ordinary ones do not. */
import { describe, expect, it } from "vitest";
import { model, short } from "./testing.ts";

function tells(sql: string): string {
  return (model(sql).tells ?? []).map(short).join(" ");
}

const one = (expression: string): string => `SELECT ${expression} FROM customers`;

describe("expressions that tell", () => {
  it.each([
    // fail for some values
    "1 / (ascii(ssn) - 53)",
    "left(ssn, 1)::int",
    "ssn::numeric(12)",
    "ssn::regclass",
    "ascii(ssn)::int + 1",
    "-length(ssn)",
    "chr(ascii(ssn))",
    "substr(name, 1, length(ssn))",
    "repeat(ssn, 100000000)",
    "lpad('', ascii(ssn), 'x')",
    "'a' ~ ssn",
    "'a' LIKE ssn",
    "ssn LIKE '5\\'",
    "json_build_object(nullif(left(ssn, 1), '5'), 1)",
    "JSON_OBJECT(nullif(left(ssn, 1), '5') : 1)",
    "JSON_OBJECT('a' : ssn, 'b' : 1 WITH UNIQUE KEYS)",
    "format('%I', nullif(left(ssn, 1), '5'))",
    "string_to_array(ssn, '5') || '{{1,2}}'",
    "ARRAY[string_to_array(ssn, '5'), '{1,2}']",
    "array_agg(string_to_array(ssn, '5'))",
    "json_object_agg(ssn, 1)",
    "xmlparse(content ssn)",
    "JSON_VALUE(ssn, '$.a' ERROR ON ERROR)",
    "to_date(ssn, 'YYYY')",
    "set_config('a.b', ssn, false)",
    // evaluated for some values only
    "CASE WHEN ssn LIKE '5%' THEN 1 / 0 END",
    "CASE ssn WHEN 'a' THEN pg_sleep(1) END",
    "CASE WHEN id = '1' THEN 1 WHEN ssn LIKE '5%' THEN 1 WHEN name::int = 1 THEN 2 END",
    "CASE WHEN ssn LIKE '5%' THEN set_config('app.leak', 'yes', false) END",
    "CASE WHEN ssn LIKE '5%' THEN nextval('order_seq') END",
    "CASE WHEN ssn LIKE '5%' THEN substr('x', 1, -1) END",
    "CASE WHEN ssn LIKE '5%' THEN 'a' ~ '(' END",
    "coalesce(nullif(left(ssn, 1), '5'), (1 / 0)::text)",
    "ssn LIKE '5%' AND 1 / 0 = 1",
    "ssn LIKE '5%' OR pg_advisory_lock(1) IS NULL",
    "CASE WHEN ssn LIKE '5%' THEN (SELECT 1 / 0) END",
    // which the server writes as conditions joined by AND and OR
    "ssn BETWEEN 'a' AND (1 / 0)::text",
    "ssn NOT BETWEEN 'a' AND (1 / 0)::text",
    "coalesce(ssn, nextval('order_seq')::text) BETWEEN 'a' AND 'b'",
    "ssn BETWEEN SYMMETRIC (1 / 0)::text AND 'b'",
    "ssn IN ('a', (1 / 0)::text)",
    "(ssn, 1 / 0) = ('a', 1)",
    "(ssn, 1) < ('a', 1 / 0)",
    "ROW(ssn, 1) IS DISTINCT FROM ROW('a', 1 / 0)",
  ])("%s", (expression) => {
    expect(tells(one(expression))).toContain("customers.ssn");
  });

  it.each([
    "SELECT 1 / x FROM (SELECT length(ssn) AS x FROM customers) s",
    "SELECT CASE WHEN b THEN 1 / 0 END FROM (SELECT ssn LIKE '5%' AS b FROM customers) s",
    // the server may move the division into the CASE
    "SELECT CASE WHEN ssn LIKE '5%' THEN s.x END FROM customers c, LATERAL (SELECT 1 / length(c.name) AS x) s",
    "WITH w AS (SELECT left(ssn, 1)::int FROM customers) SELECT 1 FROM w",
    "SELECT (SELECT left(ssn, 1)::int FROM customers LIMIT 1)",
    "UPDATE customers SET name = 'x' RETURNING left(ssn, 1)::int",
    "PREPARE p AS SELECT left(ssn, 1)::int FROM customers",
    "DECLARE c CURSOR FOR SELECT left(ssn, 1)::int FROM customers",
  ])("%s", (sql) => {
    expect(tells(sql)).toBe(sql.includes("LATERAL") ? "customers.name customers.ssn" : "customers.ssn");
  });
});

describe("ordinary expressions", () => {
  it.each([
    "ssn",
    "ssn::int",
    "ssn::text",
    "ssn::varchar(4)",
    "upper(left(ssn, 3))",
    "substr(ssn, 1, 3)",
    "substring(ssn from 1 for 3)",
    "substring(ssn from '^[0-9]+')",
    "ssn || '-' || email",
    "coalesce(email, name, 'none')",
    "coalesce(upper(email), 'none')",
    "concat_ws(' ', name, email)",
    "format('%s <%s> 100%%', name, email)",
    "md5(ssn)",
    "encode(ssn::bytea, 'hex')",
    "length(ssn)",
    "ssn LIKE '5%'",
    "ssn ~ '^5'",
    "ssn IN ('1', '2')",
    "ssn = ANY ($1)",
    "ssn IS NULL",
    "ssn > '5' AND name = 'x'",
    "nullif(ssn, '')",
    "CASE WHEN ssn IS NULL THEN 'missing' WHEN email = '' THEN upper(name) ELSE name || '!' END",
    "CASE WHEN ssn IS NULL THEN '2026-01-01'::date END",
    "regexp_replace(ssn, '[0-9]', 'x', 'g')",
    "split_part(email, '@', 2)",
    "lpad(ssn, 20, '*')",
    "to_jsonb(customers)",
    "row_to_json(customers)::jsonb",
    "to_jsonb(customers)->>'ssn'",
    "json_build_object('a', ssn)",
    "json_agg(ssn)",
    "array_agg(upper(ssn))",
    "string_agg(ssn, ',')",
    "ROW(ssn, 1)",
    "ARRAY[ssn, email]",
    "string_to_array(ssn, '-')",
    "xmlelement(name a, ssn)",
    "(SELECT c.ssn FROM customers c LIMIT 1)",
    "EXISTS (SELECT c.ssn FROM customers c)",
    "ssn IN (SELECT c.email FROM customers c)",
    "ARRAY(SELECT c.ssn FROM customers c)",
    "(SELECT c.ssn FROM customers c WHERE c.id = customers.id)",
    "min(ssn)",
    "count(ssn)",
    "row_number() OVER ()",
    "lag(ssn) OVER ()",
    "date_trunc('month', ssn)",
    "public.safe(ssn)",
    "greatest(ssn, 'm')",
    'ssn COLLATE "C"',
  ])("%s", (expression) => {
    expect(tells(one(expression))).toBe("");
  });

  it("of whole rows: counted without a trace", () => {
    for (const arg of ["c", "c.*", "*", "c.ssn", "1"]) {
      expect(model(`SELECT count(${arg}) FROM customers c`).columns).toEqual([{ name: "count", origins: [], exact: false }]);
    }
    expect(model("SELECT count(c) FROM (SELECT nullif(ssn, '5') AS c FROM customers) c").columns?.[0]?.origins).not.toEqual([]);
  });
});
