/** Class and effects of every kind of statement, nested ones included; and that no kind of the grammar is forgotten. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, expect, it } from "vitest";
import { statementClasses } from "../model.ts";
import { statementKind, statementKinds } from "./statement-kinds.ts";
import { model } from "./testing.ts";
import { unwrappedFields } from "./tree.ts";

const cases: readonly (readonly [sql: string, expected: string])[] = [
  // reading
  ["SELECT 1", "read select"],
  ["TABLE countries", "read select"],
  ["VALUES (1)", "read select"],
  ["SELECT currval('order_seq')", "read select"],
  ["EXPLAIN SELECT 1", "read explain"],
  ["EXPLAIN DELETE FROM customers", "read explain"],
  ["EXPLAIN (ANALYZE off) DELETE FROM customers", "read explain"],
  ["EXPLAIN (VERBOSE, ANALYZE false) DELETE FROM customers", "read explain"],
  ["EXPLAIN CREATE TABLE t2 AS SELECT 1", "read explain"],
  // writing
  ["INSERT INTO countries VALUES ('x')", "write insert"],
  ["INSERT INTO countries DEFAULT VALUES", "write insert"],
  ["INSERT INTO countries SELECT * FROM countries", "write insert select"],
  ["INSERT INTO countries VALUES ((SELECT 'x'))", "write insert select"],
  ["UPDATE countries SET code = 'x'", "write update"],
  ["DELETE FROM countries", "write delete"],
  ["MERGE INTO countries t USING countries s ON true WHEN MATCHED THEN DELETE", "write merge"],
  ["TRUNCATE countries", "write truncate"],
  ["COPY countries FROM STDIN", "write copy_from"],
  ["SELECT 1 FROM countries FOR UPDATE", "write select lock"],
  ["SELECT 1 FROM countries FOR SHARE", "write select lock"],
  ["SELECT 1 FROM countries c FOR NO KEY UPDATE OF c SKIP LOCKED", "write select lock"],
  ["SELECT * FROM (SELECT 1 FROM countries FOR KEY SHARE) s", "write select lock"],
  ["SELECT nextval('order_seq')", "write select nextval"],
  ["SELECT setval('order_seq', 1)", "write select setval"],
  ["SELECT pg_catalog.nextval('order_seq')", "write select nextval"],
  ["LOCK TABLE countries", "write lock_table"],
  ["REFRESH MATERIALIZED VIEW customer_cards", "write refresh_materialized_view"],
  ["WITH d AS (DELETE FROM countries RETURNING *) SELECT * FROM d", "write select delete"],
  ["WITH a AS (SELECT 1), b AS (UPDATE countries SET code = 'x' RETURNING 1) SELECT 1", "write select update"],
  ["EXPLAIN ANALYZE DELETE FROM countries", "write explain delete"],
  ["EXPLAIN (ANALYZE) DELETE FROM countries", "write explain delete"],
  ["EXPLAIN (ANALYZE true) DELETE FROM countries", "write explain delete"],
  ["EXPLAIN (ANALYZE off, ANALYZE on) DELETE FROM countries", "write explain delete"],
  ["EXPLAIN (analyze 1) DELETE FROM countries", "write explain delete"],
  // definitions
  ["CREATE TABLE t2 (a int)", "ddl create_table"],
  ["CREATE TABLE t2 AS SELECT 1", "ddl create_table_as select"],
  ["CREATE MATERIALIZED VIEW m AS SELECT 1", "ddl create_materialized_view select"],
  ["SELECT 1 INTO t2", "ddl select select_into"],
  ["WITH x AS (SELECT 1) SELECT * INTO t2 FROM x", "ddl select select_into"],
  ["CREATE VIEW v2 AS SELECT 1", "ddl create_view select"],
  ["CREATE INDEX ON customers (ssn)", "ddl create_index"],
  ["ALTER TABLE customers ADD COLUMN x int", "ddl alter_table"],
  ["ALTER INDEX i SET (fillfactor = 10)", "ddl alter_index"],
  ["ALTER TABLE customers RENAME ssn TO x", "ddl rename"],
  ["DROP TABLE countries", "ddl drop_table"],
  ["DROP VIEW renamed", "ddl drop_view"],
  ["DROP MATERIALIZED VIEW customer_cards", "ddl drop_materialized_view"],
  ["CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ddl create_function"],
  ["CREATE SCHEMA s CREATE TABLE t2 (a int)", "ddl create_schema create_table"],
  ["CREATE TYPE m AS ENUM ('a')", "ddl create_type"],
  ["CREATE RULE r AS ON INSERT TO countries DO ALSO DELETE FROM customers", "ddl create_rule delete"],
  ["CREATE TRIGGER t BEFORE INSERT ON countries EXECUTE FUNCTION audit()", "ddl create_trigger"],
  ["COMMENT ON TABLE countries IS 'x'", "ddl comment"],
  ["CREATE EXTENSION hstore", "ddl create_extension"],
  ["CREATE PUBLICATION p FOR ALL TABLES", "ddl create_publication"],
  // rights
  ["GRANT SELECT ON customers TO x", "privilege grant"],
  ["REVOKE SELECT ON customers FROM x", "privilege revoke"],
  ["GRANT a TO b", "privilege grant_role"],
  ["REVOKE a FROM b", "privilege revoke_role"],
  ["ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO x", "privilege alter_default_privileges grant"],
  ["CREATE ROLE x", "privilege create_role"],
  ["ALTER USER x PASSWORD 'y'", "privilege alter_role"],
  ["ALTER ROLE x SET search_path = y", "privilege alter_role"],
  ["DROP ROLE x", "privilege drop_role"],
  ["SET ROLE x", "privilege set_role"],
  ["SET LOCAL ROLE x", "privilege set_role"],
  ["RESET ROLE", "privilege set_role"],
  ["SET SESSION AUTHORIZATION x", "privilege set_session_authorization"],
  ["RESET SESSION AUTHORIZATION", "privilege set_session_authorization"],
  ["SELECT set_config('role', 'x', false)", "privilege select set_role"],
  ["SELECT set_config('ROLE', 'x', false)", "privilege select set_role"],
  ["SELECT set_config($1, 'x', false)", "privilege select set_config"],
  ["SECURITY LABEL ON TABLE customers IS 'x'", "privilege security_label"],
  ["ALTER TABLE customers OWNER TO x", "privilege alter_table alter_owner"],
  ["ALTER FUNCTION leak(text) OWNER TO x", "privilege alter_owner"],
  ["ALTER TABLE customers DISABLE ROW LEVEL SECURITY", "privilege alter_table alter_row_security"],
  ["CREATE POLICY p ON customers USING (true)", "privilege create_policy"],
  ["ALTER POLICY p ON customers USING (true)", "privilege alter_policy"],
  ["DROP POLICY p ON customers", "privilege drop_policy"],
  ["REASSIGN OWNED BY a TO b", "privilege reassign_owned"],
  ["ALTER ROLE a RENAME TO b", "privilege rename"],
  ["CREATE FUNCTION g() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "privilege create_function"],
  // export
  ["COPY countries TO STDOUT", "export copy_to"],
  ["COPY (SELECT 1) TO STDOUT", "export copy_to select"],
  ["COPY (DELETE FROM countries RETURNING *) TO STDOUT", "export copy_to delete"],
  // running the server
  ["VACUUM", "admin vacuum"],
  ["ANALYZE customers", "admin analyze"],
  ["REINDEX TABLE customers", "admin reindex"],
  ["CLUSTER customers", "admin cluster"],
  ["CHECKPOINT", "admin checkpoint"],
  ["ALTER SYSTEM SET work_mem = '1GB'", "admin alter_system"],
  ["LOAD 'x'", "admin load"],
  ["PREPARE TRANSACTION 'x'", "admin prepare_transaction"],
  ["COMMIT PREPARED 'x'", "admin commit_prepared"],
  ["SELECT pg_terminate_backend(1)", "admin select server_control"],
  // session and transactions
  ["SHOW search_path", "session show"],
  ["SET search_path = x", "session set"],
  ["RESET ALL", "session reset"],
  ["SELECT set_config('search_path', 'x', true)", "session select set"],
  ["LISTEN x", "session listen"],
  ["UNLISTEN *", "session unlisten"],
  ["NOTIFY x, 'y'", "session notify"],
  ["SELECT pg_notify('x', 'y')", "session select notify"],
  ["DISCARD ALL", "session discard"],
  ["DEALLOCATE p", "session deallocate"],
  ["CLOSE c", "session close_cursor"],
  ["PREPARE p AS SELECT 1", "session prepare select"],
  ["PREPARE p AS DELETE FROM countries", "write prepare delete"],
  ["BEGIN", "transaction begin"],
  ["START TRANSACTION READ ONLY", "transaction begin"],
  ["COMMIT", "transaction commit"],
  ["END", "transaction commit"],
  ["ROLLBACK", "transaction rollback"],
  ["ABORT", "transaction rollback"],
  ["SAVEPOINT s", "transaction savepoint"],
  ["RELEASE s", "transaction release_savepoint"],
  ["ROLLBACK TO s", "transaction rollback_to_savepoint"],
  ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "transaction set_transaction"],
  ["SET CONSTRAINTS ALL DEFERRED", "transaction set_constraints"],
  // cursors
  ["DECLARE c CURSOR FOR SELECT 1", "read declare_cursor select"],
  ["DECLARE c CURSOR FOR SELECT 1 FROM countries FOR UPDATE", "write declare_cursor select lock"],
  // calls and what cannot be known
  ["CALL leak('x')", "call call"],
  ["DO $$BEGIN DELETE FROM customers; END$$", "unknown do"],
  ["EXECUTE nobody", "unknown execute"],
  ["FETCH ALL FROM nobody", "unknown fetch"],
  ["CREATE TABLE t2 AS EXECUTE nobody", "unknown create_table_as execute"],
];

describe("effects", () => {
  it.each(cases)("%s", (sql, expected) => {
    const { class: statementClass, effects } = model(sql);
    expect([statementClass, ...effects.map((effect) => effect.name)].join(" ")).toBe(expected);
  });
});

describe("the table of kinds", () => {
  const types = readFileSync(
    createRequire(createRequire(import.meta.url).resolve("libpg-query"))
      .resolve("@pgsql/types")
      .replace(/index\.js$/, "types.d.ts"),
    "utf8",
  );
  const enums = readFileSync(
    createRequire(createRequire(import.meta.url).resolve("libpg-query"))
      .resolve("@pgsql/types")
      .replace(/index\.js$/, "enums.d.ts"),
    "utf8",
  );

  it("has every statement node of the grammar, and no other", () => {
    const statements = [...types.matchAll(/export interface (\w+Stmt) \{/g)].map((match) => match[1]!);
    expect(statements.length).toBeGreaterThan(100);
    expect(Object.keys(statementKinds).sort()).toEqual(statements.sort());
  });

  it("knows only classes that exist", () => {
    for (const { class: statementClass } of Object.values(statementKinds)) expect(statementClasses).toContain(statementClass);
  });

  it("takes an unheard-of statement for unknown", () => {
    expect(statementKind("FutureStmt")).toEqual({ name: "unmapped", class: "unknown" });
    expect(statementKind("ColumnRef")).toBeUndefined();
    expect(statementKind("constructor")).toBeUndefined();
  });

  it("knows the kind of every field that the tree writes without a wrapper", () => {
    const enumNames = new Set([...enums.matchAll(/export type (\w+)/g)].map((match) => match[1]));
    const plain = new Set(["Node", "string", "number", "boolean", "bigint"]);
    const outside = new Set(["A_Const", "ParseResult", "ScanResult", "SummaryResult"]); // leaves and roots
    const checked: string[] = [];
    for (const [, parent, fields] of types.matchAll(/export interface (\w+) \{([^}]*)\}/g)) {
      if (outside.has(parent!)) continue;
      for (const [, field, type, many] of fields!.matchAll(/(\w+)\??: (\w+)(\[\])?;/g)) {
        if (plain.has(type!) || enumNames.has(type) || many !== undefined) continue;
        checked.push(field!);
        expect([parent, field, unwrappedFields[`${parent}.${field}`] ?? unwrappedFields[field!]]).toEqual([parent, field, type]);
      }
    }
    expect(checked.length).toBeGreaterThan(100);
  });
});
