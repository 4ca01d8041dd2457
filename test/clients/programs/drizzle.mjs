/** Drizzle over node-postgres: tables declared in code, typed queries, prepared queries. See features.mjs for what is printed. */
import { readFileSync } from "node:fs";
import { and, asc, count, eq, lt, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, pgTable, text } from "drizzle-orm/pg-core";
import pg from "pg";
import { feature, nine, refused, stateOf, tell, TEST_DATABASE, TEST_PORT, TEST_TOKEN, tls } from "./features.mjs";

const customers = pgTable("customers", { id: integer().primaryKey(), name: text(), ssn: text() });
const scratch = pgTable("scratch", { n: integer(), note: text() });
const pool = new pg.Pool({
  host: "127.0.0.1",
  port: Number(TEST_PORT),
  user: "me",
  password: TEST_TOKEN,
  database: TEST_DATABASE,
  ssl: tls(),
  max: 2,
});
const db = drizzle({ client: pool });
const one = async () => (await db.execute(sql`SELECT 1 AS one`)).rows[0].one;

tell("version", JSON.parse(readFileSync("node_modules/drizzle-orm/package.json", "utf8")).version);
await feature("connect", one);
await feature("parameters", async () => Object.values((await db.select().from(customers).where(eq(customers.id, 1)))[0]));
await feature("prepared", async () => {
  const query = db
    .select({ ssn: customers.ssn })
    .from(customers)
    .where(eq(customers.id, sql.placeholder("id")))
    .prepare("by_id");
  const seen = [];
  for (const id of nine) seen.push((await query.execute({ id }))[0].ssn);
  return seen;
});
await feature("error", async () => [await stateOf(db.execute(sql`SELECT * FROM nowhere`)), await one()]);
await feature("refused", async () => [await stateOf(db.execute(sql.raw(refused))), await one()]);
await feature("transaction", async () => {
  const seen = [];
  const total = async (on) => (await on.select({ n: count() }).from(scratch))[0].n;
  await stateOf(
    db.transaction(async (own) => {
      await own.insert(scratch).values({ n: 1, note: "a" });
      seen.push(await total(own), await stateOf(own.execute(sql`SELECT 1/0`)), await stateOf(own.execute(sql`SELECT 1`)));
      own.rollback();
    }),
  );
  seen.push(await total(db));
  await db.transaction(async (own) => {
    await own.insert(scratch).values({ n: 1, note: "a" }).returning();
  });
  seen.push(await total(db));
  await db.delete(scratch).where(and(eq(scratch.n, 1)));
  return seen;
});
await feature("rows of a query builder", async () =>
  (await db.select().from(customers).where(lt(customers.id, 4)).orderBy(asc(customers.id))).map(({ ssn }) => ssn),
);
await pool.end();
