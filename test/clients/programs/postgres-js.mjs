/** postgres.js, which prepares by itself and pipelines: see features.mjs for what is printed. */
import { readFileSync } from "node:fs";
import { text as textOf } from "node:stream/consumers";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
import {
  copyOut,
  feature,
  nine,
  refused,
  stateOf,
  tell,
  TEST_DATABASE,
  TEST_PORT,
  TEST_TOKEN,
  TEST_WRONG_CA,
  three,
  tls,
  types,
} from "./features.mjs";

const connect = (ssl = tls(), more = {}) =>
  postgres({
    host: "127.0.0.1",
    port: Number(TEST_PORT),
    user: "me",
    password: TEST_TOKEN,
    database: TEST_DATABASE,
    ssl,
    max: 1,
    connect_timeout: 10,
    onnotice: () => {},
    ...more,
  });
tell("version", JSON.parse(readFileSync("node_modules/postgres/package.json", "utf8")).version);
const sql = connect();
const one = async () => (await sql`SELECT 1 AS one`)[0].one;
await feature("connect", one);
await feature("verify", async () => {
  const other = connect(tls(TEST_WRONG_CA));
  const seen = await other`SELECT 1`.then(
    () => false,
    (error) => /certificate/.test(String(error)),
  );
  await other.end({ timeout: 1 });
  return seen;
});
await feature("parameters", async () => (await sql`SELECT id, name, ssn FROM customers WHERE id = ${1}`.values())[0]);
await feature("prepared", async () => {
  const seen = [];
  for (const id of nine) seen.push((await sql`SELECT ssn FROM customers WHERE id = ${id}`)[0].ssn);
  return seen;
});
await feature("types", async () => (await sql.unsafe(types).values()).flatMap(([a, b, ...rest]) => [a, Number(b), ...rest]));
await feature("rows", async () => (await sql`SELECT id FROM big`).reduce((sum, { id }) => sum + id, 0));
await feature("error", async () => [await stateOf(sql`SELECT * FROM nowhere`), await one()]);
await feature("refused", async () => [await stateOf(sql.unsafe(refused)), await one()]);
await feature("transaction", async () => {
  const seen = [];
  const count = async (on) => Number((await on`SELECT count(*) FROM scratch`)[0].count);
  await stateOf(
    sql.begin(async (own) => {
      await own`INSERT INTO scratch VALUES (${1}, ${"a"})`;
      seen.push(await count(own), await stateOf(own`SELECT 1/0`), await stateOf(own`SELECT 1`));
      throw new Error("roll back");
    }),
  );
  seen.push(await count(sql));
  await sql.begin(async (own) => {
    await own`INSERT INTO scratch VALUES (${1}, ${"a"})`;
    await own.savepoint((inner) => inner`SELECT 1`);
  });
  seen.push(await count(sql));
  await sql`DELETE FROM scratch`;
  return seen;
});
await feature("cursor", async () => {
  const seen = [];
  for await (const part of sql.unsafe(three, [], { prepare: true }).cursor(2)) seen.push(...part.map(({ ssn }) => ssn));
  return seen;
});
await feature("copy in", async () => {
  const into = await sql`COPY scratch FROM STDIN`.writable();
  await pipeline(Readable.from(Array.from({ length: 1000 }, (_, n) => `${n}\tcopied\n`)), into);
  const [{ count }] = await sql`SELECT count(*) FROM scratch`;
  await sql`DELETE FROM scratch`;
  return Number(count);
});
await feature("copy out", async () => await textOf(await sql.unsafe(copyOut).readable()));
await feature("notify", async () => {
  const other = connect();
  const heard = new Promise((resolve) => {
    void other.listen("news", resolve, () => void sql.notify("news", "hello"));
  });
  const seen = await heard;
  await other.end({ timeout: 1 });
  return seen;
});
await feature("pipeline", async () => {
  const [first, failed, third] = await Promise.all([sql.unsafe(three), stateOf(sql`SELECT 1/0`), sql`SELECT 3 AS three`]);
  return [first[0].ssn, failed, third[0].three];
});
await feature("cancel", async () => {
  const asked = sql`SELECT pg_sleep(20)`;
  setTimeout(() => asked.cancel(), 300);
  return [await stateOf(asked), await one()];
});
await sql.end({ timeout: 2 });
