/** Fail-over and the pool against real PostgreSQL servers: nothing of a session is seen by the next one on the same connection. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ResourceSpec, TargetSpec } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { cstring, encodeMessage, int16, int32 } from "@sluice/inspect/wire/postgres/frames.ts";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Cluster, startCluster } from "../../../control-plane/store/embedded-postgres.ts";
import type { TargetAddress } from "../addresses.ts";
import { PostgresTargets } from "./connect.ts";
import type { PostgresConnection } from "./open.ts";
import { QueryClient } from "./query.ts";

let directory: string;
let cluster: Cluster;
let targets: PostgresTargets;
const servers: Server[] = [];
const closedBecause: string[] = [];
const resolvedFor: TargetAddress[] = [];
let rotated = "the former password";
const log = {
  info: () => {},
  warn: () => {},
  debug: (words: unknown) => void closedBecause.push(JSON.stringify(words)),
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-pool-test-"));
  cluster = await startCluster({ directory, name: "pool", parameters: { fsync: "off", shared_buffers: "16MB" }, log });
  targets = makeTargets();
  const connection = await open({ pool: undefined });
  await ask(connection, "CREATE ROLE reader LOGIN PASSWORD 'reads'; CREATE TABLE t (a int)");
});

afterEach(() => {
  targets.close();
  targets = makeTargets();
  closedBecause.length = 0;
  resolvedFor.length = 0;
});

afterAll(async () => {
  targets.close();
  for (const server of servers) server.close();
  await cluster.stop();
  await rm(directory, { recursive: true, force: true });
});

describe("a connection that is used again", () => {
  test("is the same one, with what the server said at first and the name of the next session", async () => {
    const first = await open({ name: "first" });
    expect(new Map(first.parameters).get("application_name")).toBe("first");
    const [[pid]] = (await ask(first, "SELECT pg_backend_pid()")) as [[string]];
    await release(first);
    const odd = `o'dd \\ na"me`;
    const second = await open({ name: odd });
    expect(await ask(second, "SELECT pg_backend_pid(), current_setting('application_name')")).toEqual([[pid, odd]]);
    const withoutName = (connection: PostgresConnection): readonly unknown[] =>
      connection.parameters.filter(([name]) => name !== "application_name");
    expect(withoutName(second)).toEqual(withoutName(first));
    expect(second.stream.isPaused()).toBe(true);
    expect(["data", "error", "end", "readable"].map((event) => second.stream.listenerCount(event))).toEqual(
      ["data", "error", "end", "readable"].map((event) => first.stream.listenerCount(event)),
    );
    expect(second.stream.listenerCount("data") + second.stream.listenerCount("error")).toBe(0);
    second.stream.destroy();
  });

  test("shows no trace of the session before", async () => {
    const first = await open({ name: "agent of s_first" });
    const [[pid]] = (await ask(first, "SELECT pg_backend_pid()")) as [[string]];
    await ask(
      first,
      `CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1); PREPARE p AS SELECT 1; SELECT pg_advisory_lock(7);
       SET TimeZone = 'Asia/Tokyo'; SET ROLE reader; RESET ROLE; SET SESSION AUTHORIZATION reader; LISTEN news;
       DECLARE c CURSOR WITH HOLD FOR SELECT 1; SET statement_timeout = 1`,
    );
    await release(first);
    const second = await open({ name: "" });
    const [row] = await ask(
      second,
      `SELECT pg_backend_pid(), (SELECT count(*) FROM t), (SELECT count(*) FROM pg_prepared_statements),
         (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), current_user, session_user,
         current_setting('TimeZone') = 'Asia/Tokyo', (SELECT count(*) FROM pg_listening_channels()),
         (SELECT count(*) FROM pg_cursors WHERE name = 'c'), current_setting('statement_timeout'), current_setting('application_name')`,
    );
    expect(row).toEqual([pid, "0", "0", "0", "postgres", "postgres", "f", "0", "0", "0", ""]);
    await ask(second, "RESET application_name");
    expect(await ask(second, "SHOW application_name")).toEqual([["sluice"]]);
    second.stream.destroy();
  });

  test("a setting of the role that changed in between is reported as it is now", async () => {
    const first = await open({});
    await ask(first, "SET TimeZone = 'Asia/Tokyo'");
    await release(first);
    const second = await open({});
    const [[zone]] = (await ask(second, "SHOW TimeZone")) as [[string]];
    expect(new Map(second.parameters).get("TimeZone")).toBe(zone);
    second.stream.destroy();
  });

  test("not for another database, user, password or startup parameter", async () => {
    await release(await open({}));
    const others = [
      await open({ database: "template1" }),
      await open({ account: "readOnly" }),
      await open({ startup: { search_path: "pg_catalog" } }),
      await open({ resource: "another" }),
    ];
    const pids = await Promise.all(others.map(async (other) => (await ask(other, "SELECT pg_backend_pid()"))[0]?.[0]));
    const again = await open({});
    pids.push((await ask(again, "SELECT pg_backend_pid()"))[0]?.[0]);
    expect(new Set(pids).size).toBe(5);
    for (const connection of [...others, again]) connection.stream.destroy();
  });

  test("cancel of a session that has ended never reaches the next one", async () => {
    const first = await open({});
    await release(first);
    const second = await open({});
    const sleeping = ask(second, "SELECT pg_sleep(0.5)");
    await first.cancel();
    expect(await sleeping).toHaveLength(1);
    second.stream.destroy();
  });

  test("a cancel under way is waited for before the reset", async () => {
    const first = await open({});
    const sleeping = ask(first, "SELECT pg_sleep(30)");
    sleeping.catch(() => undefined); // looked at below
    await sleeps();
    const cancelled = first.cancel();
    await expect(sleeping).rejects.toMatchObject({ sqlState: "57014" });
    await release(first);
    await cancelled;
    const second = await open({});
    expect(await ask(second, "SELECT 1")).toEqual([["1"]]);
    second.stream.destroy();
  });
});

describe("a connection that is not used again", () => {
  test.each([
    ["in a failed transaction", async (c: PostgresConnection) => void (await ask(c, "BEGIN; SELECT 1/0").catch(() => {}))],
    ["in a transaction", async (c: PostgresConnection) => void (await ask(c, "BEGIN"))],
    ["with COPY FROM running", async (c: PostgresConnection) => await send(c, query("COPY t FROM STDIN"), "G")],
    [
      "with COPY TO unread",
      async (c: PostgresConnection) => await send(c, query("COPY (SELECT generate_series(1, 100000)) TO STDOUT")),
    ],
    ["with an answer that nobody read", async (c: PostgresConnection) => await send(c, query("SELECT 1"))],
    ["with an answer of the same shape as the reset's", async (c: PostgresConnection) => await send(c, query("DISCARD ALL"))],
    [
      "with all the answers that the pool waits for, left by the session",
      async (c: PostgresConnection) =>
        await send(c, Buffer.concat([query("DISCARD ALL"), query("SELECT 'mark'"), query("SET a.b = 1")])),
    ],
    ["with a statement still running", async (c: PostgresConnection) => await send(c, query("SELECT pg_sleep(0.3)"))],
    ["with messages after which no Sync came", async (c: PostgresConnection) => await send(c, parse("SELECT 1"))],
    ["with half a message sent", async (c: PostgresConnection) => await send(c, query("SELECT 1").subarray(0, 8))],
  ])("%s", { timeout: 10_000 }, async (_, leave) => {
    const first = await open({});
    const [[pid]] = (await ask(first, "SELECT pg_backend_pid()")) as [[string]];
    await leave(first);
    first.release?.();
    const second = await open({});
    expect((await ask(second, "SELECT pg_backend_pid()"))[0]).not.toEqual([pid]);
    second.stream.destroy();
    await vi.waitUntil(() => closedBecause.some((line) => line.includes("could not be reset")), { timeout: 8_000 });
  });

  test("whose session still reads", async () => {
    const first = await open({});
    first.stream.on("data", () => {});
    first.release?.();
    await vi.waitUntil(() => first.stream.destroyed);
  });

  test("that the server ended while it was idle", async () => {
    const first = await open({});
    const [[pid]] = (await ask(first, "SELECT pg_backend_pid()")) as [[string]];
    await release(first);
    const other = await open({ pool: undefined });
    await ask(other, `SELECT pg_terminate_backend(${pid})`);
    await vi.waitUntil(() => first.stream.destroyed);
    const second = await open({});
    expect((await ask(second, "SELECT pg_backend_pid()"))[0]).not.toEqual([pid]);
    for (const connection of [other, second]) connection.stream.destroy();
  });

  test("beyond the pool's bound, after its idle time, and once the agent closes", async () => {
    const all = [await open({}), await open({}), await open({})];
    expect(all.map((connection) => connection.release !== undefined)).toEqual([true, true, false]);
    all[2]!.stream.destroy();
    for (const connection of all.slice(0, 2)) await release(connection);
    targets.close();
    await vi.waitUntil(() => all.every(({ stream }) => stream.destroyed));
    targets = makeTargets();
    const brief = await open({ pool: { connectionsMax: 1, idleMs: 50 } });
    await release(brief);
    await vi.waitUntil(() => brief.stream.destroyed);
  });

  test("idle connections are bounded over all keys, the one idle longest goes", async () => {
    const first = await open({ startup: { search_path: "a" } });
    const second = await open({ startup: { search_path: "b" } });
    const third = await open({ startup: { search_path: "c" } });
    for (const connection of [first, second]) await release(connection);
    third.release?.();
    await vi.waitUntil(() => first.stream.destroyed);
    expect([second.stream.destroyed, third.stream.destroyed]).toEqual([false, false]);
  });
});

describe("fail-over", () => {
  test("an address that refuses and one that hangs are passed over; the secret is resolved for each that is tried", async () => {
    const hanging = await listen(() => {});
    const failover = [
      { host: "127.0.0.1", port: hanging },
      { host: "127.0.0.1", port: cluster.port },
    ];
    targets = makeTargets(900);
    const connection = await open({ address: { host: "127.0.0.1", port: await freePort() }, target: { failover } });
    expect(connection.stream.remotePort).toBe(cluster.port);
    expect(resolvedFor.map(({ port }) => port)).toEqual([expect.any(Number), hanging, cluster.port]);
    resolvedFor.length = 0;
    const again = await open({ address: { host: "127.0.0.1", port: hanging }, target: { failover: failover.slice(1) } });
    again.stream.destroy();
    const third = await open({ address: { host: "127.0.0.1", port: hanging }, target: { failover: failover.slice(1) } });
    expect(resolvedFor.map(({ port }) => port)).toEqual([hanging, cluster.port, cluster.port]);
    for (const one of [connection, third]) one.stream.destroy();
  });

  test("cancel goes to the address of the connection", async () => {
    let dialled = 0;
    const proxied = await listen((socket) => {
      dialled++;
      const to = connect(cluster.port, "127.0.0.1");
      socket.pipe(to).pipe(socket);
      to.on("error", () => {});
    });
    const dead = await freePort();
    const connection = await open({
      address: { host: "127.0.0.1", port: dead },
      target: { failover: [{ host: "127.0.0.1", port: proxied }] },
      pool: undefined,
    });
    const sleeping = expect(ask(connection, "SELECT pg_sleep(30)")).rejects.toMatchObject({ sqlState: "57014" });
    await sleeps();
    await connection.cancel();
    await sleeping;
    expect(dialled).toBe(2);
    connection.stream.destroy();
  });

  test("a standby and a read-only server are no primary; for an account that reads, read-only by default says nothing", async () => {
    const standby = await listen(letIn({ in_hot_standby: "on" }));
    const readOnly = await listen(letIn({ default_transaction_read_only: "on" }));
    const failover = [
      { host: "127.0.0.1", port: readOnly },
      { host: "127.0.0.1", port: cluster.port },
    ];
    const address = { host: "127.0.0.1", port: standby };
    const primary = await open({ address, target: { failover, role: "primary" } });
    expect(primary.stream.remotePort).toBe(cluster.port);
    primary.stream.destroy();
    const any = await open({ address, target: { failover, role: "any" }, pool: undefined });
    expect(any.stream.remotePort).toBe(standby);
    const primaryToo = { failover, role: "primary" } as const;
    const reader = await open({ address, target: primaryToo, account: "readOnly", pool: undefined, resource: "r" });
    expect(reader.stream.remotePort).toBe(cluster.port);
    for (const one of [any, reader]) one.stream.destroy();
    const alone = open({ address, target: { role: "primary" } });
    await expect(alone).rejects.toMatchObject({
      code: "target_unreachable",
      message: expect.stringContaining("writes") as string,
    });
    const asked = await open({
      address: { host: "127.0.0.1", port: readOnly },
      target: { role: "primary" },
      pool: undefined,
      startup: { options: "-c default_transaction_read_only=on" },
    });
    asked.stream.destroy();
  });

  test("a wrong password is not tried elsewhere", async () => {
    const failover = [{ host: "127.0.0.1", port: await freePort() }];
    await expect(open({ target: { failover }, password: "wrong" })).rejects.toMatchObject({ code: "target_auth_failed" });
    expect(resolvedFor).toHaveLength(2); // once more at the same address, in case it was just replaced
  });

  test("a password that was replaced at its source a moment ago is asked for again", async () => {
    const connection = await open({ password: "rotated", pool: undefined });
    expect(await ask(connection, "SELECT 1")).toEqual([["1"]]);
    connection.stream.destroy();
  });
});

interface Wanted {
  readonly name?: string;
  readonly resource?: string;
  readonly database?: string;
  readonly account?: "readOnly" | "readWrite";
  readonly startup?: Readonly<Record<string, string>>;
  readonly pool?: TargetSpec["pool"] | undefined;
  readonly address?: TargetAddress;
  readonly target?: Partial<TargetSpec>;
  readonly password?: string;
}

async function open(wanted: Wanted): Promise<PostgresConnection> {
  const pool = "pool" in wanted ? wanted.pool : { connectionsMax: 2, idleMs: 60_000 };
  const resource: ResourceSpec = {
    name: wanted.resource ?? "orders",
    labels: {},
    protocol: "postgres",
    target: {
      ...(wanted.address ?? { host: "127.0.0.1", port: cluster.port }),
      database: "postgres",
      databases: [],
      tls: { mode: "disable" },
      ...(pool === undefined ? {} : { pool }),
      ...wanted.target,
    },
    credential: {
      username: { kind: "value", value: "postgres" },
      password: { kind: "env", name: wanted.password ?? cluster.password },
    },
    readOnlyCredential: { username: { kind: "value", value: "reader" }, password: { kind: "env", name: "reads" } },
    inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
  };
  return await targets.connect({
    resource,
    database: wanted.database ?? "postgres",
    account: wanted.account ?? "readWrite",
    startup: { application_name: wanted.name ?? "test", ...wanted.startup },
    pooled: true,
    signal: new AbortController().signal,
  });
}

function makeTargets(targetConnectTimeoutMs = 5_000): PostgresTargets {
  return new PostgresTargets({
    resolveCredential: async ({ username, password }, address) => {
      resolvedFor.push(address);
      const name = password?.kind === "env" ? password.name : undefined;
      return { user: username.kind === "value" ? username.value : "", password: name === "rotated" ? rotated : name };
    },
    invalidateCredential: () => {
      rotated = cluster.password;
    },
    limits: { ...defaultLimits, targetConnectTimeoutMs, targetResetTimeoutMs: 1_000 },
    clock: systemClock,
    random: systemRandom,
    log,
  });
}

/** Runs statements without ending the connection. */
async function ask(connection: PostgresConnection, sql: string): Promise<readonly (readonly (string | null)[])[]> {
  const bounds = { rowsMax: 1_000, bytesMax: 1_000_000, frameBytesMax: 1_000_000 };
  const before = new Set(connection.stream.listeners("error"));
  const client = new QueryClient(connection, bounds, new AbortController().signal);
  try {
    return await client.query(sql);
  } finally {
    for (const listener of connection.stream.listeners("error")) {
      // What QueryClient leaves behind for good, since it owns the connections that it is made for.
      if (!before.has(listener)) connection.stream.off("error", listener as () => void);
    }
  }
}

async function release(connection: PostgresConnection): Promise<void> {
  const before = targets.idle;
  connection.release?.();
  await vi.waitUntil(() => connection.stream.destroyed || targets.idle > before, { interval: 5 });
}

/** Resolves when a statement that sleeps has begun: a cancel before that would hit nothing. */
async function sleeps(): Promise<void> {
  const looking = await open({ pool: undefined, name: "looking" });
  const query = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
  await vi.waitUntil(async () => (await ask(looking, query)).length > 0, { timeout: 10_000, interval: 20 });
  looking.stream.destroy();
}

async function send(connection: PostgresConnection, bytes: Buffer, until?: string): Promise<void> {
  connection.stream.write(bytes);
  if (until === undefined) return;
  connection.stream.resume();
  const [chunk] = (await once(connection.stream, "data")) as [Buffer];
  expect(chunk.toString("latin1", 0, 1)).toBe(until);
  connection.stream.pause();
}

function query(sql: string): Buffer {
  return encodeMessage("Q", [cstring(sql)]);
}

function parse(sql: string): Buffer {
  return encodeMessage("P", [cstring(""), cstring(sql), int16(0)]);
}

function login(parameters: Readonly<Record<string, string>>): Buffer {
  const reported = Object.entries({ server_version: "18.0", ...parameters });
  return Buffer.concat([
    encodeMessage("R", [int32(0)]),
    ...reported.map(([name, value]) => encodeMessage("S", [cstring(name), cstring(value)])),
    encodeMessage("Z", [Buffer.from("I")]),
  ]);
}

/** A server that lets everybody in and has no rows for any query. */
function letIn(parameters: Readonly<Record<string, string>>): (socket: Socket) => void {
  return (socket) => {
    let answer = login(parameters);
    socket.on("data", () => {
      socket.write(answer);
      answer = encodeMessage("Z", [Buffer.from("I")]);
    });
  };
}

async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function freePort(): Promise<number> {
  const port = await listen(() => {});
  const server = servers.pop()!;
  server.close();
  await once(server, "close");
  return port;
}
