/**
 * What unqualified names mean: the gateway's machine against real servers, step by step over random sessions; and through the
 * gateway, with two schemas that hold a table of one name, one protected and one not, exact both ways.
 */
import { parseSync } from "libpg-query";
import { indexCatalog } from "@sluice/inspect/sql/catalog-index.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { catalog, settings } from "@sluice/inspect/sql/postgres/testing.ts";
import { SessionNames } from "@sluice/inspect/sql/session-names.ts";
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { planted } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { targetVersions } from "./support/targets.ts";
import { bind, codeOf, errorsOf, execute, parse, query, rowsOf, sync } from "./support/wire-messages.ts";

const index = indexCatalog(catalog, parseSync);
const RUNS = Number(process.env["SLUICE_PROPERTY_RUNS"] ?? 60);

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      "SET search_path = a",
      "SET search_path = b, public",
      "SET search_path TO '$user', a",
      "SET LOCAL search_path = b",
      "SET LOCAL search_path TO DEFAULT",
      "RESET search_path",
      "SELECT set_config('search_path', 'a, b', false)",
      "SELECT set_config('search_path', '\"$user\"', true)",
      "SET search_path FROM CURRENT",
      "RESET ALL",
      "SET ROLE r1",
      "SET LOCAL ROLE r1",
      "RESET ROLE",
      "SET LOCAL SESSION AUTHORIZATION r1",
      "SET SESSION AUTHORIZATION DEFAULT",
    ),
  },
  {
    weight: 5,
    arbitrary: fc.constantFrom(
      "BEGIN",
      "COMMIT",
      "ROLLBACK",
      "COMMIT AND CHAIN",
      "SAVEPOINT s",
      "SAVEPOINT t",
      "RELEASE s",
      "ROLLBACK TO s",
      "ROLLBACK TO t",
    ),
  },
  { weight: 1, arbitrary: fc.constantFrom("SELECT 1/0", "DISCARD ALL", "DISCARD TEMP", "nonsense") },
);
const texts = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: step },
    { weight: 1, arbitrary: fc.array(step, { minLength: 2, maxLength: 4 }).map((all) => all.join("; ")) },
  ),
  {
    minLength: 3,
    maxLength: 24,
  },
);

describe.each(targetVersions)("names in a session, against PostgreSQL %s", (version) => {
  let orders: Orders;
  beforeAll(async () => {
    orders = await startOrders({
      version,
      // Only public.customers.ssn is protected, whatever other columns are called.
      manifests: (text) => text.replace('columnNames: ["ssn", "*_ssn", "social_security*"]', 'columnNames: ["nothing_else"]'),
    });
    await orders.target.admin("orders", async (client) => {
      await client.query("CREATE ROLE r1; CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA r1; CREATE SCHEMA orders_app");
      await client.query("GRANT USAGE ON SCHEMA a, b, r1, orders_app TO PUBLIC");
      for (const schema of ["a", "orders_app"]) {
        await client.query(`CREATE TABLE ${schema}.customers (id int, ssn text)`);
        await client.query(`INSERT INTO ${schema}.customers VALUES (1, 'harmless')`);
      }
      await client.query("GRANT SELECT ON ALL TABLES IN SCHEMA a, orders_app TO PUBLIC");
    });
  });
  afterAll(async () => {
    await orders?.stop();
  });

  it("the machine says after every step what the server says", async () => {
    await orders.target.admin("orders", async (client) => {
      const ask = async (): Promise<Record<string, unknown>> =>
        (
          await client.query(
            "SELECT current_setting('search_path') AS path, current_schemas(true)::text[] AS schemas, current_user::text, session_user::text",
          )
        ).rows[0] as Record<string, unknown>;
      let compared = 0;
      await fc.assert(
        fc.asyncProperty(texts, async (sequence) => {
          await client.query("ROLLBACK");
          await client.query("DISCARD ALL");
          const first = await ask();
          const names = new SessionNames({
            searchPath: String(first["path"]),
            currentUser: String(first["current_user"]),
            sessionUser: String(first["session_user"]),
          });
          for (const text of sequence) {
            const analysis = analyse(parseSync, text.replaceAll("nonsense", "SELECT nonsense"), index, names.scope, settings);
            if (analysis.kind !== "ok") throw new Error(analysis.message);
            const tags = await answersOf(client, text.replaceAll("nonsense", "SELECT nonsense"));
            analysis.statements
              .slice(0, tags.done.length)
              .forEach((model, at) => names.succeeded(model.scopeChanges, tags.done[at]!));
            if (tags.failed) names.failed();
            names.ready(tags.status);
            if (tags.status === "E") continue;
            const now = await ask();
            const { scope } = names;
            compared += 1;
            if (scope.role !== null) expect(scope.role, sequence.join(" | ")).toBe(now["current_user"]);
            if (scope.path === null) continue;
            const existing = scope.path.filter((schema) =>
              ["pg_catalog", "a", "b", "r1", "orders_app", "public"].includes(schema),
            );
            expect(existing, `${text} in ${sequence.join(" | ")}`).toEqual(now["schemas"]);
          }
        }),
        { numRuns: RUNS },
      );
      expect(compared).toBeGreaterThan(RUNS);
    });
  }, 120_000);

  const connect = (parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> =>
    RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token: orders.agent, parameters });
  const secret = planted[0]!.ssn;
  const MASKED = /^\*/;
  const valueOf = async (client: RawClient, sql = "SELECT ssn || '' FROM customers WHERE id = 1"): Promise<string> => {
    const answers = await client.query(sql);
    expect(JSON.stringify(rowsOf(answers))).not.toContain(secret);
    const [error] = errorsOf(answers);
    return error === undefined ? String(rowsOf(answers).at(-1)?.[0]) : codeOf(error);
  };

  it("is exact both ways, under everything that changes a path", async () => {
    const client = await connect({ options: "-c search_path=public" });
    expect(await valueOf(client)).not.toBe("harmless");
    expect(await valueOf(client, "SET search_path = a; SELECT ssn || '' FROM customers WHERE id = 1")).toBe("harmless");
    expect(await valueOf(client)).toBe("harmless");
    await client.query("BEGIN");
    await client.query("SET LOCAL search_path = public");
    expect(await valueOf(client)).not.toBe("harmless");
    await client.query("ROLLBACK");
    expect(await valueOf(client)).toBe("harmless");
    await client.query('SET search_path = "$user", public');
    expect(await valueOf(client)).toBe("harmless");
    await client.query("RESET search_path");
    expect(await valueOf(client)).not.toBe("harmless");
    await client.end();
  });

  it("asks the role's own search_path, and what start-up options make of it", async () => {
    await orders.target.admin("orders", (client) => client.query("ALTER ROLE orders_app SET search_path = a"));
    const own = await connect();
    expect(await valueOf(own)).toBe("harmless");
    const chosen = await connect({ options: "-c search_path=public" });
    expect(await valueOf(chosen)).not.toBe("harmless");
    await orders.target.admin("orders", (client) => client.query("ALTER ROLE orders_app RESET search_path"));
    await own.end();
    await chosen.end();
  });

  it("never clears a column by what a text meant when it was parsed", async () => {
    const client = await connect({ options: "-c search_path=a" });
    const text = "SELECT ssn FROM customers WHERE id = 1";
    client.send(parse("s", text), bind("", "s"), execute(""), sync);
    expect(rowsOf(await client.untilReady())).toEqual([["harmless"]]);
    await client.query("SET search_path = public");
    client.send(bind("", "s"), execute(""), sync);
    const answers = await client.untilReady();
    expect(JSON.stringify(answers.map(({ body }) => body.toString("latin1")))).not.toContain(secret);
    for (const [value] of rowsOf(answers)) expect(value).toMatch(MASKED);
    await client.end();
  });

  it("judges a pipeline behind SET LOCAL by what its end brings back", async () => {
    const client = await connect({ options: "-c search_path=public" });
    const text = "SELECT ssn || '' FROM customers WHERE id = 1";
    const all = (sql: string): Buffer[] => [parse("", sql), bind("", ""), execute("")];
    client.send(...all("SET LOCAL search_path = a"), ...all(text), sync, ...all(text), sync, query(text));
    const answers = [...(await client.untilReady()), ...(await client.untilReady()), ...(await client.untilReady())];
    expect(JSON.stringify(answers.map(({ body }) => body.toString("latin1")))).not.toContain(secret);
    expect(rowsOf(answers).filter(([value]) => value === "harmless")).toHaveLength(1);
    await client.end();
  });
});

interface Answers {
  /** Tags of the statements that succeeded, in order. */
  readonly done: readonly string[];
  readonly failed: boolean;
  readonly status: "I" | "T" | "E";
}

/** What pg's own types leave out: of a failed batch its result holds nothing, and an error is told before the server is ready. */
interface Messages {
  on(event: "commandComplete", listener: (message: { readonly text: string }) => void): void;
  off(event: "commandComplete", listener: (message: { readonly text: string }) => void): void;
  once(event: "readyForQuery", listener: (message: { readonly status: Answers["status"] }) => void): void;
}

async function answersOf(client: pg.Client, text: string): Promise<Answers> {
  const { connection } = client as unknown as { readonly connection: Messages }; // see Messages
  const done: string[] = [];
  const listener = (message: { readonly text: string }): void => void done.push(message.text);
  const ready = new Promise<Answers["status"]>((resolve) => connection.once("readyForQuery", ({ status }) => resolve(status)));
  connection.on("commandComplete", listener);
  const failed = await client.query(text).then(
    () => false,
    () => true,
  );
  const status = await ready;
  connection.off("commandComplete", listener);
  return { done, failed, status };
}
