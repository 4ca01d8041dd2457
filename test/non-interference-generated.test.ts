/**
 * Generated statements on databases that differ in protected values alone: what a masked caller gets back is the same, byte for
 * byte. `SLUICE_GENERATED_STEPS` and `SLUICE_GENERATED_SEED` make a campaign of it; a step takes some milliseconds.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { type CustomerValues, planted, plantedOther, writersPolicy } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { richObjects, richRows } from "./support/rich-schema.ts";
import { type GeneratedStatement, StatementGenerator } from "./support/statement-generator.ts";
import { bind, close, describe as describeMessage, execute, parse, type WireMessage } from "./support/wire-messages.ts";

const steps = Number(process.env["SLUICE_GENERATED_STEPS"] ?? 1_000);
const seed = Number(process.env["SLUICE_GENERATED_SEED"] ?? 1);

/** Other lengths, orders, duplicates, words. None is a number or a date: whether a whole column converts is told. */
const unlike: readonly CustomerValues[] = [
  { ssn: "x", email: "z@y.xx", card: "no card" },
  { ssn: "x", email: "z@y.xx", card: "no card" },
  { ssn: "a much longer text, with 3 words and more", email: "nobody", card: "4 of 5" },
];

interface Pair {
  readonly one: RawClient;
  readonly other: RawClient;
}

let orders: Orders;
/** The highest OID of a relation at the time the databases were the same. */
let lastOid = 0;
const pairs = new Map<string, Pair>();

beforeAll(async () => {
  orders = await startOrders({
    version: 18,
    manifests: (manifests) =>
      `${manifests.replace("database: orders", "database: orders\n    databases: [same_shape, unlike]")}${writersPolicy}`,
  });
  const { target, sluice } = orders;
  await target.admin("orders", async (client) => {
    await client.query("SET ROLE orders_app");
    for (const statement of richObjects) await client.query(statement);
    const oids = await client.query<{ last: string }>("SELECT max(oid::bigint) AS last FROM pg_class");
    lastOid = Number(oids.rows[0]!.last);
  });
  for (const database of ["same_shape", "unlike"])
    await target.admin("postgres", (client) => client.query(`CREATE DATABASE ${database} TEMPLATE orders OWNER orders_app`));
  await fill("orders", planted);
  await fill("same_shape", plantedOther);
  await fill("unlike", unlike);
  const login = async (group: string, database: string): Promise<RawClient> => {
    const token = await sluice.token("ada", [group]);
    return await RawClient.login({ port: sluice.port, caFile: sluice.ready.caFile, token, database });
  };
  pairs.set("agents", { one: await login("agents", "orders"), other: await login("agents", "orders/same_shape") });
  pairs.set("writers", { one: await login("writers", "orders"), other: await login("writers", "orders/unlike") });
});

afterAll(async () => {
  for (const { one, other } of pairs.values()) {
    await one.end();
    await other.end();
  }
  await orders?.stop();
});

async function fill(database: string, values: readonly CustomerValues[]): Promise<void> {
  await orders.target.admin(database, async (client) => {
    for (const [at, { ssn, email, card }] of values.entries())
      await client.query("UPDATE customers SET ssn = $1, email = $2, card = $3, notes = '' WHERE id = $4", [
        ssn,
        email,
        card,
        at + 1,
      ]);
    await client.query("VACUUM FULL customers");
    await client.query("SET ROLE orders_app");
    for (const statement of richRows) await client.query(statement);
  });
}

describe("generated statements", () => {
  // Callers that may do anything come by more statements that are answered, so they get more of them.
  it.each([
    ["writers", 0.7],
    ["agents", 0.3],
  ] as const)(
    "give %s the same bytes, whatever the values are",
    async (group, share) => {
      const pair = pairs.get(group)!;
      const generator = new StatementGenerator(seed);
      const faults: string[] = [];
      let answered = 0;
      for (let step = 0; step < Math.ceil(steps * share) && faults.length < 10; step++) {
        const statements = generator.next();
        for (const statement of statements) {
          const [left, right] = await Promise.all([answersTo(pair.one, statement), answersTo(pair.other, statement)]);
          if (left !== right)
            faults.push(`${statements.map(({ sql }) => sql).join("; ")} (${statement.form})\n    ${left}\n    ${right}`);
          if (/ \| D:/.test(left)) answered += 1;
        }
      }
      expect(faults).toEqual([]);
      // Were most of them refused, equal bytes would say little.
      expect(answered / (steps * share)).toBeGreaterThan(0.25);
    },
    40_000 + steps * 100,
  );
});

async function answersTo(client: RawClient, { sql, form }: GeneratedStatement): Promise<string> {
  if (form === "simple") return visible(await client.query(sql));
  if (form === "names") return visible(await client.pipeline(close("S", "p"), parse("p", sql), bind("c", "p")));
  const messages = [parse("", sql), describeMessage("S", ""), bind("", "", [], form === "binary" ? 1 : 0), execute("")];
  return visible(await client.pipeline(...messages));
}

/** Every message with its bytes. Left out is what counts or is random: ids of decisions, OIDs of tables made by a step itself. */
function visible(messages: readonly WireMessage[]): string {
  return messages
    .map(({ type, body }) => `${type}:${(type === "T" ? withoutNewOids(body) : body).toString("latin1")}`)
    .join(" | ")
    .replaceAll(/\bd_[A-Za-z0-9_-]{22}/g, "d_")
    .replaceAll(/[^\x20-\x7e]/g, (character) => `\\x${character.charCodeAt(0).toString(16)}`);
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
