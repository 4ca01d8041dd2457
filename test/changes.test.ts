/** What changes while sessions run: definitions at the target, policies, tokens. Nothing judged before may be believed after. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { contractManifests, type Orders, startOrders } from "./support/orders.ts";
import { planted } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import { bind, codeOf, errorsOf, execute, parse, rowsOf, type WireMessage } from "./support/wire-messages.ts";

describe.each(targetVersions)("changes, against PostgreSQL %s", (version) => {
  let orders: Orders;
  let agent: RawClient;
  let dba: RawClient;
  beforeAll(async () => {
    orders = await startOrders({ version, config: (config) => `${config}\nlimits: { tokenGraceMs: 1000 }\n` });
    agent = await login(orders.agent);
    dba = await login(orders.dba);
    await done(dba, "CREATE TABLE stuff (id int PRIMARY KEY, plain text)");
    await done(dba, "INSERT INTO stuff SELECT id, notes FROM customers");
  });
  afterAll(async () => {
    await agent?.end();
    await dba?.end();
    await orders?.stop();
  });

  const login = (token: string): Promise<RawClient> =>
    RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token });
  async function done(client: RawClient, sql: string): Promise<readonly WireMessage[]> {
    const answers = await client.query(sql);
    expect(errorsOf(answers), sql).toEqual([]);
    return answers;
  }
  const expectNoValue = (answers: readonly WireMessage[]): void => {
    const bytes = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    for (const { ssn, email, card } of planted) for (const value of [ssn, email, card]) expect(bytes).not.toContain(value);
  };

  it("masks a prepared statement over a view that was replaced meanwhile, through the gateway", async () => {
    await done(dba, "CREATE VIEW shown AS SELECT id, name FROM customers");
    await agent.pipeline(parse("shown", "SELECT id, name FROM shown WHERE id = $1"));
    expect(rowsOf(await agent.pipeline(bind("", "shown", ["1"]), execute("")))).toEqual([["1", "customer 1"]]);
    await done(dba, "CREATE OR REPLACE VIEW shown AS SELECT id, ssn || '' AS name FROM customers");
    for (let run = 0; run < 3; run++) {
      const answers = await agent.pipeline(bind("", "shown", ["1"]), execute(""));
      expectNoValue(answers);
      expect([[["1", "****"]], []]).toContainEqual(rowsOf(answers));
    }
    const fresh = await agent.query("SELECT id, name FROM shown WHERE id = 1");
    expect(rowsOf(fresh)).toEqual([["1", "****"]]);
  });

  it("trusts nothing while a definition is changing in somebody's transaction", async () => {
    await done(dba, "CREATE VIEW moving AS SELECT id, name FROM customers");
    await done(dba, "BEGIN");
    await done(dba, "CREATE OR REPLACE VIEW moving AS SELECT id, reverse(ssn) AS name FROM customers");
    const pending = agent.query("SELECT name FROM moving WHERE id = 1");
    await done(dba, "COMMIT");
    const answers = await pending;
    expectNoValue(answers);
    expect(Buffer.concat(answers.map(({ body }) => body)).toString()).not.toContain(planted[0]!.ssn.split("").reverse().join(""));
  });

  it("sees a table and a column that did not exist before, at once", async () => {
    await done(dba, "CREATE TABLE fresh (id int PRIMARY KEY, home_email text, doc text)");
    await done(dba, `INSERT INTO fresh VALUES (1, '${planted[0]!.email}', 'x')`);
    const answers = await agent.query("SELECT home_email, upper(home_email), id FROM fresh WHERE id = 1");
    expectNoValue(answers);
    expect(rowsOf(answers)[0]!.slice(1)).toEqual(["****", "1"]);
    await done(dba, `ALTER TABLE fresh ADD COLUMN pan text DEFAULT '${planted[0]!.card}'`);
    const added = await agent.query("SELECT upper(pan) FROM fresh WHERE id = 1");
    expect(rowsOf(added)).toEqual([["****"]]);
  });

  it("forgets a definition that was rolled back, and follows one's own", async () => {
    await done(dba, "BEGIN");
    await done(dba, "CREATE TABLE brief (id int)");
    expect(rowsOf(await done(dba, "SELECT count(*) FROM brief"))).toEqual([["0"]]);
    await done(dba, "ROLLBACK");
    const gone = await dba.query("SELECT count(*) FROM brief");
    expect(errorsOf(gone)[0]).toMatchObject({ C: "42P01" });
    expect(rowsOf(await agent.query("SELECT count(*) FROM customers"))).toEqual([["3"]]);
  });

  it("decides for each caller alone, whoever sent the same text first", async () => {
    const sql = "SELECT ssn FROM customers WHERE id = 1 /* the very same text */";
    for (let run = 0; run < 3; run++) {
      expect(rowsOf(await dba.query(sql))).toEqual([[planted[0]!.ssn]]);
      expect(rowsOf(await agent.query(sql))).toEqual([["***-**-9382"]]);
    }
    expect(errorsOf(await agent.query("TABLE customers"))).toHaveLength(1);
    expect(rowsOf(await dba.query("TABLE customers"))).toHaveLength(3);
    expect(errorsOf(await agent.query("TABLE customers"))).toHaveLength(1);
  });

  it("decides a prepared statement again when the policy has changed", async () => {
    await agent.pipeline(parse("kept", "SELECT total FROM orders WHERE id = $1"));
    expect(rowsOf(await agent.pipeline(bind("", "kept", ["2"]), execute("")))).toEqual([["3.0"]]);
    const manifests = await contractManifests(orders.target.port);
    const stricter = manifests
      .replace("bulk export is not allowed for agents", "nothing is allowed today")
      .replace('when: "statement.bulkExport"', 'when: "true"');
    expect(stricter).not.toBe(manifests);
    const file = join(orders.sluice.directory, "now.yaml");
    await writeFile(file, stricter);
    expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
    const refused = await agent.pipeline(bind("", "kept", ["2"]), execute(""));
    expect(rowsOf(refused)).toEqual([]);
    expect(errorsOf(refused)[0]).toMatchObject({ C: "42501", M: "nothing is allowed today" });
    await writeFile(file, manifests);
    expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
    expect(rowsOf(await agent.pipeline(bind("", "kept", ["2"]), execute("")))).toEqual([["3.0"]]);
  });

  it("ends a session when its token's time is over", async () => {
    const client = await login(await orders.sluice.token("ada", ["agents"], "--ttl", "2s"));
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    const [error] = errorsOf(await client.untilClosed());
    expect(error).toMatchObject({ S: "FATAL", C: "57P01", M: expect.stringMatching(/expired/) });
    expect(codeOf(error)).toBe("killed");
  });

  it("masks under another search_path, and what a path would put in front", async () => {
    await done(
      dba,
      "CREATE SCHEMA other; CREATE VIEW other.customers AS SELECT id, notes AS name, ssn AS email, card AS ssn FROM public.customers",
    );
    const client = await login(orders.agent);
    await client.query("SET search_path = other, public");
    const answers = await client.query("SELECT ssn, email, lower(name) FROM customers WHERE id = 1");
    expectNoValue(answers);
    await client.end();
    const started = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
    expect(errorsOf(await started.login({ token: orders.agent, parameters: { options: "-c search_path=other" } }))).toEqual([]);
    expectNoValue(await started.query("SELECT ssn, email, upper(ssn), name FROM customers WHERE id = 1"));
    await started.end();
  });

  it("counts what a refusal must not do: nothing reaches the target", async () => {
    const before = await orders.target.admin(
      "orders",
      async (client) => (await client.query("SELECT count(*)::int AS n FROM orders")).rows,
    );
    for (const sql of [
      "DELETE FROM orders",
      "SELECT 1; DELETE FROM orders",
      "WITH d AS (DELETE FROM orders RETURNING id) SELECT count(*) FROM d",
      "EXPLAIN ANALYZE DELETE FROM orders",
      "COPY (DELETE FROM orders RETURNING id) TO STDOUT",
    ]) {
      expect(errorsOf(await agent.query(sql))[0], sql).toMatchObject({ C: "42501" });
      expect(errorsOf(await agent.pipeline(parse("", sql), bind("", ""), execute("")))[0], sql).toMatchObject({
        C: expect.stringMatching(/^42/),
      });
    }
    const after = await orders.target.admin(
      "orders",
      async (client) => (await client.query("SELECT count(*)::int AS n FROM orders")).rows,
    );
    expect(after).toEqual(before);
  });
});
