/**
 * One process and a fleet of processes are the same product: with the same manifests, the same statements get the same bytes, the same
 * decisions and the same recordings, but for what counts, is random or tells the time.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Fleet, portOf, startFleet } from "./support/fleet.ts";
import { contractConfig } from "./support/orders.ts";
import { markersOf, planted, writersPolicy } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { type ReplayedItem, replayedWhole } from "./support/replayed.ts";
import { richObjects, richRows } from "./support/rich-schema.ts";
import { type Sluice, startSluice } from "./support/sluice.ts";
import { StatementGenerator } from "./support/statement-generator.ts";
import { APP_PASSWORD, APP_USER } from "./support/targets.ts";
import {
  bind,
  close,
  describe as describeMessage,
  execute,
  flush,
  parse,
  query,
  rowsOf,
  sync,
  type WireMessage,
} from "./support/wire-messages.ts";

/** Two databases that are the same, down to their tables' numbers, so that neither side's writes are seen by the other. */
const TWIN = "twin";
const GENERATED_STEPS = 100;
const SEED = 42;

type Side = "one" | "many";
const sides: readonly Side[] = ["one", "many"];

let fleet: Fleet;
let sluice: Sluice;
/** The highest OID of a relation at the time the databases were the same. */
let lastOid = 0;

beforeAll(async () => {
  fleet = await startFleet({
    gateways: 1,
    agents: 1,
    prepare: async (target) => {
      await target.admin("orders", async (client) => {
        await client.query(`SET ROLE ${APP_USER}`);
        for (const statement of [...richObjects, ...richRows]) await client.query(statement);
        const oids = await client.query<{ last: string }>("SELECT max(oid::bigint) AS last FROM pg_class");
        lastOid = Number(oids.rows[0]!.last);
      });
      await target.admin("postgres", (client) => client.query(`CREATE DATABASE ${TWIN} TEMPLATE orders OWNER ${APP_USER}`));
    },
    manifests: (text) => `${text.replace("database: orders", `database: orders\n    databases: [${TWIN}]`)}${writersPolicy}`,
  });
  const manifest = (name: string): Promise<string> => readFile(join(fleet.directory, "manifests", name), "utf8");
  sluice = await startSluice({
    config: await contractConfig(),
    manifests: { "orders.yaml": await manifest("orders.yaml"), "identity.yaml": await manifest("identity.yaml") },
    environment: { ORDERS_PASSWORD: APP_PASSWORD },
  });
});
afterAll(async () => {
  await sluice?.remove();
  await fleet?.stop();
});

const placeOf = (side: Side): { readonly port: number; readonly caFile: string } =>
  side === "one"
    ? { port: sluice.port, caFile: sluice.ready.caFile }
    : { port: portOf(fleet.gateways[0]!), caFile: fleet.gateways[0]!.ready.caFile };
const databaseOf = (side: Side): string => (side === "one" ? "orders" : `orders/${TWIN}`);

/** What is sent, in order; each up to a ReadyForQuery. */
const conversation: readonly (readonly Buffer[])[] = [
  [query("SELECT id, name, ssn, email, card, notes FROM customers WHERE id < 4 ORDER BY id")],
  [query("SELECT upper(ssn), left(card, 4), email || 'x', length(notes) FROM customers WHERE id = 1")],
  [query("SELECT count(*), max(ssn), min(balance) FROM customers WHERE id > 0")],
  [query("SELECT o.id, c.email FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id < 6 ORDER BY o.id")],
  [query("SELECT contact FROM customer_contacts WHERE id = 2")],
  [query("SELECT * FROM customers")],
  [query("SELECT id FROM big WHERE id < 5000 ORDER BY id")],
  [query("DELETE FROM orders WHERE id = 1")],
  [query("COPY customers TO STDOUT")],
  [query("SELECT 1; SELECT ssn FROM customers WHERE id = 1; SELECT 2")],
  [query("SELECT 1; DROP TABLE orders; SELECT 2")],
  [query("SELECT nothing FROM nowhere")],
  [query("SELECT 'abc'::int")],
  [query("SELECT ssn::int FROM customers WHERE id = 1")],
  [query("SELEKT 1")],
  [query("")],
  [query("SHOW server_version_num")],
  [query("SET application_name = 'twins'")],
  [query("SET standard_conforming_strings = off")],
  [query("EXPLAIN SELECT ssn FROM customers WHERE ssn = '1'")],
  [query("BEGIN")],
  [query("DECLARE c CURSOR FOR SELECT id, ssn FROM customers WHERE id > 0 LIMIT 3")],
  [query("FETCH 2 FROM c")],
  [query("UPDATE customers SET name = 'x' WHERE id = 1")],
  [query("SELECT 1")],
  [query("ROLLBACK")],
  [parse("s", "SELECT id, ssn FROM customers WHERE id = $1"), describeMessage("S", "s"), sync],
  [bind("", "s", ["1"]), execute(""), bind("", "s", ["2"], 1), execute(""), sync],
  [bind("p", "s", ["3"]), describeMessage("P", "p"), execute("p", 1), flush, execute("p"), close("P", "p"), sync],
  [close("S", "s"), sync],
  [parse("", "TABLE customers"), bind("", ""), execute(""), parse("", "SELECT 1"), bind("", ""), execute(""), sync],
  [bind("", "unknown"), execute(""), sync],
];

describe("one process and many", () => {
  it("answer a whole conversation with the same bytes and record it the same", async () => {
    for (const group of ["agents", "dba", "writers"]) {
      const token = await fleet.token("ada", [group]);
      const answers: Record<Side, string[]> = { one: [], many: [] };
      const recordings: Record<Side, readonly unknown[]> = { one: [], many: [] };
      for (const side of sides) {
        const client = await RawClient.connect(placeOf(side));
        const login = await client.login({ token, database: databaseOf(side) });
        answers[side].push(visible(login));
        for (const parts of conversation) {
          client.send(...parts);
          answers[side].push(visible(await client.untilReady()));
        }
        await client.end();
        recordings[side] = comparable(await recorded(side, sessionIdIn(login)));
      }
      expect(answers.many, group).toEqual(answers.one);
      expect(recordings.many, group).toEqual(recordings.one);
      expect(recordings.one.length).toBeGreaterThan(conversation.length);
      const shown = answers.one.join("\n");
      if (group !== "dba") for (const marker of markersOf(planted)) expect(shown).not.toContain(marker);
    }
  });

  it("answer generated statements with the same bytes", { timeout: 120_000 }, async () => {
    for (const group of ["agents", "writers"]) {
      const token = await fleet.token("ada", [group]);
      const clients = {
        one: await RawClient.login({ ...placeOf("one"), token, database: databaseOf("one") }),
        many: await RawClient.login({ ...placeOf("many"), token, database: databaseOf("many") }),
      };
      const generator = new StatementGenerator(SEED);
      let answered = 0;
      for (let step = 0; step < GENERATED_STEPS; step++) {
        for (const { sql, form } of generator.next()) {
          const parts =
            form === "simple"
              ? [query(sql)]
              : form === "names"
                ? [close("S", "p"), parse("p", sql), bind("c", "p"), sync]
                : [parse("", sql), describeMessage("S", ""), bind("", "", [], form === "binary" ? 1 : 0), execute(""), sync];
          for (const side of sides) clients[side].send(...parts);
          const one = await clients.one.untilReady();
          expect(visible(await clients.many.untilReady()), `${group}: ${sql}`).toBe(visible(one));
          if (rowsOf(one).length > 0) answered += 1;
        }
      }
      expect(answered).toBeGreaterThan(GENERATED_STEPS / 5);
      for (const side of sides) await clients[side].end();
    }
  });

  it("refuse the same logins in the same words", async () => {
    const good = await fleet.token("ada", ["agents"]);
    const attempts: readonly (readonly [token: string, database: string])[] = [
      ["no token at all", "orders"],
      [`${good.slice(0, -6)}AAAAAA`, "orders"],
      [await fleet.token("ada", ["agents"], { exp: 1_000_000 }), "orders"],
      [await fleet.token("ada", ["agents"], { aud: "somebody-else" }), "orders"],
      [await fleet.token("ada", ["nobody"]), "orders"],
      [good, "nowhere"],
      [good, "orders/elsewhere"],
      [good, ""],
    ];
    for (const [token, database] of attempts) {
      const [one, many] = await Promise.all(
        sides.map(async (side) => {
          const client = await RawClient.connect(placeOf(side));
          const answers = await client.login({ token, database });
          expect(answers.at(-1)?.type).toBe("E");
          await client.end();
          return visible(answers);
        }),
      );
      expect(many, database).toBe(one);
    }
  });

  it("explain statements with the same decisions", async () => {
    const texts = ["SELECT ssn FROM customers WHERE id = 1", "TABLE customers", "DELETE FROM orders", "SELECT version()", "x"];
    const file = join(fleet.directory, "questions.jsonl");
    const questions = ["agents", "dba", "nobody"].flatMap((group) =>
      texts.map((sql, at) => ({ id: `${group} ${at}`, as: { sub: "ada", groups: [group] }, resource: "orders", sql })),
    );
    await writeFile(file, questions.map((question) => JSON.stringify(question)).join("\n"));
    const args = ["policy", "explain", "--batch", file];
    const [one, many] = await Promise.all([sluice.cli(...args), fleet.cli(args)]);
    expect(withoutChance(many.stdout)).toBe(withoutChance(one.stdout));
    expect(many.stdout.trim().split("\n")).toHaveLength(questions.length);
    expect([many.status, many.stderr]).toEqual([one.status, one.stderr]);
  });
});

async function recorded(side: Side, sessionId: string): Promise<readonly ReplayedItem[]> {
  if (side === "one") return await replayedWhole(sluice, sessionId);
  const read = (): Promise<readonly ReplayedItem[]> => fleet.replay(sessionId).catch(() => []);
  await expect.poll(async () => (await read()).at(-1)?.kind, { timeout: 15_000 }).toBe("closed");
  return await read();
}

function sessionIdIn(messages: readonly WireMessage[]): string {
  const status = messages.find(({ type, body }) => type === "S" && body.includes("sluice.session_id"))!;
  return status.body.toString().split("\0")[1]!;
}

/** Every message with its bytes, but for ids, cancel keys and the OIDs of tables made meanwhile. */
function visible(messages: readonly WireMessage[]): string {
  const text = messages
    .map(({ type, body }) => {
      if (type === "K") return `K:${body.length} bytes`;
      return `${type}:${(type === "T" ? withoutNewOids(body) : body).toString("latin1")}`;
    })
    .join(" | ");
  return withoutChance(text).replaceAll(/[^\x20-\x7e]/g, (character) => `\\x${character.charCodeAt(0).toString(16)}`);
}

function withoutChance(text: string): string {
  return text.replaceAll(/\b([ds])_[A-Za-z0-9_-]{22}/g, "$1_").replaceAll(/"policyVersion":"[^"]*"/g, '"policyVersion":""');
}

/** What was recorded, but for ids, times and addresses. */
function comparable(items: readonly ReplayedItem[]): readonly unknown[] {
  return items.map((item) => {
    const text = withoutChance(JSON.stringify(item))
      .replaceAll(/"(at|startedAt|endedAt|durationMs|atMs)":("[^"]*"|[\d.]+)/g, '"$1":0')
      .replaceAll(`"database":"${TWIN}"`, '"database":"orders"');
    return JSON.parse(text) as unknown;
  });
}

/** Each field: name, table (4 bytes), column, type, size, modifier, format. */
function withoutNewOids(description: Buffer): Buffer {
  const body = Buffer.from(description);
  for (let at = 2; at < body.length; ) {
    const table = body.indexOf(0, at) + 1;
    if (body.readUInt32BE(table) > lastOid) body.writeUInt32BE(0, table);
    at = table + 18;
  }
  return body;
}
