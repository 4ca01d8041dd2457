/**
 * What happens past every gateway: columns and tables are called something else, views are replaced. A label goes where its column goes,
 * and what was judged before is not believed after the published window. Real servers, by polling and by event triggers.
 */
import { installWatchSql } from "@sluice/agent/catalog/watch-queries.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { planted } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import { bind, codeOf, errorsOf, execute, parse, rowsOf, type WireMessage } from "./support/wire-messages.ts";

/** How often the database is looked at, here. */
const PROBE_MS = 1_000;
/** What the guide promises where event triggers are installed. */
const TOLD_MS = 1_000;
/** Values of the first customer, and backwards, as detectors do not know them. */
const markers = planted.flatMap(({ ssn }) => [ssn, ssn.split("").reverse().join("")]);

interface Binding {
  readonly entity: string;
  readonly firstSeenAs: string;
  readonly seenAs: string;
}

describe.each(targetVersions)("past the gateway, PostgreSQL %s", (version) => {
  let orders: Orders;
  let agent: RawClient;
  beforeAll(async () => {
    orders = await startOrders({ version, config: (config) => `${config}\nlimits: { catalogProbeMs: ${PROBE_MS} }\n` });
    agent = await login();
    await past("ALTER TABLE customers ADD COLUMN marker text GENERATED ALWAYS AS (reverse(ssn)) STORED");
  });
  afterAll(async () => {
    await agent?.end();
    await orders?.stop();
  });

  const login = (): Promise<RawClient> =>
    RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token: orders.agent });
  const past = async (...statements: readonly string[]): Promise<void> =>
    await orders.target.admin("orders", async (admin) => {
      for (const statement of statements) await admin.query(statement);
    });
  const bindings = async (...more: readonly string[]): Promise<readonly Binding[]> => {
    const { status, stdout, stderr } = await orders.sluice.cli("bindings", "list", "--json", "--resource", "orders", ...more);
    expect(status, stderr).toBe(0);
    return JSON.parse(stdout) as readonly Binding[]; // our own command's, checked by what is expected of it
  };
  const leaks = (answers: readonly WireMessage[]): boolean => {
    const bytes = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    return markers.some((marker) => bytes.includes(marker));
  };
  const shown = (answers: readonly WireMessage[]): string => {
    expect(leaks(answers), "a planted value was received").toBe(false);
    const [error] = errorsOf(answers);
    return error === undefined ? (rowsOf(answers).at(-1)?.at(-1) ?? "nothing") : `error ${codeOf(error)}`;
  };
  /** Asks again and again: never a planted value, and at last the masked one. */
  const masked = async (sql: string): Promise<void> => {
    await expect.poll(async () => shown(await agent.query(sql)), { timeout: 15_000, interval: 30 }).toMatch(/\*\*/);
  };
  const bound = async (seenAs: string): Promise<void> => {
    await expect
      .poll(async () => (await bindings()).map((binding) => binding.seenAs), { timeout: 15_000, interval: 300 })
      .toContain(seenAs);
  };

  it("keeps the label of a column that is called something else, within the window and after it", async () => {
    await masked("SELECT marker FROM customers WHERE id = 1");
    await bound("public.customers.ssn");
    await bound("public.customers.marker");
    await past("ALTER TABLE customers RENAME COLUMN ssn TO remark", "ALTER TABLE customers RENAME COLUMN marker TO comment");
    await masked("SELECT remark FROM customers WHERE id = 1");
    await masked("SELECT comment FROM customers WHERE id = 1");
    await bound("public.customers.remark");
    const renamed = await bindings("--renamed");
    expect(renamed).toContainEqual(
      expect.objectContaining({ entity: "US_SSN", firstSeenAs: "public.customers.ssn", seenAs: "public.customers.remark" }),
    );
  });

  it("keeps it when the table is called something else or moves to another schema", async () => {
    await past("ALTER TABLE customers RENAME TO people");
    await masked("SELECT comment FROM people WHERE id = 1");
    await past("CREATE SCHEMA old", "GRANT USAGE ON SCHEMA old TO PUBLIC", "ALTER TABLE people SET SCHEMA old");
    await masked("SELECT comment FROM old.people WHERE id = 1");
    await masked("SELECT p.comment || '' FROM old.people p WHERE id = 1");
    await past("ALTER TABLE old.people SET SCHEMA public", "ALTER TABLE people RENAME TO customers");
    await masked("SELECT comment FROM customers WHERE id = 1");
  });

  it("labels a column that is dropped and made anew under its name by its name", async () => {
    await past("CREATE TABLE staff (id int, ssn text)", "GRANT SELECT ON staff TO PUBLIC", "INSERT INTO staff VALUES (1, 'x')");
    await bound("public.staff.ssn");
    await past(
      "ALTER TABLE staff DROP COLUMN ssn",
      "ALTER TABLE staff ADD COLUMN ssn text",
      "UPDATE staff SET ssn = '987654320'",
    );
    await masked("SELECT ssn FROM staff WHERE id = 1");
    const of = async (): Promise<number> =>
      (await bindings()).filter(({ firstSeenAs }) => firstSeenAs === "public.staff.ssn").length;
    await expect.poll(of, { timeout: 15_000, interval: 300 }).toBe(2);
  });

  it("forgets what an administrator says, and the history has it", async () => {
    const which = ["--resource", "orders", "--column", "public.staff.ssn"];
    const { status, stdout, stderr } = await orders.sluice.cli("bindings", "forget", ...which);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/2 bindings are forgotten/);
    const history = await orders.sluice.cli("manifests", "history");
    expect(history.stdout + history.stderr).toContain("ColumnBindings");
    await masked("SELECT ssn FROM staff WHERE id = 1");
  });

  const leakWindow = async (): Promise<number> => {
    const name = `shown_${Math.floor(performance.now())}`;
    await past(`CREATE VIEW ${name} AS SELECT id, name FROM customers`, `GRANT SELECT ON ${name} TO PUBLIC`);
    const harmless = async (): Promise<string> => shown(await agent.query(`SELECT name FROM ${name} WHERE id = 1`));
    await expect.poll(harmless, { timeout: 15_000, interval: 50 }).toBe("customer 1");
    expect(errorsOf(await agent.pipeline(parse(name, `SELECT name FROM ${name} WHERE id = $1`)))).toEqual([]);
    await past(`CREATE OR REPLACE VIEW ${name} AS SELECT id, comment AS name FROM customers`);
    const changedMs = performance.now();
    let leakedMs = 0;
    for (let quiet = 0; quiet < 20; quiet += 1) {
      const answers = await agent.pipeline(bind("", name, ["1"]), execute(""));
      if (leaks(answers)) {
        quiet = 0;
        leakedMs = performance.now() - changedMs;
        expect(leakedMs, "the window does not end").toBeLessThan(15_000);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    await masked(`SELECT name FROM ${name} WHERE id = 1`);
    return leakedMs;
  };

  it("finds a view that was replaced elsewhere within the window of polling", async () => {
    const windowMs = await leakWindow();
    process.stdout.write(`PostgreSQL ${version}: DDL past the gateway unseen for ${Math.round(windowMs)} ms by polling\n`);
    expect(windowMs).toBeLessThan(PROBE_MS + 4_000);
  });

  it("is told of it within a second where event triggers are installed", async () => {
    await past(installWatchSql);
    const windowMs = await leakWindow();
    process.stdout.write(`PostgreSQL ${version}: DDL past the gateway unseen for ${Math.round(windowMs)} ms when told\n`);
    expect(windowMs).toBeLessThan(TOLD_MS);
  });
});
