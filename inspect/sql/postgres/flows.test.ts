/** What a statement carries to where it stays or from where it leaves, and by which ways out. */
import { describe, expect, it } from "vitest";
import { model, short } from "./testing.ts";

const CUSTOMER = "customers.card customers.email customers.id customers.name customers.notes customers.ssn";

describe("write flows", () => {
  it.each([
    ["INSERT INTO countries SELECT ssn FROM customers", "customers.ssn"],
    ["INSERT INTO countries SELECT code FROM countries WHERE label = (SELECT ssn FROM customers LIMIT 1)", "countries.code"],
    ["INSERT INTO countries VALUES ((SELECT ssn FROM customers LIMIT 1))", "customers.ssn"],
    ["INSERT INTO countries VALUES ($1, 'x')", ""],
    ["WITH x AS (SELECT ssn FROM customers) INSERT INTO countries SELECT * FROM x", "customers.ssn"],
    ["WITH i AS (INSERT INTO countries SELECT ssn FROM customers) SELECT 1", "customers.ssn"],
    ["INSERT INTO countries VALUES ('a') ON CONFLICT (code) DO UPDATE SET label = excluded.label", ""],
    ["INSERT INTO countries VALUES ('a') ON CONFLICT (code) DO UPDATE SET label = countries.code", "countries.code"],
    [
      "INSERT INTO countries VALUES ('a') ON CONFLICT (code) DO UPDATE SET label = (SELECT ssn FROM customers LIMIT 1)",
      "customers.ssn",
    ],
    ["UPDATE customers SET ssn = $1", ""],
    ["UPDATE customers SET ssn = ssn", ""],
    ["UPDATE customers SET ssn = upper(ssn)", ""],
    ["UPDATE customers SET notes = ssn", "customers.ssn"],
    ["UPDATE customers c SET notes = c.ssn || c.notes", "customers.ssn"],
    ["UPDATE customers SET (notes, name) = (SELECT ssn, card FROM customers LIMIT 1)", "customers.card customers.ssn"],
    ["UPDATE customers SET (notes, name) = ROW(ssn, 'x')", "customers.ssn"],
    ["UPDATE countries SET label = ssn FROM customers", "customers.ssn"],
    ["UPDATE customers SET notes = to_jsonb(customers)", CUSTOMER.replace("customers.notes ", "")],
    ["MERGE INTO countries t USING customers s ON s.id = t.code WHEN MATCHED THEN UPDATE SET label = s.ssn", "customers.ssn"],
    [
      "MERGE INTO countries t USING customers s ON s.id = t.code WHEN NOT MATCHED THEN INSERT (code) VALUES (s.card)",
      "customers.card",
    ],
    ["CREATE TABLE t2 AS SELECT ssn AS x FROM customers", "customers.ssn"],
    ["CREATE TEMP TABLE t2 AS SELECT upper(ssn) AS x FROM customers", "customers.ssn"],
    ["CREATE TABLE t2 AS TABLE countries", "countries.code countries.label"],
    ["SELECT ssn INTO t2 FROM customers", "customers.ssn"],
    ["CREATE VIEW v2 AS SELECT id FROM customers", CUSTOMER],
    ["CREATE VIEW v2 AS SELECT code FROM countries", "countries.code countries.label"],
    ["CREATE MATERIALIZED VIEW v2 AS SELECT id FROM customers", CUSTOMER],
    [
      "CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO countries VALUES (new.ssn)",
      `countries.code countries.label ${CUSTOMER}`,
    ],
    ["CREATE TRIGGER t AFTER INSERT ON customers FOR EACH ROW EXECUTE FUNCTION audit()", CUSTOMER],
    ["CREATE FUNCTION g() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers'", "*"],
    ["CREATE INDEX ON customers (upper(ssn))", "customers.ssn"],
    ["CREATE INDEX ON customers (id) WHERE ssn > '5'", "customers.ssn"],
    ["ALTER TABLE customers ADD COLUMN x text GENERATED ALWAYS AS (upper(ssn)) STORED", "customers.ssn"],
    ["ALTER TABLE customers ADD CHECK (ssn > '5')", "customers.ssn"],
    ["CREATE POLICY p ON customers USING (ssn > '5')", "customers.ssn"],
    ["CREATE STATISTICS s ON (upper(ssn)), id FROM customers", "customers.ssn"],
    ["ALTER TABLE customers RENAME COLUMN ssn TO x", CUSTOMER],
    ["ALTER TABLE customers RENAME TO x", CUSTOMER],
    ["ALTER TABLE customers SET SCHEMA x", CUSTOMER],
    ["ALTER SCHEMA public RENAME TO x", "*"],
    ["ALTER TABLE countries INHERIT customers", `countries.code countries.label ${CUSTOMER}`],
    ["ALTER TABLE customers ALTER ssn TYPE varchar(4)", CUSTOMER],
    ["CREATE TABLE t2 (a int CHECK (a > 0), b text DEFAULT 'x')", ""],
    ["CREATE TABLE t2 (LIKE customers)", ""],
    ["SELECT set_config('app.x', ssn, false) FROM customers", "customers.ssn"],
    ["SELECT 1 FROM customers WHERE set_config('app.x', ssn, false) IS NOT NULL", "customers.ssn"],
    ["SELECT pg_notify('x', ssn) FROM customers", "customers.ssn"],
    ["SELECT setval('order_seq', ssn::bigint) FROM customers", "customers.ssn"],
    ["SELECT pg_advisory_lock(ssn::bigint) FROM customers", "customers.ssn"],
    ["SELECT set_config('app.x', 'y', false)", ""],
    ["COPY (SELECT ssn FROM customers) TO '/tmp/x'", "customers.ssn"],
    ["COPY customers TO PROGRAM 'x'", CUSTOMER],
    ["COPY customers TO STDOUT", ""],
    ["DECLARE c CURSOR FOR SELECT ssn FROM customers", ""],
    ["PREPARE p AS SELECT ssn FROM customers", ""],
    ["PREPARE p AS INSERT INTO countries SELECT ssn FROM customers", "customers.ssn"],
    ["EXPLAIN INSERT INTO countries SELECT ssn FROM customers", ""],
    ["EXPLAIN ANALYZE INSERT INTO countries SELECT ssn FROM customers", "customers.ssn"],
    ["INSERT INTO countries SELECT tax_id FROM nested", "customers.ssn"],
    ["INSERT INTO countries SELECT x FROM nowhere", "*"],
    ["REFRESH MATERIALIZED VIEW customer_cards", ""],
    ["SELECT ssn FROM customers", ""],
  ])("%s", (sql, expected) => {
    expect(model(sql).writeFlows.map(short).join(" ")).toBe(expected);
  });
});

describe("ways out", () => {
  it.each([
    ["SELECT dblink('x', 'y')", "dblink"],
    ["SELECT * FROM dblink('x', 'y') AS t(a text)", "dblink"],
    ["SELECT pg_read_file('/etc/passwd')", "pg_read_file"],
    ["SELECT pg_catalog.pg_read_file('/etc/passwd')", "pg_read_file"],
    ["SELECT lo_export(1, 'x'), lo_get(1)", "lo_export lo_get"],
    ["SELECT query_to_xml('x', true, true, '')", "query_to_xml"],
    ["SELECT table_to_xml('customers', true, true, '')", "table_to_xml"],
    ["SELECT * FROM ts_stat('SELECT to_tsvector(ssn) FROM customers')", "ts_stat"],
    ["SELECT ts_rewrite('a', 'SELECT 1')", "ts_rewrite"],
    ["SELECT pg_logical_slot_get_changes('x', null, null)", "pg_logical_slot_get_changes"],
    ["SELECT pg_create_physical_replication_slot('x')", "pg_create_physical_replication_slot"],
    ["SELECT pg_drop_replication_slot('x')", "pg_drop_replication_slot"],
    ["SELECT get_raw_page('customers', 0)", "get_raw_page"],
    ["SELECT * FROM heap_page_items(get_raw_page('customers', 0))", "get_raw_page heap_page_items"],
    ["SELECT pg_stat_get_activity(null)", "pg_stat_get_activity"],
    ["SELECT pg_terminate_backend(1)", "pg_terminate_backend"],
    ["SELECT 1 FROM customers WHERE dblink_exec('x', ssn) = 'y'", "dblink_exec"],
    ["SELECT c.dblink FROM customers c", "dblink"],
    ["COPY customers TO PROGRAM 'cat'", "COPY PROGRAM"],
    ["COPY customers FROM PROGRAM 'cat'", "COPY PROGRAM"],
    ["COPY customers TO '/tmp/x'", "COPY with a server file"],
    ["COPY customers FROM '/tmp/x'", "COPY with a server file"],
    ["COPY customers TO STDOUT", ""],
    ["LOAD 'x'", "LOAD"],
    ["PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"],
    ["CREATE PUBLICATION p FOR TABLE customers", "CREATE PUBLICATION"],
    ["CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "CREATE SUBSCRIPTION"],
    ["CREATE SERVER s FOREIGN DATA WRAPPER w", "CREATE SERVER"],
    ["CREATE EXTENSION dblink", "CREATE EXTENSION"],
    ["PREPARE p AS SELECT pg_read_file('x')", "pg_read_file"],
    ["SELECT pg_get_viewdef('nested'), current_setting('x')", ""],
  ])("%s", (sql, expected) => {
    expect(model(sql).escapes.join(" ")).toBe(expected);
  });

  it.each([
    ["SELECT most_common_vals FROM pg_stats", "pg_catalog.pg_stats"],
    ["SELECT 1 FROM pg_catalog.pg_statistic", "pg_catalog.pg_statistic"],
    ["SELECT query FROM pg_stat_activity", "pg_catalog.pg_stat_activity"],
    ["SELECT 1 FROM pg_stat_statements", "pg_stat_statements"],
    ["SELECT 1 FROM pg_toast.pg_toast_16384", "pg_toast.pg_toast_16384"],
    ["SELECT (SELECT count(*) FROM pg_stats)", "pg_catalog.pg_stats"],
    ["SELECT relname FROM pg_class", ""],
    ["SELECT name FROM pg_settings", ""],
  ])("system relations with samples: %s", (sql, expected) => {
    expect(model(sql).sensitiveCatalogs.join(" ")).toBe(expected);
  });
});
