/**
 * Texts made to hide from the analysis or to hurt it, sent byte by byte through a real gateway. Every row of the threat model's
 * "hiding a statement from the classifier" that concerns PostgreSQL has its test:
 *
 * | attempt | test |
 * |---|---|
 * | several statements in one Query, one bad | "refuses the whole batch" |
 * | data-modifying CTE, COPY of a DELETE, EXPLAIN ANALYZE, MERGE, RETURNING | "finds the effect of" |
 * | nested comments, dollar quotes, escapes, names like keywords | "is not misled by" |
 * | PREPARE/EXECUTE, DECLARE/FETCH, Parse/Bind/Execute, unnamed reuse | "follows", "judges each Parse of the unnamed statement" |
 * | DO, dynamic EXECUTE, unknown functions, CALL | "does not let code run unseen" |
 * | settings that change how text is read | "refuses to change how text is read" |
 * | texts that a fingerprint takes for one | "tells apart" |
 * | a NUL in the text; text that is not UTF-8 | "refuses a NUL", "refuses bytes that are not UTF-8" |
 * | parser abuse | "judges or refuses", "keeps cached statements quick"; bad-input.test.ts: "judges or refuses … in time, others meanwhile" |
 * | FunctionCall, replication, GSSENC, COPY BOTH | "refuses the start of replication", "declines GSSENC"; bad-input.test.ts: "answers a FunctionCall" |
 * | oversized or truncated frames, messages out of state | bad-input.test.ts: "ends on …", "answers …" |
 */
import { performance } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { planted } from "./support/orders-schema.ts";
import { openTcp, RawClient } from "./support/raw-client.ts";
import {
  bind,
  codeOf,
  errorsOf,
  execute,
  int16,
  int32,
  message,
  parse,
  query,
  rowsOf,
  text,
  type WireMessage,
} from "./support/wire-messages.ts";

let orders: Orders;
let client: RawClient;
const secret = planted[0]!.ssn;
const masked = "***-**-9382";

beforeAll(async () => {
  orders = await startOrders();
  client = await login();
});
afterAll(async () => {
  await client?.end();
  await orders?.stop();
});

const login = (more: Partial<Parameters<typeof RawClient.login>[0]> = {}): Promise<RawClient> =>
  RawClient.login({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile, token: orders.agent, ...more });

const count = async (table: string): Promise<number> =>
  await orders.target.admin("orders", async (admin) =>
    Number((await admin.query(`SELECT count(*) AS n FROM public.${table}`)).rows[0]["n"]),
  );

function expectRefused(answers: readonly WireMessage[], state: RegExp = /^(42501|42601)$/): void {
  expect(errorsOf(answers)[0]).toMatchObject({ C: expect.stringMatching(state) });
  expect(rowsOf(answers)).toEqual([]);
}

describe("what a statement does", () => {
  it.each([
    ["SELECT 1; DROP TABLE orders"],
    ["SELECT id FROM customers WHERE id = 1; SELECT * FROM customers; SELECT 2"],
    ["SELECT 1; SELEC 2"],
    ["SELECT 1; DO $$ BEGIN END $$"],
  ])("refuses the whole batch %s", async (sql) => {
    const before = await count("orders");
    expectRefused(await client.query(sql));
    expect(await count("orders")).toBe(before);
  });

  it.each([
    ["WITH d AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM d"],
    ["COPY (DELETE FROM orders RETURNING id) TO STDOUT"],
    ["EXPLAIN ANALYZE DELETE FROM orders"],
    ["EXPLAIN (ANALYZE, COSTS off) DELETE FROM orders"],
    ["MERGE INTO orders o USING customers c ON o.customer_id = c.id WHEN MATCHED THEN DELETE"],
    ["UPDATE orders SET total = 0 RETURNING (SELECT ssn FROM customers WHERE id = 1)"],
    ["SELECT * FROM (SELECT id FROM customers WHERE id = 1 FOR UPDATE) s"],
    ["/* SELECT 1 */ TRUNCATE orders"],
  ])("finds the effect of %s", async (sql) => {
    const before = await count("orders");
    expectRefused(await client.query(sql), /^42501$/);
    expect(await count("orders")).toBe(before);
  });
});

describe("how a statement is written", () => {
  it.each([
    ["nested comments", "SELECT /* /* ' */ \" */ ssn FROM customers WHERE id = 1 -- '"],
    ["a dollar quote", "SELECT ssn FROM customers WHERE id = 1 AND $a$ -- $a$ <> $$ /* $$"],
    ["an escape string", "SELECT ssn FROM customers WHERE id = 1 AND E'\\'' <> ' -- '"],
    ["a name in Unicode escapes", 'SELECT U&"\\0073sn" FROM customers WHERE id = 1'],
    ["another escape character", "SELECT U&\"!0073sn\" UESCAPE '!' FROM customers WHERE id = 1"],
    ["a WITH name like a keyword", 'WITH "select" AS (SELECT ssn FROM customers WHERE id = 1) TABLE "select"'],
    ["a label like another column", "SELECT ssn AS id FROM customers WHERE id = 1"],
    ["mixed case and form feeds", "sElEcT\f\tsSn\vFROM\r\nCuStOmErS wHeRe id = 1"],
  ])("is not misled by %s", async (_, sql) => {
    const answers = await client.query(sql);
    expect(JSON.stringify(answers.map(({ body }) => body.toString("latin1")))).not.toContain(secret);
    if (errorsOf(answers).length === 0) expect(rowsOf(answers)).toEqual([[masked]]);
  });

  it("tells apart texts that a fingerprint takes for one", async () => {
    const pair = ["SELECT ssn AS a, id AS b FROM customers WHERE id = 1", "SELECT id AS a, ssn AS b FROM customers WHERE id = 1"];
    for (let round = 0; round < 3; round++) {
      expect(rowsOf(await client.query(pair[0]!))).toEqual([[masked, "1"]]);
      expect(rowsOf(await client.query(pair[1]!))).toEqual([["1", masked]]);
    }
    expect(errorsOf(await client.query("SELECT id FROM customers LIMIT 10"))).toEqual([]);
    expectRefused(await client.query("SELECT id FROM customers LIMIT 1000000"));
  });

  it.each([
    ["SET standard_conforming_strings = off"],
    ["SET LOCAL standard_conforming_strings TO 'off'"],
    ["SELECT set_config('standard_conforming_strings', 'off', false)"],
    ["SET backslash_quote = on"],
    ["SET client_encoding = 'LATIN1'"],
    ["SET NAMES 'SJIS'"],
    ["SET client_encoding = 'no such encoding'"],
    ["SELECT set_config(lower('CLIENT_ENCODING'), 'BIG5', false)"],
  ])("refuses to change how text is read: %s", async (sql) => {
    expectRefused(await client.query(sql));
    expect(rowsOf(await client.query("SHOW standard_conforming_strings"))).toEqual([["on"]]);
  });

  it.each([["LATIN1"], ["SJIS"], ["KLINGON"]])("takes no session in the encoding %s", async (encoding) => {
    const asking = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
    const answers = await asking.login({ token: orders.agent, parameters: { client_encoding: encoding } });
    const [error] = errorsOf(answers);
    if (error === undefined) {
      // Accepted is only what leaves the session in UTF-8.
      expect(rowsOf(await asking.query("SHOW client_encoding"))).toEqual([["UTF8"]]);
    } else {
      expect(error).toMatchObject({ S: "FATAL", M: expect.stringMatching(/encoding/i) });
    }
    asking.vanish();
  });

  it("refuses a NUL in a Parse and in a Query", async () => {
    const other = await login();
    other.send(message("Q", Buffer.from("SELECT 1 --\0\n, ssn FROM customers\0")));
    const answers = await Promise.race([other.untilClosed(), other.until(({ type }) => type === "Z")]);
    expect(rowsOf(answers)).toEqual([]);
    expect(codeOf(errorsOf(answers)[0])).toMatch(/^(statement_invalid|protocol_violation)$/);
    other.vanish();
  });

  it("refuses bytes that are not UTF-8, in a text and as a text's end", async () => {
    for (const bytes of [[0xc3, 0x28], [0xff], [0xed, 0xa0, 0x80], [0xf8, 0x88, 0x80, 0x80, 0x80], [0xe2, 0x82]]) {
      client.send(message("Q", Buffer.from([...Buffer.from("SELECT '"), ...bytes, 0x27, 0])));
      expect(codeOf(errorsOf(await client.untilReady())[0])).toBe("statement_invalid");
    }
    expect(rowsOf(await client.query("SELECT 'ä€𝄞'"))).toEqual([["ä€𝄞"]]);
  });
});

describe("where a statement comes from", () => {
  it("follows SQL PREPARE and DECLARE by name, refuses names that it does not know", async () => {
    expect(errorsOf(await client.query("PREPARE shown AS SELECT ssn FROM customers WHERE id = $1"))).toEqual([]);
    expect(rowsOf(await client.query("EXECUTE shown(1)"))).toEqual([[masked]]);
    expectRefused(await client.query("EXECUTE unheard_of(1)"));
    await client.query("BEGIN");
    expect(errorsOf(await client.query("DECLARE shown CURSOR FOR SELECT ssn FROM customers WHERE id = 1"))).toEqual([]);
    expect(rowsOf(await client.query("FETCH 5 FROM shown"))).toEqual([[masked]]);
    expectRefused(await client.query("FETCH 5 FROM unheard_of"));
    await client.query("ROLLBACK");
  });

  it("judges each Parse of the unnamed statement", async () => {
    const bindAndRun = [bind("", ""), execute("")];
    expect(rowsOf(await client.pipeline(parse("", "SELECT 7"), ...bindAndRun))).toEqual([["7"]]);
    expect(rowsOf(await client.pipeline(parse("", "SELECT ssn FROM customers WHERE id = 1"), ...bindAndRun))).toEqual([[masked]]);
    expectRefused(await client.pipeline(parse("", "SELECT * FROM customers"), ...bindAndRun));
    // What was refused is not there to be run, nor is what it replaced.
    const again = await client.pipeline(...bindAndRun);
    expect(rowsOf(again).flat()).not.toContain(secret);
  });

  it.each([
    ["DO $$ BEGIN PERFORM 1; END $$"],
    ["DO $$ BEGIN EXECUTE 'SELECT ssn FROM customers'; END $$"],
    ["CALL nobody_knows()"],
    ["SELECT nobody_knows(ssn) FROM customers WHERE id = 1"],
    ["SELECT query_to_xml('SELECT ssn FROM customers', true, true, '')"],
    ["SELECT pg_read_file('/etc/passwd')"],
  ])("does not let code run unseen: %s", async (sql) => {
    const answers = await client.query(sql);
    expect(errorsOf(answers)[0]).toMatchObject({ C: "42501" });
    expect(rowsOf(answers)).toEqual([]);
  });

  it.each([["true"], ["database"], ["1"]])("refuses the start of replication (%s)", async (replication) => {
    const asking = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
    const [error] = errorsOf(await asking.login({ token: orders.agent, parameters: { replication } }));
    expect(error).toMatchObject({ S: "FATAL", M: expect.stringMatching(/replication/i) });
    asking.vanish();
  });

  it("declines GSSENC and goes on with TLS on the same connection", async () => {
    const socket = await openTcp(orders.sluice.port);
    const answer = new Promise<string>((resolve) => socket.once("data", (chunk: Buffer) => resolve(chunk.toString("latin1"))));
    socket.write(Buffer.concat([int32(8), int32(80_877_104)]));
    expect(await answer).toBe("N");
    socket.destroy();
  });
});

/** Each text and what may come of it: a refusal, or the right answer. */
const heavy: readonly (readonly [name: string, sql: () => string])[] = [
  ["10,000 nested parentheses", () => `SELECT ${"(".repeat(10_000)}1${")".repeat(10_000)}`],
  ["16,000 nested comments", () => `SELECT 1 ${"/*".repeat(16_000)}${"*/".repeat(16_000)}`],
  ["30,000 chained casts", () => `SELECT 1${"::int".repeat(30_000)}`],
  ["200,000 chained casts", () => `SELECT 1${"::int".repeat(200_000)}`],
  ["WITH nested 1,000 deep", () => `${"WITH w AS (".repeat(1_000)}SELECT 1${") SELECT * FROM w".repeat(1_000)}`],
  [
    "200 WITH RECURSIVE in each other",
    () =>
      `${"WITH RECURSIVE w(n) AS (SELECT 1 UNION ALL SELECT n FROM (".repeat(200)}SELECT 1 AS n${") s) SELECT n FROM w".repeat(200)}`,
  ],
  ["5,000 UNIONs", () => Array.from({ length: 5_000 }, () => "SELECT ssn FROM customers").join(" UNION ")],
  ["a list of 10,000 columns", () => `SELECT ${"ssn,".repeat(9_999)}ssn FROM customers WHERE id = 1`],
  ["10,000 whole rows", () => `SELECT ${"c,".repeat(9_999)}c FROM customers c WHERE id = 1`],
  ["CASE nested 5,000 deep", () => `SELECT ${"CASE WHEN true THEN ".repeat(5_000)}1${" END".repeat(5_000)}`],
  ["a chain of 50,000 ORs", () => `SELECT id FROM customers WHERE id = 1${" OR id = 1".repeat(50_000)}`],
  ["a name of a million letters", () => `SELECT 1 AS ${"x".repeat(1_000_000)}`],
  ["100,000 parameters", () => `SELECT ${Array.from({ length: 100_000 }, (_, at) => `$${at + 1}`).join(",")}`],
  [
    "everything of 2,000 tables", // refused as bulk once analysed: the target's planner would take minutes
    () => `SELECT * FROM ${Array.from({ length: 2_000 }, (_, at) => `customers a${at}`).join(", ")}`,
  ],
  ["100,000 statements", () => "SELECT 1;".repeat(100_000)],
  ["a megabyte of one literal", () => `SELECT '${"x".repeat(1_000_000)}'`],
];

describe("texts that hurt", () => {
  it.each(heavy)("judges or refuses %s", async (_, sql) => {
    const other = await login();
    const startedMs = performance.now();
    const answers = await other.query(sql());
    expect(performance.now() - startedMs).toBeLessThan(15_000);
    const [error] = errorsOf(answers);
    if (error !== undefined) {
      expect(error).toMatchObject({
        S: "ERROR",
        C: expect.stringMatching(/^(42501|42601|53000|53400|54000|54001|54011|57014|0A000|42P02)$/),
      });
    }
    expect(JSON.stringify(rowsOf(answers))).not.toContain(secret);
    // The parser that everybody shares is well.
    expect(rowsOf(await other.query(`SELECT ssn, ${Math.round(startedMs)} AS fresh FROM customers WHERE id = 1`))[0]?.[0]).toBe(
      masked,
    );
    await other.end();
  });

  it("refuses more parameters than the protocol can count, as data too", async () => {
    const other = await login();
    other.send(
      parse("", "SELECT $1::int"),
      message("B", text(""), text(""), int16(0), int16(-1), Buffer.alloc(64)),
      query("SELECT 1"),
    );
    const answers = await Promise.race([other.untilClosed(), other.until(({ type }) => type === "Z")]);
    expect(errorsOf(answers).length).toBeGreaterThan(0);
    expect(rowsOf(answers)).toEqual([]);
    other.vanish();
  });

  it("keeps cached statements quick while eight sessions send them", async () => {
    const usual = "SELECT id, ssn FROM customers WHERE id = 1";
    expect(rowsOf(await client.query(usual))).toEqual([["1", masked]]);
    const texts = heavy.map(([, sql]) => sql());
    const stopping = new AbortController();
    let sent = 0;
    const attackers = await Promise.all(Array.from({ length: 8 }, () => login()));
    const attacks = attackers.map(async (attacker, at) => {
      for (let round = at; !stopping.signal.aborted; round++) {
        await attacker.query(`${texts[round % texts.length]!} -- ${round}`);
        sent += 1;
      }
    });
    const tookMs: number[] = [];
    try {
      const endMs = performance.now() + 10_000;
      while (performance.now() < endMs) {
        const startedMs = performance.now();
        expect(rowsOf(await client.query(usual))).toEqual([["1", masked]]);
        tookMs.push(performance.now() - startedMs);
      }
    } finally {
      stopping.abort();
      await Promise.allSettled(attacks);
      for (const attacker of attackers) attacker.vanish();
    }
    tookMs.sort((a, b) => a - b);
    const p99 = tookMs[Math.floor(tookMs.length * 0.99)]!;
    process.stdout.write(
      `${tookMs.length} cached statements beside ${sent} heavy ones: median ${tookMs[tookMs.length >> 1]!.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms\n`,
    );
    expect(sent).toBeGreaterThan(8);
    // The attackers' own bytes and TLS share two cores with the test's processes here; the bench holds the figure of 50 ms.
    expect(p99).toBeLessThan(500);
    expect(rowsOf(await client.query(`${usual} AND 'after' = 'after'`))).toEqual([["1", masked]]);
  });
});
