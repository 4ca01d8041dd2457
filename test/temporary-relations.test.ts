/** What a caller with masks writes into relations of its own session, and into others: a planted value never comes back. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { planted, writersPolicy } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import { bind, errorsOf, execute, parse, rowsOf, type WireMessage } from "./support/wire-messages.ts";

const [first] = planted;
const secrets = [first!.ssn, first!.ssn.split("").reverse().join(""), first!.email, first!.card];

describe.each(targetVersions)("temporary relations and write flows, against PostgreSQL %s", (version) => {
  let orders: Orders;
  let token: string;
  beforeAll(async () => {
    orders = await startOrders({ version, manifests: (text) => `${text}\n${writersPolicy}` });
    token = await orders.sluice.token("wanda", ["writers"]);
  });
  afterAll(async () => {
    await orders?.stop();
  });

  const login = (): Promise<RawClient> =>
    RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token });
  function expectNoSecret(answers: readonly WireMessage[], sql: string): void {
    const text = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    for (const secret of secrets) expect(text, sql).not.toContain(secret);
  }
  async function done(client: RawClient, ...texts: readonly string[]): Promise<readonly (readonly (string | null)[])[]> {
    let answers: readonly WireMessage[] = [];
    for (const sql of texts) {
      answers = await client.query(sql);
      expect(errorsOf(answers), sql).toEqual([]);
      expectNoSecret(answers, sql);
    }
    return rowsOf(answers);
  }
  async function refused(client: RawClient, sql: string): Promise<void> {
    const answers = await client.query(sql);
    expect(errorsOf(answers)[0], sql).toMatchObject({ C: "42501" });
    expectNoSecret(answers, sql);
  }

  it("are of full use, and mask what was written into them", async () => {
    const client = await login();
    const rows = await done(
      client,
      "CREATE TEMP TABLE kept (id int PRIMARY KEY, plain text, held text)",
      "INSERT INTO kept VALUES (1, 'mine', 'also mine')",
      "UPDATE kept SET plain = upper(plain)",
      "SELECT id, plain, held, plain || '!' FROM kept",
    );
    expect(rows).toEqual([["1", "MINE", "also mine", "MINE!"]]);
    await done(client, "UPDATE kept SET held = c.ssn FROM customers c WHERE c.id = kept.id");
    expect(await done(client, "SELECT plain, held, reverse(held) FROM kept")).toEqual([["MINE", "****", "****"]]);
    await done(client, "CREATE TEMP TABLE made AS SELECT id, ssn AS s, reverse(ssn) AS r, name FROM customers WHERE id = 1");
    expect(await done(client, "SELECT * FROM made")).toEqual([["1", "****", "****", "customer 1"]]);
    expect(await done(client, "SELECT s, name FROM made UNION ALL SELECT r, 'x' FROM made")).toEqual([
      ["****", "customer 1"],
      ["****", "x"],
    ]);
    await done(client, "CREATE TEMP VIEW shown AS SELECT upper(s) AS u, name FROM made", "ALTER TABLE made RENAME COLUMN s TO t");
    expect(await done(client, "SELECT u, name FROM shown")).toEqual([["****", "customer 1"]]);
    expect(await done(client, "SELECT reverse(t) FROM made")).toEqual([["****"]]);
    await refused(client, "INSERT INTO big SELECT 0, t FROM made");
    await refused(client, "SELECT 1 FROM made WHERE t LIKE '5%'");
    await done(client, "INSERT INTO big SELECT -1, name FROM made", "DELETE FROM big WHERE id = -1");
    await client.end();
  });

  it("hide a table of their name until they are gone, and not longer", async () => {
    const client = await login();
    await done(client, "CREATE TEMP TABLE customers (id int, ssn text)", "INSERT INTO customers VALUES (7, 'my own')");
    expect(await done(client, "SELECT upper(ssn), id FROM customers")).toEqual([["MY OWN", "7"]]);
    expect(await done(client, "SELECT upper(ssn) FROM public.customers WHERE id = 1")).toEqual([["****"]]);
    await done(client, "BEGIN", "DROP TABLE customers");
    expect(await done(client, "SELECT upper(ssn) FROM customers WHERE id = 1")).toEqual([["****"]]);
    await done(client, "ROLLBACK");
    expect(await done(client, "SELECT upper(ssn) FROM customers")).toEqual([["MY OWN"]]);
    await done(client, "DROP TABLE customers");
    expect(await done(client, "SELECT upper(ssn) FROM customers WHERE id = 1")).toEqual([["****"]]);
    await done(client, "BEGIN", "CREATE TEMP TABLE customers (ssn text, id int) ON COMMIT DROP", "COMMIT");
    expect(await done(client, "SELECT upper(ssn) FROM customers WHERE id = 1")).toEqual([["****"]]);
    await done(client, "BEGIN", "CREATE TEMP TABLE customers (ssn text, id int)", "ROLLBACK");
    expect(await done(client, "SELECT upper(ssn) FROM customers WHERE id = 1")).toEqual([["****"]]);
    await done(client, "CREATE TEMP TABLE other (ssn text, id int)", "ALTER TABLE other RENAME TO customers", "DISCARD TEMP");
    expect(await done(client, "SELECT upper(ssn) FROM customers WHERE id = 1")).toEqual([["****"]]);
    await client.end();
  });

  it("do not change what a statement reads that was parsed before", async () => {
    const client = await login();
    await done(client, "CREATE TEMP TABLE early (id int)");
    await client.pipeline(parse("read", "SELECT reverse(ssn) FROM customers WHERE id = 1"));
    await client.pipeline(parse("", "CREATE TEMP TABLE customers (id int, ssn text)"), bind("", ""), execute(""));
    const answers = await client.pipeline(bind("", "read"), execute(""));
    expectNoSecret(answers, "a statement parsed before");
    expect(rowsOf(answers)).toEqual([["****"]]);
    await client.end();
  });

  it("keep labels through cursors, portals that stop, prepared statements and COPY", async () => {
    const client = await login();
    await done(
      client,
      "CREATE TEMP TABLE kept (id int, held text)",
      "PREPARE add AS INSERT INTO kept SELECT id, reverse(ssn) FROM customers WHERE id = $1",
    );
    await client.query("EXECUTE add(1)");
    expectNoSecret(await client.query("SELECT held FROM kept"), "EXECUTE");
    await done(client, "CREATE TEMP TABLE stopped (held text)");
    const answers = await client.pipeline(
      parse("", "INSERT INTO stopped SELECT reverse(ssn) FROM customers RETURNING 1"),
      bind("", ""),
      execute("", 1),
      parse("", "SELECT held, held || '' FROM stopped LIMIT 1"),
      bind("", ""),
      execute(""),
    );
    expectNoSecret(answers, "a portal that stopped");
    expect(rowsOf(answers)).toEqual([["1"], ["****", "****"]]);
    expect(await done(client, "SELECT held, held || '' FROM stopped LIMIT 1")).toEqual([["****", "****"]]);
    expectNoSecret(await client.query("COPY kept TO STDOUT"), "COPY");
    await done(client, "BEGIN");
    expectNoSecret(await client.query("DECLARE c CURSOR FOR SELECT held, reverse(held) FROM kept"), "DECLARE");
    expectNoSecret(await client.query("FETCH ALL FROM c"), "FETCH");
    await client.end();
  });

  it("stay the only place that a protected value may be written to", async () => {
    const client = await login();
    for (const sql of [
      "INSERT INTO big SELECT 0, ssn FROM customers WHERE id = 1",
      "UPDATE big SET label = ssn FROM customers WHERE big.id = 1 AND customers.id = 1",
      "UPDATE customers SET name = ssn WHERE id = 1",
      "MERGE INTO big USING customers c ON c.id = big.id WHEN MATCHED THEN UPDATE SET label = c.ssn",
      "CREATE TABLE copied AS SELECT ssn FROM customers",
      "SELECT ssn INTO copied FROM customers",
      "SELECT label INTO copied FROM big WHERE id = 1 UNION ALL SELECT reverse(ssn) FROM customers",
      "CREATE MATERIALIZED VIEW copied AS SELECT reverse(ssn) AS x FROM customers",
      "CREATE VIEW copied AS SELECT reverse(ssn) AS x FROM customers",
      "CREATE FUNCTION copied() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers LIMIT 1'",
      "CREATE FUNCTION pg_temp.copied() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers LIMIT 1'",
      "SELECT set_config('app.x', ssn, false) FROM customers",
      "SELECT pg_notify('x', ssn) FROM customers",
      "SELECT setval('orders_id', ascii(ssn)) FROM customers",
      "SELECT pg_advisory_lock(ascii(ssn)) FROM customers",
      "SELECT lo_from_bytea(0, ssn::bytea) FROM customers",
      "CREATE INDEX ON customers (reverse(ssn))",
      "CREATE STATISTICS s ON (reverse(ssn)), id FROM customers",
      "ALTER TABLE customers ADD CHECK (ssn > '5')",
      "ALTER TABLE customers ADD COLUMN x text GENERATED ALWAYS AS (reverse(ssn)) STORED",
      "ALTER TABLE customers RENAME COLUMN ssn TO x",
      "ALTER TABLE customers RENAME TO x",
      "ALTER TABLE customers ALTER ssn TYPE varchar(20)",
      "CREATE TRIGGER t AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
      "CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO big VALUES (0, new.ssn)",
      "CREATE POLICY p ON customers USING (ssn > '5')",
      "CREATE PUBLICATION p FOR TABLE customers",
      "GRANT SELECT ON customers TO public",
      "COMMENT ON COLUMN customers.ssn IS 'x'",
      "PREPARE TRANSACTION 'x'",
      "CREATE TEMP TABLE child () INHERITS (big)",
      "CREATE TEMP TABLE checked AS SELECT 1; DO $$ BEGIN END $$",
    ]) {
      await refused(client, sql);
    }
    await done(
      client,
      "CREATE VIEW plain AS SELECT id, name FROM customers",
      "DROP VIEW plain",
      "CREATE TABLE plain AS SELECT id, name FROM customers",
      "INSERT INTO plain SELECT id, name FROM customers",
      "DROP TABLE plain",
    );
    await client.end();
  });

  it("tell nothing by a write that fails for some values", async () => {
    const client = await login();
    await done(client, "CREATE TEMP TABLE narrow (a text CHECK (a LIKE '5%'), b varchar(3), c text UNIQUE, d int)");
    for (const column of ["a", "b", "c"])
      await refused(client, `INSERT INTO narrow (${column}) SELECT ssn FROM customers WHERE id = 1`);
    await refused(client, "INSERT INTO narrow (d) SELECT ascii(ssn) FROM customers WHERE id = 1");
    await client.end();
  });
});
