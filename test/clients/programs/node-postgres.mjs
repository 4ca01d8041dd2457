/** node-postgres: see features.mjs for what is printed. */
import { createRequire } from "node:module";
import pg from "pg";
import {
  byId,
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

const options = { host: "127.0.0.1", port: Number(TEST_PORT), user: "me", password: TEST_TOKEN, database: TEST_DATABASE };

async function connect(ssl = tls()) {
  const client = new pg.Client({ ...options, ssl });
  client.on("error", () => {});
  await client.connect();
  return client;
}

tell("version", createRequire(import.meta.url)("pg/package.json").version);
const client = await connect();
const rows = async (query) => (await client.query({ rowMode: "array", ...query })).rows;
const one = async (text = "SELECT 1") => Number((await rows({ text }))[0][0]);
await feature("connect", () => one());
await feature("verify", () =>
  connect(tls(TEST_WRONG_CA)).then(
    () => false,
    (error) => /certificate/.test(String(error)),
  ),
);
await feature("parameters", async () => (await rows({ text: `${byId}$1`, values: [1] }))[0]);
await feature("prepared", async () => {
  const seen = [];
  const text = "SELECT ssn FROM customers WHERE id = $1";
  for (const id of nine) seen.push((await rows({ name: "by-id", text, values: [id] }))[0][0]);
  return seen;
});
// As objects: in its array mode the driver reads binary numbers as text, through a gateway or not.
await feature("binary", async () => {
  const { rows: seen } = await client.query(Object.assign({ text: `${byId}$1`, values: [2] }, { binary: true }));
  return Object.values(seen[0]);
});
await feature("types", async () => (await rows({ text: types })).flatMap(([a, b, ...rest]) => [a, Number(b), ...rest]));
await feature("rows", async () => (await rows({ text: "SELECT id FROM big" })).reduce((sum, [id]) => sum + id, 0));
await feature("error", async () => [await stateOf(client.query("SELECT * FROM nowhere")), await one()]);
await feature("refused", async () => [await stateOf(client.query(refused)), await one()]);
await feature("refused in a transaction", async () => {
  await client.query("BEGIN");
  const seen = [await stateOf(client.query({ name: "refused", text: refused })), await stateOf(client.query("SELECT 1"))];
  await client.query("ROLLBACK");
  return [...seen, await one()];
});
await feature("transaction", async () => {
  const count = () => one("SELECT count(*) FROM scratch");
  const insert = () => client.query("INSERT INTO scratch VALUES ($1, $2)", [1, "a"]);
  await client.query("BEGIN");
  await insert();
  const seen = [await count(), await stateOf(client.query("SELECT 1/0")), await stateOf(client.query("SELECT 1"))];
  await client.query("ROLLBACK");
  seen.push(await count());
  await client.query("BEGIN");
  await insert();
  await client.query("COMMIT");
  seen.push(await count());
  await client.query("DELETE FROM scratch");
  return seen;
});
await feature("cursor", async () => {
  // A portal with a row limit, as pg-cursor and pg-query-stream use it.
  await client.query("BEGIN");
  await client.query(`DECLARE in_parts CURSOR FOR ${three}`);
  const seen = [...(await rows({ text: "FETCH 2 FROM in_parts" })), ...(await rows({ text: "FETCH 2 FROM in_parts" }))];
  await client.query("COMMIT");
  return seen.flat();
});
await feature("notify", async () => {
  const heard = new Promise((resolve) => {
    client.on("notification", ({ payload }) => resolve(payload));
  });
  await client.query("LISTEN news");
  await client.query("NOTIFY news, 'hello'");
  return await heard;
});
await feature("pipeline", async () => {
  // Queued by the driver, sent one after the other.
  const [first, failed, third] = await Promise.all([
    rows({ text: three }),
    stateOf(client.query("SELECT 1/0")),
    rows({ text: "SELECT 3" }),
  ]);
  return [first[0][0], failed, third[0][0]];
});
await feature("pool", async () => {
  const pool = new pg.Pool({ ...options, ssl: tls(), max: 10 });
  const text = "SELECT ssn FROM customers WHERE id = $1";
  const answers = await Promise.all(Array.from({ length: 90 }, (_, at) => pool.query(text, [1 + (at % 3)])));
  await pool.end();
  return answers.slice(0, 9).map((answer) => answer.rows[0].ssn);
});
await feature("cancel", async () => {
  const asked = client.query("SELECT pg_sleep(20)");
  const other = new pg.Client({ ...options, ssl: tls() });
  setTimeout(() => other.cancel(client, client.activeQuery ?? client._activeQuery ?? {}), 300);
  return [await stateOf(asked), await one()];
});
await client.end();
