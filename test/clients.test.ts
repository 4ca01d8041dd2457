/** Ordinary clients, unchanged: psql, node-postgres, psycopg, JDBC, each in a session as people have them. */
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { catalogQueries } from "./clients/catalog-queries.ts";
import { clientPrograms } from "./clients/catalogue.ts";
import { type ClientGround, roles, startClientGround } from "./clients/installation.ts";
import { runProgram } from "./clients/run-program.ts";
import { type Orders, startOrders } from "./support/orders.ts";
import { targetVersions } from "./support/targets.ts";

const MASKED = ["***-**-9382", "***-**-5462", "***-**-4077"];

describe.each(targetVersions)("clients, against PostgreSQL %s", (version) => {
  let orders: Orders;
  beforeAll(async () => {
    orders = await startOrders({
      version,
      // Cancelling needs something to cancel: a function of the server that only waits.
      manifests: (manifests) =>
        manifests.replace("credential:", "inspection: { safeFunctions: [pg_catalog.pg_sleep] }\n  credential:"),
    });
  });
  afterAll(async () => {
    await orders?.stop();
  });

  describe("psql", () => {
    it("shows the schema with its backslash commands", async () => {
      const result = await orders.psql(
        orders.agent,
        [
          "\\d",
          "\\d orders",
          "\\d customers",
          "\\d+ customers",
          "\\dt",
          "\\dv+",
          "\\di",
          "\\dn",
          "\\df",
          "\\dT",
          "\\du",
          "\\dp",
          "\\sv customer_contacts",
          "\\conninfo",
        ].join("\n"),
      );
      expect(result.stderr).toBe("");
      expect(result.status).toBe(0);
      for (const part of [
        "customers_pkey",
        "customer_contacts",
        "orders_customer",
        "order_state",
        "Foreign-key constraints",
        "numeric",
      ])
        expect(result.stdout).toContain(part);
    });

    it("runs statements of several lines, times them, sets formats, goes on after errors", async () => {
      const result = await orders.psql(
        orders.agent,
        `\\timing on
SELECT c.name,
       c.ssn, -- masked
       o.total
  FROM customers c
  JOIN orders o ON o.customer_id = c.id
 WHERE o.id = 3;
\\x on
SELECT id, ssn AS "the number" FROM customers WHERE id = 2;
\\x off
SELECT * FROM customers;
SELECT nothing FROM customers WHERE id = 1;
\\pset format csv
SELECT id, card FROM customers WHERE id = 3;
SELECT 'umlaut äöü €' AS text;
`,
      );
      expect(result.stdout).toMatch(/Time: [\d.,]+ ms/);
      expect(result.stdout).toContain("***-**-9382");
      expect(result.stdout).toMatch(/the number \| \*\*\*-\*\*-5462/);
      expect(result.stdout).toContain("3,***********0005");
      expect(result.stdout).toContain("umlaut äöü €");
      expect(result.stderr).toMatch(
        /ERROR: {2}bulk export is not allowed for agents\nDETAIL: {2}\{"code":"denied".*\nHINT: {2}\w/,
      );
      expect(result.stderr).toMatch(/column "nothing" does not exist|text is withheld/);
    });

    it("keeps transactions as they are at the server", async () => {
      const result = await orders.psql(
        orders.agent,
        `BEGIN;
SAVEPOINT a;
TABLE customers;
SELECT 1;
ROLLBACK TO a;
SELECT 'after savepoint';
COMMIT;
BEGIN;
TABLE customers;
COMMIT;
SELECT 'done';
`,
        "-At",
      );
      expect(result.stdout).toBe("BEGIN\nSAVEPOINT\nROLLBACK\nafter savepoint\nCOMMIT\nBEGIN\nROLLBACK\ndone\n");
      expect(result.stderr.match(/^ERROR:.*$/gm)).toEqual([
        "ERROR:  bulk export is not allowed for agents",
        "ERROR:  current transaction is aborted, commands ignored until end of transaction block",
        "ERROR:  bulk export is not allowed for agents",
      ]);
    });

    it("copies for a dba and not for a masked caller; gexec, watch-free loops and variables work", async () => {
      const refused = await orders.psql(
        orders.agent,
        "\\copy customers TO STDOUT\n\\copy (SELECT ssn FROM customers WHERE id = 1) TO STDOUT\n",
      );
      expect(refused.stdout).toBe("");
      expect(refused.stderr.match(/COPY TO would send|bulk export/g)).toHaveLength(2);
      const dba = await orders.psql(
        orders.dba,
        `\\set want 2
SELECT ssn FROM customers WHERE id = :want;
\\copy orders TO STDOUT (FORMAT csv)
CREATE TEMP TABLE copied (LIKE big);
\\copy copied FROM STDIN
1	one
2	two
\\.
SELECT count(*) FROM copied;
SELECT format('SELECT %s', n) FROM generate_series(7, 8) n \\gexec
SELECT id FROM orders WHERE id = 1 \\gset got_
\\echo :got_id
`,
        "-Atq",
      );
      expect(dba.stderr).toBe("");
      expect(dba.stdout.split("\n").slice(0, 2)).toEqual(["457-55-5462", expect.stringMatching(/^1,2,paid,1\.5,/)]);
      expect(dba.stdout).toMatch(/\n2\n7\n8\n1\n$/);
    });

    it("says in words why a login is refused", async () => {
      const result = await orders.psql("not-a-token", "SELECT 1");
      expect(result.status).toBe(2);
      expect(result.stderr).toMatch(/FATAL: {2}\w+ .*\n(.*\n)*HINT: {2}\w+/);
      expect(result.stderr).not.toContain("not-a-token");
    });
  });

  describe("node-postgres", () => {
    it("queries with parameters, prepared names, types, cursors of its own, and transactions", async () => {
      const client = await orders.connect(orders.agent, { application_name: "report" });
      const typed = await client.query(
        "SELECT id, name, balance, ssn, now() AS at, true AS yes, ARRAY[1, 2] AS list FROM customers WHERE id = $1",
        [1],
      );
      expect(typed.rows[0]).toMatchObject({
        id: 1,
        balance: "1000",
        ssn: MASKED[0],
        at: expect.any(Date),
        yes: true,
        list: [1, 2],
      });
      for (const id of [1, 2, 3]) {
        const named = await client.query({ name: "by-id", text: "SELECT ssn FROM customers WHERE id = $1", values: [id] });
        expect(named.rows).toEqual([{ ssn: MASKED[id - 1] }]);
      }
      const binary = await client.query({
        text: "SELECT ssn, id FROM customers WHERE id = $1",
        values: [2],
        binary: true,
      } as pg.QueryConfig); // `binary` is missing from the published types
      expect(binary.rows).toEqual([{ ssn: MASKED[1], id: 2 }]);
      const rows = await client.query({
        text: "SELECT id FROM customers WHERE id < $1 ORDER BY id",
        values: [4],
        rowMode: "array",
      });
      expect(rows.rows).toEqual([[1], [2], [3]]);

      await expect(client.query("SELECT * FROM customers WHERE $1::int = 1", [1])).rejects.toMatchObject({
        code: "42501",
        severity: "ERROR",
        hint: expect.stringMatching(/./),
      });
      await client.query("BEGIN");
      await client.query("SELECT 1");
      await expect(client.query({ name: "bulk", text: "TABLE customers" })).rejects.toMatchObject({ code: "42501" });
      await expect(client.query("SELECT 1")).rejects.toMatchObject({ code: "25P02" });
      await client.query("ROLLBACK");
      expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      await client.end();
    });

    it("answers a burst of queries in order, refused ones among them", async () => {
      const client = await orders.connect(orders.agent);
      const outcomes = await Promise.all(
        Array.from({ length: 60 }, (_, at) =>
          client.query(at % 3 === 2 ? "TABLE customers" : { text: "SELECT $1::int AS n", values: [at] }).then(
            ({ rows }) => (rows as { n: number }[])[0]!.n, // the statement above returns one integer
            (error: unknown) => (error as pg.DatabaseError).code, // node-postgres rejects with the server's error
          ),
        ),
      );
      expect(outcomes).toEqual(Array.from({ length: 60 }, (_, at) => (at % 3 === 2 ? "42501" : at)));
      await client.end();
    });

    it("works in a pool, with many sessions at once", async () => {
      const first = await orders.connect(orders.agent);
      const { ssl } = first as unknown as { ssl: pg.ClientConfig["ssl"] }; // the client keeps what it was given
      await first.end();
      const pool = new pg.Pool({
        host: "127.0.0.1",
        port: orders.sluice.port,
        user: "me",
        password: orders.agent,
        database: "orders",
        max: 10,
        ...(ssl === undefined ? {} : { ssl }),
      });
      const answers = await Promise.all(
        Array.from({ length: 100 }, (_, at) => pool.query("SELECT ssn FROM customers WHERE id = $1", [1 + (at % 3)])),
      );
      expect(answers.map(({ rows }) => (rows as { ssn: string }[])[0]!.ssn)).toEqual(
        Array.from({ length: 100 }, (_, at) => MASKED[at % 3]),
      ); // one text column
      await pool.end();
    });

    it("delivers notifications to a dba", async () => {
      const client = await orders.connect(orders.dba);
      const heard = new Promise((resolve) => {
        client.on("notification", resolve);
      });
      await client.query("LISTEN news");
      await client.query("NOTIFY news, 'hello'");
      expect(await heard).toMatchObject({ channel: "news", payload: "hello" });
      await client.end();
    });
  });
});

// The programs of `npm run test:clients` that need nothing but Debian packages and what npm has installed, with the same judge.
describe.each(targetVersions)("client programs, against PostgreSQL %s", (version) => {
  let ground: ClientGround;
  beforeAll(async () => {
    ground = await startClientGround(version);
  });
  afterAll(async () => {
    await ground?.stop();
  });

  const programs = clientPrograms.filter(({ slice }) => slice).flatMap((program) => roles.map((role) => ({ program, role })));
  it.each(programs)("$program.name sees what it must, as $role", async ({ program, role }) => {
    const { features } = await runProgram(await program.prepare(ground.orders.sluice.directory), ground, role);
    expect(Object.keys(features).length).toBeGreaterThan(12);
    expect(Object.entries(features).filter(([, seen]) => seen !== "ok")).toEqual([]);
  });

  it.each(roles)("tools that ask the catalogs get the database's own answers, as %s", async (role) => {
    const { features } = await catalogQueries(ground, role);
    expect(Object.entries(features).filter(([, seen]) => seen !== "ok")).toEqual([]);
  });
});
