/**
 * DDL through one gateway, masked callers on another: what a view is replaced by is never read by what the view was. Two gateways as
 * processes; tests run in order. Values are looked for as they are and backwards, as detectors do not know them that way.
 */
import { setTimeout as delay } from "node:timers/promises";
import { installWatchSql } from "@sluice/agent/catalog/watch-queries.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Fleet, portOf, startFleet } from "./support/fleet.ts";
import type { FleetNode } from "./support/fleet-node.ts";
import { planted } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { bind, codeOf, errorsOf, execute, parse, rowsOf, sync, type WireMessage } from "./support/wire-messages.ts";

/** How long a gateway may be away before it is no part of the installation, here. */
const GONE_MS = 8_000;
const ROUNDS = 12;
/** Seconds, in which DDL is committed and read everywhere. */
const SLOW = "SELECT count(*) FROM big a, big b WHERE b.id <= 1500";
const HARMLESS = "SELECT id, name FROM customers";
const LEAKS = ["SELECT id, ssn AS name FROM customers", "SELECT id, reverse(ssn) AS name FROM customers"] as const;

/** Masked callers whose statements are not held behind each other, as a limit on rows would have it. */
const clerks = `
---
apiVersion: sluice/v1
kind: Policy
metadata: { name: clerks }
spec:
  principals: { groups: [clerks] }
  resources: { labels: { env: prod } }
  rules:
    - { name: read, effect: allow, when: "statement.class in ['read', 'session', 'transaction', 'export']" }
    - { name: mask-pii, effect: mask, entities: [US_SSN, EMAIL_ADDRESS, CREDIT_CARD], operator: { partial: { keepLast: 4 } } }
`;

describe("DDL across two gateways", () => {
  let fleet: Fleet;
  let here: FleetNode;
  let there: FleetNode;
  let dba: RawClient;
  let agentToken: string;
  let clerkToken: string;
  beforeAll(async () => {
    fleet = await startFleet({
      controlPlanes: 1,
      gateways: 2,
      agents: 1,
      manifests: (text) => text + clerks,
      config: (role) => (role === "control-plane" ? `limits: { nodeGoneMs: ${GONE_MS} }\n` : ""),
    });
    [here, there] = fleet.gateways as [FleetNode, FleetNode]; // as many as asked for
    agentToken = await fleet.token("ada", ["agents"]);
    clerkToken = await fleet.token("carl", ["clerks"]);
    dba = await login(here, await fleet.token("dora", ["dba"]));
    await done(dba, `CREATE VIEW v AS ${HARMLESS}`);
  });
  afterAll(async () => {
    await dba?.end();
    await fleet?.stop();
  });

  const login = (gateway: FleetNode, token: string): Promise<RawClient> =>
    RawClient.login({ port: portOf(gateway), caFile: gateway.ready.caFile, token });
  const done = async (client: RawClient, sql: string): Promise<readonly WireMessage[]> => {
    const answers = await client.query(sql);
    expect(errorsOf(answers), sql).toEqual([]);
    return answers;
  };
  const replace = async (query: string): Promise<void> => {
    await done(dba, "BEGIN");
    await done(dba, `CREATE OR REPLACE VIEW v AS ${query}`);
    await done(dba, "COMMIT");
  };
  const prepared = async (client: RawClient): Promise<() => Promise<readonly WireMessage[]>> => {
    expect(errorsOf(await client.pipeline(parse("shown", "SELECT id, name FROM v WHERE id = $1")))).toEqual([]);
    return () => client.pipeline(bind("", "shown", ["1"]), execute(""));
  };
  /** What a masked caller may ever see of the first customer's name in the view. */
  const seenOf = (answers: readonly WireMessage[]): string => {
    const bytes = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    for (const { ssn } of planted)
      for (const value of [ssn, ssn.split("").reverse().join("")])
        expect(bytes, "a planted value was received").not.toContain(value);
    const [error] = errorsOf(answers);
    if (error !== undefined) return `error ${codeOf(error)}`;
    const rows = rowsOf(answers);
    return rows.length === 0 ? "nothing" : String(rows.at(-1)!.at(-1));
  };
  /** How many of the slow statements run at the target. */
  const slow = async (): Promise<number> =>
    await fleet.target.admin("orders", async (admin) => {
      const text = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = $1";
      return (await admin.query(text, [SLOW])).rowCount ?? 0;
    });
  const harmlessThere = async (client: RawClient): Promise<void> => {
    const name = async (): Promise<string> => seenOf(await client.query("SELECT id, name FROM v WHERE id = 1"));
    await expect.poll(name, { timeout: 10_000, interval: 50 }).toBe("customer 1");
  };

  it("never lets a masked caller there read by what a view was before", async () => {
    const simple = await login(there, agentToken);
    const other = await login(there, agentToken);
    const runPrepared = await prepared(other);
    await harmlessThere(simple);
    const seen = new Set<string>();
    const stop = new AbortController();
    const loop = async (ask: () => Promise<readonly WireMessage[]>): Promise<number> => {
      let times = 0;
      for (; !stop.signal.aborted; times += 1) seen.add(seenOf(await ask()));
      return times;
    };
    const loops = Promise.all([loop(() => simple.query("SELECT id, name FROM v WHERE id = 1")), loop(runPrepared)]);
    try {
      for (let round = 0; round < ROUNDS; round += 1) {
        await replace(LEAKS[round % 2]!);
        await delay(100);
        await replace(HARMLESS);
        await delay(100);
      }
    } finally {
      stop.abort();
    }
    for (const times of await loops) expect(times).toBeGreaterThan(ROUNDS);
    // Both were there to be read, or this has shown nothing.
    expect([...seen]).toEqual(expect.arrayContaining(["customer 1", "****"]));
    await harmlessThere(simple);
    await simple.end();
    await other.end();
  });

  it("plans what was judged before and runs after by nothing that was known then, here and there", async () => {
    for (const gateway of [here, there]) {
      for (const leak of LEAKS) {
        const clerk = await login(gateway, clerkToken);
        await clerk.pipeline(parse("slow", SLOW));
        const runPrepared = await prepared(clerk);
        expect(seenOf(await runPrepared())).toBe("customer 1");
        clerk.send(bind("", "slow", []), execute(""), bind("", "shown", ["1"]), execute(""), sync);
        await expect.poll(slow, { timeout: 10_000, interval: 20 }).toBe(1);
        await replace(leak);
        expect(await slow(), "the slow statement was over too soon for this to show anything").toBe(1);
        const answers = await clerk.untilReady();
        expect(seenOf(answers)).toBe("****");
        expect(["****", "***-**-9382"]).toContain(seenOf(await runPrepared()));
        await replace(HARMLESS);
        await clerk.end();
      }
    }
  });

  it("ends a session whose COPY was permitted for what a view was, and runs for what it is", async () => {
    await done(dba, "CREATE TABLE plain AS SELECT id, balance AS n FROM customers");
    await done(dba, "CREATE VIEW numbers AS SELECT id, n FROM plain");
    const clerk = await login(there, clerkToken);
    const data = (answers: readonly WireMessage[]): string =>
      Buffer.concat(answers.filter(({ type }) => type === "d").map(({ body }) => body)).toString();
    await clerk.pipeline(parse("slow", SLOW), parse("out", "COPY (SELECT n FROM numbers WHERE id = 1) TO STDOUT"));
    expect(data(await clerk.pipeline(bind("", "out", []), execute("")))).toMatch(/^1000\s*$/);
    clerk.send(bind("", "slow", []), execute(""), bind("", "out", []), execute(""), sync);
    await expect.poll(slow, { timeout: 10_000, interval: 20 }).toBe(1);
    await done(dba, "CREATE OR REPLACE VIEW numbers AS SELECT id, replace(ssn, '-', '')::numeric AS n FROM customers");
    expect(await slow(), "the slow statement was over too soon for this to show anything").toBe(1);
    const answers = await clerk.untilClosed();
    expect(codeOf(errorsOf(answers).at(-1))).toBe("target_protocol");
    expect(data(answers)).toBe("");
  });

  it("tells a gateway that starts what is open", async () => {
    await done(dba, "BEGIN");
    await done(dba, `CREATE OR REPLACE VIEW v AS ${LEAKS[1]}`);
    await there.kill();
    await there.start();
    const client = await login(there, clerkToken);
    // Of a function of a column the wire proves nothing, so that it is masked as long as DDL is open.
    expect(rowsOf(await client.query("SELECT upper(label) FROM big WHERE id = 1"))).toEqual([["****"]]);
    const around = client.query("SELECT id, name FROM v WHERE id = 1");
    await done(dba, "COMMIT");
    expect(["****", "error denied"]).toContain(seenOf(await around));
    await expect.poll(async () => seenOf(await client.query("SELECT id, name FROM v WHERE id = 1"))).toBe("****");
    await replace(HARMLESS);
    await harmlessThere(client);
    expect(rowsOf(await client.query("SELECT upper(label) FROM big WHERE id = 1"))).toEqual([["ROW 1"]]);
    await client.end();
  });

  it("refuses DDL while a gateway does not answer, and no longer than it is part of the installation", async () => {
    await there.kill();
    const refused = async (sql: string): Promise<void> => {
      const beganMs = performance.now();
      const [error] = errorsOf(await dba.query(sql));
      expect(error, sql).toMatchObject({
        S: "ERROR",
        C: "53000",
        M: expect.stringContaining(`the gateway ${there.name} does not answer`),
        H: expect.stringContaining("Try again in a minute"),
      });
      expect(codeOf(error)).toBe("ddl_unannounced");
      expect(performance.now() - beganMs).toBeLessThan(3_000);
    };
    await refused(`CREATE OR REPLACE VIEW v AS ${LEAKS[0]}`);
    // As the target itself would: the transaction has failed.
    await done(dba, "BEGIN");
    await refused("ALTER TABLE big ADD COLUMN more int");
    expect(errorsOf(await dba.query("SELECT 1"))[0]).toMatchObject({ C: "25P02" });
    await done(dba, "ROLLBACK");
    await done(dba, "SELECT id FROM orders WHERE id = 1");
    await done(dba, "UPDATE orders SET total = total WHERE id = 1");
    const piped = await dba.pipeline(parse("", `CREATE OR REPLACE VIEW v AS ${LEAKS[0]}`), bind("", ""), execute(""));
    expect(codeOf(errorsOf(piped)[0])).toBe("ddl_unannounced");
    const later = async (): Promise<string> => {
      const [error] = errorsOf(await dba.query(`CREATE OR REPLACE VIEW v AS ${HARMLESS}`));
      return error === undefined ? "done" : codeOf(error);
    };
    await expect.poll(later, { timeout: GONE_MS + 20_000, interval: 500 }).toBe("done");
  });

  it("announces to a gateway that has come back", async () => {
    await there.start();
    await fleet.untilConnected("gateway", 2);
    const client = await login(there, agentToken);
    await harmlessThere(client);
    await replace(LEAKS[1]);
    expect(seenOf(await client.query("SELECT id, name FROM v WHERE id = 1"))).toBe("****");
    await replace(HARMLESS);
    await harmlessThere(client);
    await client.end();
  });

  const past = async (...statements: readonly string[]): Promise<void> =>
    await fleet.target.admin("orders", async (admin) => {
      for (const statement of statements) await admin.query(statement);
    });
  const isLeak = (answers: readonly WireMessage[]): boolean => {
    const bytes = Buffer.concat(answers.map(({ body }) => body)).toString("latin1");
    return planted.some(({ ssn }) => bytes.includes(ssn) || bytes.includes(ssn.split("").reverse().join("")));
  };

  it("learns on every gateway within a second of what was changed past all of them, where the database tells", async () => {
    await past(installWatchSql);
    const clients = [await login(here, clerkToken), await login(there, clerkToken)];
    try {
      for (const client of clients) await harmlessThere(client);
      await delay(6_000); // a look at the latest, so that agents know that they are told
      for (const leak of LEAKS) {
        await past(`CREATE OR REPLACE VIEW v AS ${leak}`);
        const changedMs = performance.now();
        const windows = clients.map(async (client) => {
          let leakedMs = 0;
          while (performance.now() - changedMs < 2_000)
            if (isLeak(await client.query("SELECT id, name FROM v WHERE id = 1"))) leakedMs = performance.now() - changedMs;
          return leakedMs;
        });
        for (const leakedMs of await Promise.all(windows)) expect(leakedMs).toBeLessThan(1_000);
        await past(`CREATE OR REPLACE VIEW v AS ${HARMLESS}`);
        for (const client of clients) await harmlessThere(client);
      }
    } finally {
      for (const client of clients) await client.end();
    }
  });

  it("keeps the label of a column renamed past all gateways, also on one that starts afterwards", async () => {
    const names = async (): Promise<string> => (await fleet.cli(["bindings", "list", "--resource", "orders"])).stdout;
    await expect.poll(names, { timeout: 15_000, interval: 500 }).toContain("public.customers.ssn");
    await there.kill();
    await past("ALTER TABLE customers RENAME COLUMN ssn TO remark");
    await there.start();
    for (const gateway of [there, here]) {
      const client = await login(gateway, clerkToken);
      const shown = async (): Promise<string> => seenOf(await client.query("SELECT reverse(remark) FROM customers WHERE id = 1"));
      await expect.poll(shown, { timeout: 15_000, interval: 100 }).toBe("****");
      await client.end();
    }
    await expect.poll(names, { timeout: 15_000, interval: 500 }).toContain("public.customers.remark");
    await past("ALTER TABLE customers RENAME COLUMN remark TO ssn");
  });
});
