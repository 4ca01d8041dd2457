/**
 * A real text for every command of PostgreSQL's reference ("SQL Commands", 15 to 18; some have several forms), and what it does
 * against the sample catalog of the tests. The page of statements in the documentation is made from it; a test holds it against the
 * analysis. Data only.
 */
import type { StatementClass } from "../model.ts";
import { definitionSamples, type SampleRow } from "./definition-samples.ts";

export interface CommandSample {
  /** As the reference calls it. */
  readonly command: string;
  readonly sql: string;
  readonly class: StatementClass;
  readonly effects: readonly string[];
  /** `access schema.name`, in the order of the model. */
  readonly relations: readonly string[];
}

const otherSamples: readonly SampleRow[] = [
  ["ABORT", "ABORT AND CHAIN", "transaction rollback", ""],
  ["ANALYZE", "ANALYZE VERBOSE customers (ssn)", "admin analyze", "read public.customers"],
  ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "transaction begin", ""],
  ["CALL", "CALL safe_procedure('x')", "call call", ""],
  ["CALL", "CALL leak('x')", "call call", ""],
  ["CHECKPOINT", "CHECKPOINT", "admin checkpoint", ""],
  ["CLOSE", "CLOSE ALL", "session close_cursor", ""],
  ["CLUSTER", "CLUSTER customers USING customers_pkey", "admin cluster", "write public.customers"],
  ["COMMENT", "COMMENT ON COLUMN customers.ssn IS 'number'", "ddl comment", "ddl public.customers"],
  ["COMMIT", "COMMIT", "transaction commit", ""],
  ["COMMIT PREPARED", "COMMIT PREPARED 'gid'", "admin commit_prepared", ""],
  ["COPY", "COPY customers TO STDOUT", "export copy_to", "read public.customers"],
  ["COPY", "COPY customers (id, name) FROM STDIN (FORMAT csv)", "write copy_from", "write public.customers"],
  ["COPY", "COPY (SELECT ssn FROM customers) TO STDOUT", "export copy_to select", "read public.customers"],
  ["COPY", "COPY (UPDATE countries SET label = 'x' RETURNING code) TO STDOUT", "export copy_to update", "write public.countries"],
  ["COPY", "COPY customers TO PROGRAM 'cat'", "export copy_to", "read public.customers"],
  ["COPY", "COPY customers FROM '/tmp/x'", "write copy_from", "write public.customers"],
  ["DEALLOCATE", "DEALLOCATE ALL", "session deallocate", ""],
  [
    "DECLARE",
    "DECLARE c CURSOR WITH HOLD FOR SELECT ssn FROM customers WHERE id = 1",
    "read declare_cursor select",
    "read public.customers",
  ],
  [
    "DELETE",
    "DELETE FROM orders USING customers c WHERE c.id = customer_id RETURNING c.ssn",
    "write delete",
    "write public.orders, write archive.orders, read public.customers",
  ],
  ["DISCARD", "DISCARD ALL", "session discard", ""],
  ["DO", "DO LANGUAGE plpgsql $$ BEGIN DELETE FROM customers; END $$", "unknown do", ""],
  ["END", "END", "transaction commit", ""],
  ["EXECUTE", "EXECUTE nobody(1)", "unknown execute", ""],
  ["EXPLAIN", "EXPLAIN (FORMAT json) DELETE FROM customers", "read explain", "read public.customers"],
  ["EXPLAIN", "EXPLAIN (ANALYZE, BUFFERS) DELETE FROM customers WHERE id = 1", "write explain delete", "write public.customers"],
  ["FETCH", "FETCH FORWARD 10 FROM nobody", "unknown fetch", ""],
  ["GRANT", "GRANT SELECT (ssn), UPDATE ON customers TO readers WITH GRANT OPTION", "privilege grant", "ddl public.customers"],
  ["GRANT", "GRANT ALL ON ALL TABLES IN SCHEMA public TO readers", "privilege grant", ""],
  ["GRANT", "GRANT SET ON PARAMETER work_mem TO ada", "privilege grant", ""],
  ["GRANT", "GRANT staff TO ada WITH ADMIN OPTION", "privilege grant_role", ""],
  ["IMPORT FOREIGN SCHEMA", "IMPORT FOREIGN SCHEMA public FROM SERVER other INTO archive", "ddl import_foreign_schema", ""],
  [
    "INSERT",
    "INSERT INTO countries (code) SELECT ssn FROM customers ON CONFLICT (code) DO UPDATE SET label = excluded.code RETURNING label",
    "write insert select",
    "write public.countries, read public.customers",
  ],
  ["INSERT", "INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France')", "write insert", "write public.countries"],
  ["LISTEN", "LISTEN changes", "session listen", ""],
  ["LOAD", "LOAD 'auto_explain'", "admin load", ""],
  ["LOCK", "LOCK TABLE customers IN ACCESS SHARE MODE", "write lock_table", "write public.customers"],
  [
    "MERGE",
    "MERGE INTO countries t USING customers s ON t.code = s.name WHEN MATCHED AND s.id > 5 THEN UPDATE SET label = s.ssn WHEN NOT MATCHED THEN INSERT VALUES (s.name)",
    "write merge",
    "write public.countries, read public.customers",
  ],
  [
    "MERGE",
    "MERGE INTO countries t USING orders s ON t.code = s.status WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING merge_action(), t.code",
    "write merge",
    "write public.countries, read public.orders, read archive.orders",
  ],
  ["MOVE", "MOVE FORWARD ALL IN nobody", "unknown move", ""],
  ["NOTIFY", "NOTIFY changes, 'text'", "session notify", ""],
  [
    "PREPARE",
    "PREPARE p (integer) AS SELECT ssn FROM customers WHERE id = $1",
    "session prepare select",
    "read public.customers",
  ],
  ["PREPARE TRANSACTION", "PREPARE TRANSACTION 'gid'", "admin prepare_transaction", ""],
  ["REASSIGN OWNED", "REASSIGN OWNED BY ada TO dora", "privilege reassign_owned", ""],
  [
    "REFRESH MATERIALIZED VIEW",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY customer_cards",
    "write refresh_materialized_view",
    "write public.customer_cards, read public.customers",
  ],
  ["REINDEX", "REINDEX (VERBOSE) TABLE customers", "admin reindex", "write public.customers"],
  ["REINDEX", "REINDEX DATABASE shop", "admin reindex", ""],
  ["RELEASE SAVEPOINT", "RELEASE SAVEPOINT s", "transaction release_savepoint", ""],
  ["RESET", "RESET work_mem", "session reset", ""],
  ["RESET", "RESET ALL", "session reset", ""],
  ["REVOKE", "REVOKE ALL ON customers FROM readers CASCADE", "privilege revoke", "ddl public.customers"],
  ["REVOKE", "REVOKE ADMIN OPTION FOR staff FROM ada", "privilege revoke_role", ""],
  ["ROLLBACK", "ROLLBACK", "transaction rollback", ""],
  ["ROLLBACK PREPARED", "ROLLBACK PREPARED 'gid'", "admin rollback_prepared", ""],
  ["ROLLBACK TO SAVEPOINT", "ROLLBACK TO SAVEPOINT s", "transaction rollback_to_savepoint", ""],
  ["SAVEPOINT", "SAVEPOINT s", "transaction savepoint", ""],
  ["SECURITY LABEL", "SECURITY LABEL FOR selinux ON TABLE customers IS 'x'", "privilege security_label", "ddl public.customers"],
  [
    "SELECT",
    "SELECT c.ssn, o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.id = 1 LIMIT 5",
    "read select",
    "read public.customers, read public.orders, read archive.orders",
  ],
  ["SELECT", "SELECT 1 FROM customers WHERE id = 1 FOR UPDATE", "write select lock", "read public.customers"],
  [
    "SELECT",
    "WITH gone AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM gone",
    "write select delete",
    "write public.orders, write archive.orders",
  ],
  ["SELECT", "TABLE countries", "read select", "read public.countries"],
  ["SELECT", "SELECT nextval('order_seq')", "write select nextval", ""],
  ["SELECT", "SELECT pg_read_file('/etc/passwd')", "read select", ""],
  ["SELECT INTO", "SELECT ssn INTO t FROM customers WHERE id = 1", "ddl select select_into", "ddl t, read public.customers"],
  ["SET", "SET work_mem = '8MB'", "session set", ""],
  ["SET", "SET LOCAL search_path = archive", "session set", ""],
  ["SET", "SET TIME ZONE 'UTC'", "session set", ""],
  ["SET", "SET NAMES 'UTF8'", "session set", ""],
  ["SET", "SET XML OPTION DOCUMENT", "session set", ""],
  ["SET CONSTRAINTS", "SET CONSTRAINTS ALL DEFERRED", "transaction set_constraints", ""],
  ["SET ROLE", "SET ROLE dba", "privilege set_role", ""],
  ["SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT", "privilege set_session_authorization", ""],
  ["SET TRANSACTION", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "transaction set_transaction", ""],
  ["SET TRANSACTION", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "session set", ""],
  ["SET TRANSACTION", "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'", "transaction set_transaction", ""],
  ["SHOW", "SHOW search_path", "session show", ""],
  ["SHOW", "SHOW ALL", "session show", ""],
  ["START TRANSACTION", "START TRANSACTION READ WRITE", "transaction begin", ""],
  [
    "TRUNCATE",
    "TRUNCATE customers, orders RESTART IDENTITY CASCADE",
    "write truncate",
    "write public.customers, write public.orders, write archive.orders",
  ],
  ["UNLISTEN", "UNLISTEN *", "session unlisten", ""],
  [
    "UPDATE",
    "UPDATE orders o SET memo = c.ssn FROM customers c WHERE c.id = o.customer_id",
    "write update",
    "write public.orders, write archive.orders, read public.customers",
  ],
  [
    "UPDATE",
    "UPDATE orders SET (total, status) = (SELECT 1, name FROM customers WHERE id = 1) WHERE id = 1",
    "write update select",
    "write public.orders, write archive.orders, read public.customers",
  ],
  ["VACUUM", "VACUUM (FULL, ANALYZE) customers", "admin vacuum", "read public.customers"],
  ["VALUES", "VALUES (1, 'a'), (2, 'b')", "read select", ""],
];

/** In the order of the reference. */
export const commandSamples: readonly CommandSample[] = [...definitionSamples, ...otherSamples]
  .map(([command, sql, does, relations]) => {
    const [statementClass, ...effects] = does.split(" ");
    return {
      command,
      sql,
      class: statementClass as StatementClass, // a test holds it against the list of classes
      effects,
      relations: relations === "" ? [] : relations.split(", "),
    };
  })
  .sort((a, b) => (a.command < b.command ? -1 : a.command > b.command ? 1 : 0));
