/**
 * What strangers, broken clients and broken targets send. Each gets a stable code and a sentence that helps; the session of somebody
 * else beside it goes on undisturbed, and nothing that was not judged reaches the target.
 */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type FakeTarget, startFakeTarget } from "./support/fake-target.ts";
import { contractManifests, type Orders, startOrders } from "./support/orders.ts";
import { RawClient } from "./support/raw-client.ts";
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
  startup,
  sync,
  text,
} from "./support/wire-messages.ts";

let orders: Orders;
let fake: FakeTarget;
let neighbour: RawClient;
beforeAll(async () => {
  orders = await startOrders();
  fake = await startFakeTarget(orders.target.port);
  const viaFake = (await contractManifests(fake.port)).split("---")[0]!.replace("name: orders,", "name: fragile,");
  const down = viaFake.replace("name: fragile,", "name: down,").replace(`127.0.0.1:${fake.port}`, "127.0.0.1:1");
  const file = `${orders.sluice.directory}/more.yaml`;
  await writeFile(file, `${viaFake}---\n${down}`);
  const applied = await orders.sluice.cli("apply", "-f", file);
  expect(applied.stderr).toBe("");
  neighbour = await RawClient.login({ ...at(), token: orders.agent });
});
afterAll(async () => {
  await neighbour?.end();
  await fake?.stop();
  await orders?.stop();
});

const at = (): { port: number; caFile: string } => ({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
const login = (database = "orders", token = orders.agent): Promise<RawClient> => RawClient.login({ ...at(), token, database });

afterEach(async () => {
  expect(rowsOf(await neighbour.query("SELECT ssn FROM customers WHERE id = 1")), "the neighbour's session").toEqual([
    ["***-**-9382"],
  ]);
});

describe("before login", () => {
  it.each([
    ["random bytes", randomBytes(300)],
    ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["a length of zero", Buffer.alloc(8)],
    ["a length of two gigabytes", Buffer.concat([Buffer.from([0x7f, 0xff, 0xff, 0xff]), int32(196608)])],
    ["a startup without an end", Buffer.concat([int32(20), int32(196608), Buffer.from("user\0me\0data")])],
    ["a query first", query("SELECT 1")],
  ])("ends on %s", async (_, bytes) => {
    const client = await RawClient.connect(at());
    client.send(bytes);
    const answers = await client.untilClosed();
    expect(["protocol_violation", "login_failed"]).toContain(codeOf(errorsOf(answers)[0]));
    expect(errorsOf(answers)[0]).toMatchObject({ S: "FATAL", M: expect.stringMatching(/\w+ \w+ \w+/) });
  });

  it.each([
    ["a query instead of the password", query("SELECT 1"), "protocol_violation"],
    ["a password of 64 kB", message("p", text("x".repeat(65_536))), "login_failed"],
    ["an empty password", message("p", text("")), "login_failed"],
    ["a password message without its NUL", message("p", Buffer.from("abc")), "protocol_violation"],
  ])("ends on %s", async (_, bytes, code) => {
    const client = await RawClient.connect(at());
    client.send(startup({ user: "me", database: "orders" }));
    await client.until(({ type }) => type === "R");
    client.send(bytes);
    const [error] = errorsOf(await client.untilClosed());
    expect(codeOf(error)).toBe(code);
  });
});

describe("after login", () => {
  it.each([
    ["an unknown message type", message("\u0001", Buffer.from("x")), "protocol_violation"],
    ["a length below four", Buffer.concat([Buffer.from("Q"), int32(3)]), "protocol_violation"],
    ["a negative length", Buffer.concat([Buffer.from("Q"), int32(-1)]), "frame_too_large"],
    ["a declared length of one gigabyte", Buffer.concat([Buffer.from("Q"), int32(1 << 30)]), "frame_too_large"],
    ["a Query without its NUL", message("Q", Buffer.from("SELECT 1")), "protocol_violation"],
    ["a Query with more behind its NUL", message("Q", text("SELECT 1"), text("DROP TABLE orders")), "statement_invalid"],
    ["a Bind that ends early", message("B", text(""), text(""), int16(4)), "protocol_violation"],
    ["a FunctionCall", message("F", int32(1), int16(0), int16(0), int16(0)), "unsupported"],
    ["a password message in mid session", message("p", text("again")), "protocol_violation"],
    [
      "a second startup",
      Buffer.concat([startup({ user: "me", database: "orders" }), Buffer.alloc(20_000)]),
      "protocol_violation",
    ],
  ])("answers %s", async (_, bytes, code) => {
    const client = await login();
    client.send(bytes, query("SELECT 7"));
    const answers = await Promise.race([client.untilClosed(), client.until(({ type }) => type === "Z")]);
    const error = errorsOf(answers)[0];
    expect([code, "protocol_violation", "frame_too_large"]).toContain(codeOf(error));
    expect(error).toMatchObject({ M: expect.stringMatching(/\w+ \w+ \w+/) });
    expect(rowsOf(answers)).toEqual([]);
    client.vanish();
  });

  it("ignores CopyData that nobody asked for, as a server does, or ends", async () => {
    const client = await login();
    client.send(message("d", Buffer.from("x")), message("c"), query("SELECT 1"));
    const answers = await Promise.race([client.untilClosed(), client.until(({ type }) => type === "Z")]);
    expect(rowsOf(answers).length === 1 || codeOf(errorsOf(answers)[0]) === "protocol_violation").toBe(true);
    client.vanish();
  });

  it("answers the use of names that do not exist as the target does", async () => {
    const client = await login();
    for (const [bytes, state] of [
      [[bind("", "nobody")], "26000"],
      [[execute("nobody")], "34000"],
      [[parse("twice", "SELECT 1"), parse("twice", "SELECT 2")], "42P05"],
    ] as const) {
      client.send(...bytes, sync);
      const answers = await client.untilReady();
      expect(errorsOf(answers)[0]).toMatchObject({ C: state });
    }
    await client.end();
  });

  it("refuses NUL in a text, in both protocols", async () => {
    const client = await login();
    client.send(message("Q", Buffer.from("SELECT 1 /*\0*/ , ssn FROM customers\0")));
    const answers = await Promise.race([client.untilClosed(), client.until(({ type }) => type === "Z")]);
    expect(errorsOf(answers)[0]).toMatchObject({ C: expect.stringMatching(/^(22021|08P01)$/) });
    client.vanish();
  });

  it("refuses a text that is not UTF-8 and keeps the session", async () => {
    const client = await login();
    client.send(message("Q", Buffer.from([...Buffer.from("SELECT '"), 0xc3, 0x28, 0x27, 0])));
    const answers = await client.untilReady();
    expect(codeOf(errorsOf(answers)[0])).toBe("statement_invalid");
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });

  it("takes one megabyte of SQL, refuses three", async () => {
    const client = await login();
    const list = Array.from({ length: 140_000 }, (_, at_) => at_).join(",");
    const answers = await client.query(
      `SELECT count(*) FROM big WHERE id IN (${list}) AND id < 0 /* ${"x".repeat(1_000_000 - list.length)} */`,
    );
    expect(errorsOf(answers)).toEqual([]);
    expect(rowsOf(answers)).toEqual([["0"]]);
    const long = await client.query(`SELECT '${"x".repeat(3_000_000)}'`);
    expect(codeOf(errorsOf(long)[0])).toBe("statement_too_long");
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });

  it.each([
    ["30,000 chained casts", `SELECT 1${"::int".repeat(30_000)}`],
    ["a comment bomb", `SELECT 1 ${"/*".repeat(16_000)}`],
    ["100,000 brackets", `SELECT ${"(".repeat(100_000)}1${")".repeat(100_000)}`],
    ["a long chain of operators", `SELECT ${"1+".repeat(50_000)}1`],
    ["20,000 nested selects", `${"SELECT * FROM (".repeat(20_000)}SELECT 1${") t".repeat(20_000)}`],
  ])("judges or refuses %s in time, others meanwhile", async (_, sql) => {
    const client = await login();
    const startedAt = Date.now();
    const pending = client.query(sql);
    const meanwhile = Date.now();
    expect(rowsOf(await neighbour.query("SELECT id FROM customers WHERE id = 2"))).toEqual([["2"]]);
    expect(Date.now() - meanwhile).toBeLessThan(4_000);
    const answers = await pending;
    expect(Date.now() - startedAt).toBeLessThan(12_000);
    const error = errorsOf(answers)[0];
    if (error !== undefined)
      expect(error).toMatchObject({ S: "ERROR", C: expect.stringMatching(/^(42501|42601|53000|54000|54001)$/) });
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });

  it("keeps a caller who does not read from filling the memory, and goes on when it does", async () => {
    const client = await login("orders", orders.dba);
    client.pauseReading();
    client.send(query("SELECT repeat('x', 10000) FROM generate_series(1, 5000)"));
    await delay(1_500);
    client.resumeReading();
    const answers = await client.untilReady();
    expect(rowsOf(answers)).toHaveLength(5_000);
    await client.end();
  });

  it("lets a vanished caller's statement and session end", async () => {
    const client = await login("orders", orders.dba);
    client.send(query("BEGIN; INSERT INTO orders VALUES (9999, 1, 'open', 1); SELECT pg_sleep(30)"));
    await delay(400);
    client.vanish();
    await expect
      .poll(
        () =>
          orders.target.admin("postgres", async (admin) => {
            const { rows } = await admin.query(
              "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%9999%' AND pid <> pg_backend_pid()",
            );
            return rows.length;
          }),
        { timeout: 15_000, interval: 300 },
      )
      .toBe(0);
    expect(rowsOf(await neighbour.query("SELECT count(*) FROM orders WHERE id = 9999"))).toEqual([["0"]]);
  });
});

describe("the other side", () => {
  beforeEach(() => {
    fake.answer = (chunk) => chunk;
    fake.refuse(false);
  });

  it("says that a target is down, without naming its address", async () => {
    const client = await RawClient.connect(at());
    const [error] = errorsOf(await client.login({ token: orders.agent, database: "down" }));
    expect(error).toMatchObject({ S: "FATAL", C: "08006", M: expect.stringMatching(/database/i) });
    expect(codeOf(error)).toBe("target_unreachable");
    expect(JSON.stringify(error)).not.toContain("127.0.0.1");
  });

  it("ends the session when the target closes in mid result, with whole rows only", async () => {
    const client = await login("fragile");
    expect(rowsOf(await client.query("SELECT ssn FROM customers WHERE id = 1"))).toEqual([["***-**-9382"]]);
    let sent = 0;
    fake.answer = (chunk) => {
      sent += chunk.length;
      return sent > 5_000 ? null : chunk;
    };
    client.send(query("SELECT id, label FROM big WHERE id < 900 LIMIT 900"));
    const answers = await client.untilClosed();
    const error = errorsOf(answers)[0];
    expect(error).toMatchObject({ S: "FATAL", C: "08006" });
    expect(codeOf(error)).toBe("target_closed");
  });

  it("passes on that an administrator of the target ended the backend", async () => {
    const client = await login("fragile");
    await orders.target.admin("postgres", (admin) =>
      admin.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ada %' AND datname = 'orders' AND pid <> (SELECT min(pid) FROM pg_stat_activity WHERE application_name LIKE 'ada %')",
      ),
    );
    const answers = await client.untilClosed();
    expect(errorsOf(answers)[0]).toMatchObject({ S: "FATAL", C: expect.stringMatching(/^(57P01|08006)$/) });
  });

  it("ends the session when the target sends what no server sends", async () => {
    const client = await login("fragile");
    await client.query("SELECT 1");
    fake.answer = () => Buffer.concat([Buffer.from("D"), int32(2), randomBytes(64)]);
    client.send(query("SELECT 2"));
    const answers = await client.untilClosed();
    expect(codeOf(errorsOf(answers)[0])).toBe("target_protocol");
  });

  it("says so when the wrong password waits at the target", async () => {
    await orders.target.admin("postgres", (admin) => admin.query("ALTER ROLE orders_app PASSWORD 'changed'"));
    try {
      const client = await RawClient.connect(at());
      const [error] = errorsOf(await client.login({ token: orders.agent }));
      expect(codeOf(error)).toBe("target_auth_failed");
      expect(JSON.stringify(error)).not.toMatch(/app-secret|orders_app/);
    } finally {
      await orders.target.admin("postgres", (admin) => admin.query("ALTER ROLE orders_app PASSWORD 'app-secret-7f3c9d1b5e'"));
    }
  });
});
