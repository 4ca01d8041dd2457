/**
 * Two databases that differ only in protected values: whatever a masked caller sends, the bytes that come back are the same. The
 * only part left out is what is random by design (ids of decisions). Long because the list of statements is the test.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { type CustomerValues, planted, plantedOther, writersPolicy } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import {
  bind,
  describe as describeMessage,
  execute,
  parse,
  shapeOf,
  errorsOf,
  type WireMessage,
} from "./support/wire-messages.ts";

/**
 * Nothing in common with `planted`, not even lengths, order, equality or the number of words. But as little a number or a date:
 * whether a cast fails is told by its SQLSTATE, which is kept.
 */
const unlike: readonly CustomerValues[] = [
  { ssn: "x", email: "z@y.xx", card: "no card" },
  { ssn: "x", email: "z@y.xx", card: "no card" },
  { ssn: "a much longer text, with 3 words and more", email: "nobody", card: "4" },
];

const plain: readonly string[] = [
  "SELECT ssn, email, card FROM customers WHERE id < 4 ORDER BY id",
  "SELECT c.ssn AS a, c.email AS b FROM customers c WHERE c.id = 1",
  "SELECT * FROM customers WHERE id = 2",
  "SELECT x.y FROM (SELECT id, ssn AS y FROM customers) x WHERE id = 3",
  "WITH c AS MATERIALIZED (SELECT id, email FROM customers) SELECT email FROM c WHERE id = 1",
  "WITH RECURSIVE r(n, s) AS (SELECT 1, ssn FROM customers WHERE id = 1 UNION ALL SELECT n + 1, s FROM r WHERE n < 3) SELECT n, s FROM r",
  "SELECT contact FROM customer_contacts WHERE id = 1",
  'SELECT U&"\\0073sn" FROM customers WHERE id = 1',
  "SELECT t.d FROM customers t(a, b, c, d) WHERE a = 1",
  "SELECT c.name, o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.id = 1",
  "SELECT l.s FROM orders o, LATERAL (SELECT ssn AS s FROM customers c WHERE c.id = o.customer_id) l WHERE o.id < 3 ORDER BY o.id",
];

const derived: readonly string[] = [
  "substr(ssn, 1, 3)",
  "reverse(ssn)",
  "length(ssn)",
  "length(ssn)::text",
  "ssn || email",
  "md5(ssn)",
  "upper(email)",
  "ssn::bytea",
  "ssn = '521-44-9382'",
  "ssn IS NULL",
  "ssn LIKE '5%'",
  "ascii(ssn)",
  "coalesce(ssn, 'none')",
  "nullif(ssn, '521-44-9382')",
  "CASE WHEN ssn LIKE '5%' THEN NULL ELSE 'x' END",
  "CASE WHEN ssn LIKE '5%' THEN 'a' ELSE 'b' END",
  "CASE WHEN ssn LIKE '5%' THEN name END",
  "CASE WHEN ssn LIKE '5%' THEN ssn END",
  "(SELECT name WHERE ssn LIKE '5%')",
  "(SELECT ssn WHERE ssn LIKE '5%')",
  "nullif(left(ssn, 1), '5')",
  "substring(ssn from '^5.*')",
  "greatest(ssn, 'm')",
  "format('%s', ssn)",
  "concat_ws('-', id, ssn)",
  "to_json(ssn)",
  "json_build_object('s', ssn)",
  "jsonb_build_array(ssn, card)",
  "to_jsonb(customers)",
  "row_to_json(customers)",
  "customers",
  "ROW(ssn, 1)",
  "ARRAY[ssn]",
  "string_to_array(ssn, '-')",
  "(string_to_array(ssn, '-'))[4]",
  "xmlelement(name a, ssn)",
  "encode(sha256(ssn::bytea), 'hex')",
  "pg_column_size(ssn)",
  "octet_length(email)",
  "regexp_replace(ssn, '[0-9]', 'x', 'g')",
  "translate(ssn, '0123456789', 'abcdefghij')",
  'ssn COLLATE "C"',
  "ssn::char(3)",
  "ssn::varchar",
  "(SELECT max(ssn) FROM customers)",
  "EXISTS (SELECT 1 FROM customers c WHERE c.ssn LIKE '5%')",
  "(SELECT count(*) FROM customers c WHERE c.ssn > '5')",
  "first_value(ssn) OVER ()",
  "row_number() OVER (ORDER BY ssn)",
  "lag(ssn) OVER (ORDER BY id)",
  "set_config('app.leak', ssn, false)",
  "pg_notify('leak', ssn)",
  "lo_from_bytea(0, ssn::bytea)",
  "quote_literal(ssn)",
  "to_tsvector('simple', ssn)",
  "repeat('x', length(ssn))",
  "lpad('', ascii(ssn), 'x')",
];

const shapes: readonly string[] = [
  "SELECT min(ssn), max(email), count(ssn), count(*) FROM customers",
  "SELECT string_agg(ssn, ',') FROM customers WHERE id < 3",
  "SELECT array_agg(id ORDER BY ssn) FROM customers WHERE id < 4",
  "SELECT string_agg(name, ',' ORDER BY email) FROM customers WHERE id < 4",
  "SELECT count(*) FILTER (WHERE ssn LIKE '5%') FROM customers",
  "SELECT count(DISTINCT ssn) FROM customers",
  "SELECT DISTINCT ssn FROM customers WHERE id < 4",
  "SELECT DISTINCT ON (ssn) id FROM customers WHERE id < 4",
  "SELECT count(*) FROM customers GROUP BY ssn",
  "SELECT count(*) FROM customers GROUP BY left(ssn, 1) HAVING count(*) > 1",
  "SELECT max(id) FROM customers HAVING max(ssn) > '6'",
  "SELECT id FROM customers WHERE id < 4 ORDER BY ssn",
  "SELECT id, ssn FROM customers WHERE id < 4 ORDER BY 2",
  "SELECT id, ssn AS k FROM customers WHERE id < 4 ORDER BY k",
  "SELECT id FROM customers WHERE ssn LIKE '5%'",
  "SELECT id FROM customers WHERE ssn > '5'",
  "SELECT id FROM customers WHERE left(ssn, 1) = '5'",
  "SELECT id FROM customers WHERE length(ssn) = 11",
  "SELECT id FROM customers WHERE ssn ~ '^5'",
  "SELECT id FROM customers WHERE (customers).ssn LIKE '5%'",
  "SELECT id FROM customers WHERE customers::text LIKE '%521-%'",
  "SELECT id FROM customers c WHERE to_jsonb(c)->>'ssn' LIKE '5%'",
  "SELECT id FROM customer_contacts WHERE contact LIKE 'g%'",
  "SELECT id FROM customers WHERE CASE WHEN ssn LIKE '5%' THEN true ELSE false END",
  "SELECT id FROM customers WHERE id = 1 AND exists(SELECT 1 FROM customers d WHERE d.ssn LIKE '5%')",
  "SELECT a.id FROM customers a JOIN customers b ON a.ssn < b.ssn WHERE a.id < 9",
  "SELECT a.id FROM customers a JOIN customers b USING (ssn) WHERE a.id < 9",
  "SELECT a.id FROM customers a NATURAL JOIN (SELECT ssn FROM customers) b WHERE a.id < 9",
  "SELECT ssn FROM customers WHERE id = 1 UNION SELECT ssn FROM customers WHERE id = 2",
  "SELECT ssn FROM customers WHERE id = 1 EXCEPT SELECT '521-44-9382'",
  "SELECT ssn FROM customers WHERE id = 1 UNION ALL SELECT 'x'",
  "SELECT generate_series(1, length(ssn)) FROM customers WHERE id = 1",
  "SELECT 1 FROM customers c, generate_series(1, length(c.ssn)) WHERE c.id = 1",
  "SELECT 1 FROM customers c, LATERAL unnest(string_to_array(c.ssn, '-')) WHERE c.id = 1",
  "SELECT id, unnest(string_to_array(ssn, '-')) FROM customers WHERE id = 1",
  "SELECT id, regexp_split_to_table(ssn, '') FROM customers WHERE id = 1",
  "SELECT id, regexp_matches(ssn, '^5', 'g') FROM customers WHERE id < 4",
  "SELECT id, json_array_elements_text(to_json(string_to_array(ssn, '-'))) FROM customers WHERE id = 1",
  "SELECT id FROM big WHERE id < 100 LIMIT (SELECT length(ssn) FROM customers WHERE id = 1)",
  "SELECT id FROM big WHERE id < 30 OFFSET (SELECT ascii(ssn) FROM customers WHERE id = 1)",
  "SELECT id FROM big WHERE id = (SELECT length(ssn) FROM customers WHERE id = 1)",
  "SELECT id FROM big WHERE id IN (SELECT ascii(substr(ssn, n, 1)) FROM customers, generate_series(1, 9) n)",
  "VALUES ((SELECT ssn FROM customers WHERE id = 1))",
  "SELECT * FROM (VALUES (1, (SELECT ssn FROM customers WHERE id = 1))) v",
  "SELECT * FROM json_each_text((SELECT to_json(c) FROM customers c WHERE id = 1))",
  "SELECT * FROM json_populate_record(NULL::customers, (SELECT to_json(c) FROM customers c WHERE id = 1))",
  "SELECT ssn(customers) FROM customers WHERE id = 1",
  "SELECT (SELECT c FROM customers c WHERE id = 1).ssn",
  "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM customers",
  "SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM customers",
  "SELECT count(CASE WHEN ssn LIKE '5%' THEN 1 END) FROM customers",
  "SELECT count(nullif(left(ssn, 1), '5')) FROM customers",
  "SELECT count(substring(ssn from '^5')) FROM customers",
  "SELECT count(*) OVER (PARTITION BY left(ssn, 1)) FROM customers WHERE id < 4",
  "SELECT rank() OVER (ORDER BY email) FROM customers WHERE id < 4",
  "SELECT count(*) OVER w FROM customers WHERE id < 4 WINDOW w AS (ORDER BY ssn)",
  "SELECT sum(id) FILTER (WHERE ssn LIKE '5%') FROM customers",
  "SELECT sum(CASE WHEN ssn LIKE '5%' THEN 1 ELSE 0 END) FROM customers",
  "SELECT bool_or(ssn LIKE '5%') FROM customers",
  "WITH x AS (SELECT id, ssn LIKE '5%' AS b FROM customers) SELECT id FROM x WHERE b",
  "SELECT id FROM (SELECT id, left(ssn, 1) AS l FROM customers) t WHERE l = '5'",
  "SELECT id FROM (SELECT id, left(ssn, 1) AS l FROM customers) t WHERE id < 4 ORDER BY l",
  "SELECT id, left(ssn, 1) AS l FROM customers WHERE id < 4 ORDER BY l",
  "SELECT count(*) FROM (SELECT DISTINCT left(ssn, 1) FROM customers) t",
  "SELECT count(*) FROM (SELECT id FROM customers WHERE ssn LIKE '5%') t",
  "SELECT c.id FROM customers c JOIN (VALUES ('521-44-9382'), ('457-55-5462')) v(s) ON c.ssn = v.s",
  "SELECT c.id FROM customers c, (VALUES ('521-44-9382')) v(s) WHERE c.ssn = v.s",
  "SELECT c.id FROM customers c LEFT JOIN orders o ON c.ssn LIKE '5%' AND o.id = c.id WHERE c.id < 4",
  "SELECT o.id FROM customers c LEFT JOIN orders o ON o.id = c.id AND left(c.ssn, 1) = '5' WHERE c.id < 4",
  "SELECT 1 WHERE (SELECT ssn FROM customers WHERE id = 1) LIKE '5%'",
  "SELECT id FROM customers WHERE ssn = name",
  "SELECT id FROM customers WHERE ssn <> 'x'",
  "SELECT id FROM customers WHERE ssn BETWEEN '5' AND '6'",
  "SELECT id FROM customers WHERE NOT ssn = '521-44-9382'",
  "SELECT id FROM customers WHERE ssn IS DISTINCT FROM '521-44-9382'",
  "SELECT id FROM customers WHERE starts_with(ssn, '5')",
  "SELECT id FROM customers WHERE ssn ^@ '5'",
  "SELECT id FROM customers WHERE (ssn, id) > ('5', 0)",
  "SELECT id FROM customers WHERE id = ascii(ssn) - 52",
  "SELECT id FROM customers WHERE strpos(ssn, '5') = 1",
  "SELECT id FROM customers WHERE ssn SIMILAR TO '5%'",
  "SELECT id FROM customers WHERE ssn LIKE ANY (ARRAY['5%'])",
  "SELECT id FROM customers WHERE 'x' < ALL (SELECT ssn FROM customers)",
  "SELECT id FROM customers WHERE id IN (SELECT id FROM customers WHERE ssn > '5')",
  "SELECT id FROM customers c WHERE EXISTS (SELECT c.ssn INTERSECT SELECT '521-44-9382')",
  "SELECT id FROM customers WHERE jsonb_path_exists(to_jsonb(customers), '$.ssn ? (@ starts with \"5\")')",
  "SELECT generate_subscripts(string_to_array(ssn, '-'), 1) FROM customers WHERE id = 1",
  "SELECT * FROM ROWS FROM (generate_series(1, (SELECT length(ssn) FROM customers WHERE id = 1))) r",
  "SELECT * FROM XMLTABLE('/a' PASSING (SELECT xmlelement(name a, ssn) FROM customers WHERE id = 1) COLUMNS s text PATH '.')",
  "SELECT count(*) FROM generate_series(1, (SELECT ascii(ssn) FROM customers WHERE id = 1))",
  "SELECT id FROM big WHERE id < 9 FETCH FIRST (SELECT CASE WHEN ssn LIKE '5%' THEN 1 ELSE 2 END FROM customers WHERE id = 1) ROWS ONLY",
  "SELECT id FROM customers WHERE id < 4 ORDER BY CASE WHEN ssn LIKE '5%' THEN 0 ELSE 1 END, id",
  "SELECT num_nonnulls(nullif(left(ssn, 1), '5')) FROM customers WHERE id = 1",
  "SELECT count(*) FROM customers GROUP BY ROLLUP (ssn)",
  "SELECT id FROM customers TABLESAMPLE bernoulli((SELECT 100 * (ssn LIKE '5%')::int FROM customers WHERE id = 1)) WHERE id < 4",
  "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT length(ssn) FROM customers WHERE id = 1)) SELECT n FROM r",
];

const texts: readonly string[] = [
  "SELECT ssn::int FROM customers WHERE id = 1",
  "SELECT email::date FROM customers WHERE id = 1",
  "SELECT ssn::jsonb FROM customers WHERE id = 1",
  "SELECT id FROM customers WHERE ssn::int = 5",
  "SELECT card::uuid FROM customers WHERE id = 2",
  "EXPLAIN SELECT id FROM customers WHERE id = 1",
  "EXPLAIN (VERBOSE) SELECT ssn FROM customers WHERE ssn = '521-44-9382'",
  "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) SELECT ssn FROM customers WHERE id = 1",
  "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) SELECT id FROM customers WHERE ssn LIKE '5%'",
  "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename = 'customers'",
  "SELECT stavalues1::text FROM pg_statistic WHERE starelid = 'customers'::regclass",
  "SELECT query_to_xml('SELECT ssn FROM customers', true, true, '')",
  "SELECT table_to_xml('customers', true, true, '')",
  "SELECT database_to_xml(true, true, '')",
  "SELECT ts_stat('SELECT to_tsvector(ssn) FROM customers')",
  "SELECT current_setting('app.leak', true)",
  "COPY customers (id, name, ssn, email, card) TO STDOUT",
  "COPY (SELECT ssn FROM customers WHERE id = 1) TO STDOUT",
  "DO $$ DECLARE s text; BEGIN SELECT ssn INTO s FROM customers WHERE id = 1; RAISE NOTICE '%', s; END $$",
  "PREPARE leak AS SELECT ssn FROM customers WHERE id = $1",
  "EXECUTE leak(1)",
  "EXECUTE leak('x')",
  "DEALLOCATE leak",
  "BEGIN",
  "DECLARE cur CURSOR FOR SELECT ssn, upper(email) FROM customers WHERE id < 4 ORDER BY id",
  "FETCH 2 FROM cur",
  "MOVE 1 FROM cur",
  "SAVEPOINT s",
  "SELECT ssn::int FROM customers WHERE id = 1",
  "ROLLBACK TO s",
  "SELECT ssn FROM customers WHERE id = 1 FOR UPDATE",
  "ROLLBACK",
];

/** Each runs in a transaction of its own that is rolled back. */
const writes: readonly string[] = [
  "UPDATE customers SET balance = -1 WHERE id = 1",
  "UPDATE customers SET name = NULL WHERE id = 1",
  "UPDATE customers SET name = 'n' WHERE id = 1 RETURNING ssn, upper(email), name",
  "UPDATE customers SET name = ssn WHERE id = 1",
  "UPDATE customers SET name = (SELECT email FROM customers WHERE id = 2) WHERE id = 1 RETURNING name",
  "UPDATE customers SET name = 'hit' WHERE ssn LIKE '5%'",
  "DELETE FROM customers WHERE ssn LIKE '5%'",
  "DELETE FROM customers WHERE id = 3",
  "INSERT INTO customers SELECT * FROM customers WHERE id = 1",
  "INSERT INTO customers (id, name, balance) SELECT id, name, balance FROM customers WHERE id = 1",
  "INSERT INTO customers (id, name, ssn, balance) VALUES (1, 'x', '1', 1) ON CONFLICT (id) DO UPDATE SET name = customers.ssn",
  "INSERT INTO customers (id, name, ssn, balance) VALUES (1, 'x', '1', 1) ON CONFLICT (id) DO UPDATE SET balance = -5",
  "INSERT INTO customers (id, name, balance) SELECT id + 10, ssn, 1 FROM customers WHERE id = 1",
  "INSERT INTO orders SELECT 1000 + length(ssn), 1, 'open', 1 FROM customers WHERE id = 1",
  "INSERT INTO orders SELECT 2000 + id, 1, 'open', 1 FROM customers WHERE ssn LIKE '5%'",
  "MERGE INTO customers c USING (SELECT 1 AS id) s ON c.id = s.id WHEN MATCHED AND c.ssn LIKE '5%' THEN UPDATE SET name = 'm'",
  "CREATE TABLE loot AS SELECT ssn FROM customers",
  "CREATE TEMP TABLE loot AS SELECT ssn FROM customers",
  "SELECT ssn INTO TEMP loot FROM customers",
  "CREATE VIEW loot AS SELECT ssn FROM customers",
  "CREATE MATERIALIZED VIEW loot AS SELECT ssn FROM customers",
  "ALTER TABLE customers RENAME COLUMN ssn TO harmless",
  "ALTER TABLE customers ALTER ssn TYPE int USING 1",
  "ALTER TABLE customers ALTER ssn TYPE varchar(5)",
  "ALTER TABLE customers ADD CONSTRAINT c CHECK (ssn LIKE '5%')",
  "CREATE UNIQUE INDEX u ON customers (ssn)",
  "CREATE INDEX i ON customers ((1 / (length(ssn) - 11)))",
  "CREATE FUNCTION peek() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers WHERE id = 1'",
  "INSERT INTO customers (id, name, balance) VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET balance = 9 WHERE customers.ssn LIKE '5%'",
  "UPDATE orders o SET total = 9 FROM customers c WHERE c.id = o.customer_id AND c.ssn LIKE '5%'",
  "UPDATE orders o SET total = length(c.ssn) FROM customers c WHERE c.id = o.customer_id RETURNING o.total",
  "UPDATE orders SET total = (SELECT length(ssn) FROM customers WHERE id = 1) WHERE id = 1",
  "INSERT INTO orders SELECT 3000 + g, 1, 'open', 1 FROM generate_series(1, (SELECT length(ssn) FROM customers WHERE id = 1)) g",
  "INSERT INTO orders (id, customer_id, total) SELECT 4000, 1, count(*) FROM customers WHERE ssn > '5'",
  "DELETE FROM orders USING customers c WHERE c.id = customer_id AND c.ssn LIKE '5%'",
  "CREATE TEMP TABLE flags AS SELECT id, ssn LIKE '5%' AS flag FROM customers",
  "CREATE STATISTICS st ON ssn, email FROM customers",
  "CREATE PUBLICATION p FOR TABLE customers",
  "GRANT SELECT ON customers TO PUBLIC",
  "ALTER TABLE customers ALTER ssn SET DEFAULT 'x'",
  "ALTER TABLE customers RENAME TO clients",
  "CREATE RULE r AS ON INSERT TO orders DO ALSO INSERT INTO big SELECT 99999, ssn FROM customers WHERE id = 1",
  "COPY (SELECT ssn FROM customers) TO PROGRAM 'cat'",
  "LOCK TABLE customers",
  "TRUNCATE customers CASCADE",
];

describe.each(targetVersions)("PostgreSQL %s with two sets of protected values", (version) => {
  let orders: Orders;
  const clients = new Map<string, RawClient>();
  beforeAll(async () => {
    orders = await startOrders({
      version,
      manifests: (manifests) =>
        `${manifests.replace("database: orders", "database: orders\n    databases: [same_shape, unlike]")}${writersPolicy}`,
    });
    // Copies of one template have the same OIDs and the same pages: then only the values differ.
    await orders.target.admin("orders", (client) =>
      client.query("ALTER TABLE customers ADD CONSTRAINT solvent CHECK (balance >= 0)"),
    );
    for (const [database, values] of [
      ["same_shape", plantedOther],
      ["unlike", unlike],
    ] as const) {
      await orders.target.admin("postgres", (client) =>
        client.query(`CREATE DATABASE ${database} TEMPLATE orders OWNER orders_app`),
      );
      await setValues(database, values);
    }
    await setValues("orders", planted);
    for (const [name, subject, groups, database] of [
      ["agent", "ada", ["agents"], "orders"],
      ["agent, other values", "ada", ["agents"], "orders/same_shape"],
      ["writer", "wil", ["writers"], "orders"],
      ["writer, other values", "wil", ["writers"], "orders/unlike"],
    ] as const) {
      const token = await orders.sluice.token(subject, groups);
      clients.set(name, await RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token, database }));
    }
  });
  afterAll(async () => {
    for (const client of clients.values()) await client.end();
    await orders?.stop();
  });

  async function setValues(database: string, values: readonly CustomerValues[]): Promise<void> {
    await orders.target.admin(database, async (client) => {
      for (const [at, { ssn, email, card }] of values.entries()) {
        await client.query("UPDATE customers SET ssn = $1, email = $2, card = $3, notes = $4 WHERE id = $5", [
          ssn,
          email,
          card,
          `called about order; ssn ${ssn}, card ${card}, mail ${email}`,
          at + 1,
        ]);
      }
      await client.query("VACUUM FULL customers");
    });
  }

  const faults = async (caller: string, statements: readonly string[], notes: boolean): Promise<readonly string[]> => {
    const one = clients.get(caller)!;
    const other = clients.get(`${caller}, other values`)!;
    const found: string[] = [];
    for (const sql of statements) {
      if (!notes && /\bnotes\b|\*/.test(sql)) continue;
      const [left, right] = await Promise.all([answersTo(one, sql), answersTo(other, sql)]);
      if (left !== right) found.push(`${sql}\n    ${left}\n    ${right}`);
    }
    return found;
  };

  it("has values that differ, seen by a dba", async () => {
    const dba = await orders.connect(orders.dba);
    const other = await orders.connect(orders.dba, { database: "orders/same_shape" });
    const sql = "SELECT ssn, email, card, notes FROM customers ORDER BY id";
    const [left, right] = [
      (await dba.query<Record<string, string>>(sql)).rows,
      (await other.query<Record<string, string>>(sql)).rows,
    ];
    for (const [at, row] of left.entries()) {
      for (const name of ["ssn", "email", "card", "notes"]) {
        expect(right[at]![name]).not.toBe(row[name]);
        expect(right[at]![name]).toHaveLength(row[name]!.length);
      }
    }
    await dba.end();
    await other.end();
  });

  it.each([
    ["agent", true],
    ["writer", false],
  ] as const)("gives the same bytes to an %s: plain reads", async (caller, notes) => {
    expect(await faults(caller, plain, notes)).toEqual([]);
  });

  it.each(["agent", "writer"])("gives the same bytes to an %s: derived values", async (caller) => {
    expect(
      await faults(
        caller,
        derived.map((expression) => `SELECT ${expression} FROM customers WHERE id = 1`),
        true,
      ),
    ).toEqual([]);
  });

  it.each(["agent", "writer"])("gives the same bytes to an %s: numbers of rows, order, groups", async (caller) => {
    expect(await faults(caller, shapes, true)).toEqual([]);
  });

  it.each(["agent", "writer"])("gives the same bytes to an %s: errors, notices, plans, cursors", async (caller) => {
    expect(await faults(caller, texts, true)).toEqual([]);
  });

  it.each(["agent", "writer"])("gives the same bytes to an %s: writes and definitions", async (caller) => {
    const statements = writes.flatMap((sql) => ["BEGIN", sql, "ROLLBACK"]);
    expect(await faults(caller, statements, true)).toEqual([]);
  });

  it.each(["agent", "writer"])("gives the same bytes to an %s: binary results of prepared statements", async (caller) => {
    const found: string[] = [];
    for (const sql of [
      ...plain.slice(0, 2),
      ...derived.slice(0, 30).map((expression) => `SELECT ${expression} FROM customers WHERE id = 2`),
    ]) {
      const both = ["", ", other values"].map(async (suffix) => {
        const client = clients.get(`${caller}${suffix}`)!;
        return visible(await client.pipeline(parse("", sql), describeMessage("S", ""), bind("", "", [], 1), execute("")));
      });
      const [left, right] = await Promise.all(both);
      if (left !== right) found.push(`${sql}\n    ${left}\n    ${right}`);
    }
    expect(found).toEqual([]);
  });

  it("answers most of these with rows or the target's own errors, so that the comparison means something", async () => {
    const client = clients.get("writer")!;
    let answered = 0;
    for (const sql of [...plain, ...derived.map((expression) => `SELECT ${expression} FROM customers WHERE id = 1`)]) {
      const answers = await client.query(sql);
      if (errorsOf(answers).length === 0 && shapeOf(answers).startsWith("T")) answered += 1;
    }
    expect(answered).toBeGreaterThan((plain.length + derived.length) / 2);
  });
});

async function answersTo(client: RawClient, sql: string): Promise<string> {
  return visible(await client.query(sql));
}

/** Every message with its bytes; ids of decisions are the one random part. */
function visible(messages: readonly WireMessage[]): string {
  return messages
    .map(({ type, body }) => `${type}:${body.toString("latin1")}`)
    .join(" | ")
    .replaceAll(/\bd_[A-Za-z0-9_-]{22}/g, "d_")
    .replaceAll(/[^\x20-\x7e]/g, (character) => `\\x${character.charCodeAt(0).toString(16)}`);
}
