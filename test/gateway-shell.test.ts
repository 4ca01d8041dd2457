/**
 * The gateway as a process that must outlive what its callers, targets and configuration do: floods, readers that never read, changes
 * under running sessions, low limits, a stop in the middle of everything.
 */
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { contractManifests, type Orders, startOrders } from "./support/orders.ts";
import { openTcp, RawClient } from "./support/raw-client.ts";
import { bind, codeOf, errorsOf, execute, message, parse, query, rowsOf, sync } from "./support/wire-messages.ts";

let orders: Orders;
beforeAll(async () => {
  orders = await startOrders({
    config: (config) =>
      `${config.replace(
        "- { protocol: postgres, listen: 127.0.0.1:0 }",
        "- { protocol: postgres, listen: 127.0.0.1:0 }\n    - { protocol: postgres, listen: 127.0.0.1:0, proxyProtocolFrom: [127.0.0.1] }",
      )}\nlimits: { pipelineDepthMax: 16, unauthenticatedPerAddressMax: 8, outboundBufferBytesMax: 262144, authenticationTimeoutMs: 9000000000, analysisCacheBytesMax: 100000 }\n`,
  });
});
afterAll(async () => {
  await orders?.stop();
});

const at = (): { port: number; caFile: string } => ({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
const login = (token = orders.agent): Promise<RawClient> => RawClient.login({ ...at(), token });
const manifests = (): Promise<string> => contractManifests(orders.target.port);

async function apply(text: string): Promise<void> {
  const file = join(orders.sluice.directory, "manifests", "orders.yaml");
  await writeFile(file, text);
  expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
}

/** Memory of the gateway's process that is in use now. MB. */
async function residentMb(): Promise<number> {
  const status = await readFile(`/proc/${orders.sluice.ready.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
}

/** Connections of callers at the target, by what the gateway calls them. */
function atTarget(subject: string): Promise<number> {
  return orders.target.admin("postgres", async (admin) => {
    const { rows } = await admin.query("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE $1", [`${subject} s_%`]);
    return rows.length;
  });
}

describe("limits", () => {
  it("lets a pipeline deeper than its bound through, and takes times longer than a timer's", async () => {
    const client = await login();
    const one = Buffer.concat([bind("", "one", ["7"]), execute("")]);
    client.send(parse("one", "SELECT $1::int"), ...Array.from({ length: 200 }, () => one), sync);
    expect(rowsOf(await client.untilReady())).toHaveLength(200);
    await client.end();
  });

  it("answers a text whose analysis is too large to be kept", async () => {
    const client = await login(orders.dba);
    const answers = await client.query("SELECT id FROM customers WHERE id = 1;".repeat(300));
    expect(rowsOf(answers)).toEqual(Array.from({ length: 300 }, () => ["1"]));
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    await client.end();
  });
});

describe("a flood", () => {
  it("of connections and of half TLS handshakes holds up nobody who is logged in, and passes", async () => {
    const client = await login();
    const sockets = await Promise.all(Array.from({ length: 150 }, () => openTcp(orders.sluice.port).catch(() => null)));
    for (const socket of sockets) {
      socket?.on("error", () => {});
      socket?.write(Buffer.from("16030100", "hex"));
    }
    const startedAt = Date.now();
    expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
    expect(Date.now() - startedAt).toBeLessThan(2_000);
    for (const socket of sockets) socket?.destroy();
    await expect.poll(async () => (await login().catch(() => null))?.end().then(() => true), { timeout: 5_000 }).toBe(true);
    await client.end();
  });

  it("of rows for a caller who never reads does not grow the memory", async () => {
    const idle = await residentMb();
    const client = await login(orders.dba);
    client.pauseReading();
    client.send(query("SELECT repeat('x', 10000) FROM generate_series(1, 60000)")); // 600 MB
    await delay(2_500);
    expect((await residentMb()) - idle).toBeLessThan(200);
    client.vanish();
    await expect.poll(() => atTarget("dora"), { timeout: 10_000, interval: 200 }).toBe(0);
  });

  it("of COPY data for a target that is slow does not grow the memory", async () => {
    const client = await login(orders.dba);
    await client.query("CREATE TABLE IF NOT EXISTS slow (label text)");
    const blocked = orders.target.admin("orders", async (admin) => {
      await admin.query("BEGIN; LOCK TABLE slow IN ACCESS EXCLUSIVE MODE");
      await delay(2_000);
      await admin.query("ROLLBACK");
    });
    await delay(200);
    client.send(query("COPY slow FROM STDIN"));
    const idle = await residentMb();
    const data = message("d", Buffer.from(`${"x".repeat(100_000)}\n`));
    for (let sent = 0; sent < 1_000; sent++) client.socket.write(data);
    await delay(1_000);
    expect((await residentMb()) - idle).toBeLessThan(200);
    await blocked;
    await client.until(({ type }) => type === "G" || type === "E");
    client.vanish();
    await expect.poll(() => atTarget("dora"), { timeout: 10_000, interval: 200 }).toBe(0);
  });
});

describe("a balancer", () => {
  const door = (): { port: number; caFile: string } => ({
    port: Number(orders.sluice.ready.listeners[1]!.address.split(":")[1]),
    caFile: orders.sluice.ready.caFile,
  });
  const signature = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

  it.each([
    ["LOCAL", Buffer.concat([signature, Buffer.from("20000000", "hex")])],
    ["no address family", Buffer.concat([signature, Buffer.from("21000000", "hex")])],
    ["IPv6 with more behind the addresses", Buffer.concat([signature, Buffer.from("2121002e", "hex"), Buffer.alloc(46, 1)])],
  ])("may say %s, with both ways of TLS behind it", async (_, preamble) => {
    for (const tls of ["request", "direct"] as const) {
      const client = await RawClient.login({ ...door(), token: orders.agent, preamble, tls });
      expect(rowsOf(await client.query("SELECT 1"))).toEqual([["1"]]);
      await client.end();
    }
  });
});

describe("apply under a running session", () => {
  it("changes the masks of its next statement, and ends it when the resource is taken away", async () => {
    const client = await login();
    const ssn = "SELECT ssn FROM customers WHERE id = 1";
    expect(rowsOf(await client.query(ssn))).toEqual([["***-**-9382"]]);
    const text = await manifests();
    const redacted = text.replace("operator: { partial: { keepLast: 4 } }", "operator: redact");
    expect(redacted).not.toBe(text);
    await apply(redacted);
    expect(rowsOf(await client.query(ssn))).not.toEqual([["***-**-9382"]]);
    await apply(text.replaceAll("groups: [agents]", "groups: [nobody]"));
    const [error] = errorsOf(await client.untilClosed());
    expect(error).toMatchObject({ S: "FATAL" });
    expect(codeOf(error)).toBe("killed");
    await expect(login()).rejects.toThrow(/resource/);
    await expect.poll(() => atTarget("ada"), { timeout: 5_000, interval: 200 }).toBe(0);
    await apply(text);
    await (await login()).end();
  });
});

describe("SIGTERM", () => {
  it("ends idle, busy, open and half logged-in connections within its time", async () => {
    const hole = createServer(() => {}); // takes connections and never says a word
    await new Promise<void>((resolve) => hole.listen(0, "127.0.0.1", resolve));
    const { port } = hole.address() as { port: number }; // a TCP server's address
    const text = await manifests();
    const silent = text
      .split("---")[0]!
      .replace("name: orders,", "name: silent,")
      .replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`);
    await apply(`${text}\n---\n${silent}`);
    const idle = await login();
    const open = await login(orders.dba);
    await open.query("BEGIN");
    const busy = await login(orders.dba);
    busy.send(query("SELECT pg_sleep(60)"));
    const stranger = await openTcp(orders.sluice.port);
    stranger.on("error", () => {});
    const waiting = await RawClient.connect(at());
    const answered = waiting.login({ token: orders.agent, database: "silent" });
    await delay(500);
    const startedAt = Date.now();
    const stopping = orders.sluice.stop();
    expect(errorsOf(await idle.untilClosed())[0]).toMatchObject({ S: "FATAL", C: "57P01" });
    expect(codeOf(errorsOf(await answered)[0])).toBe("draining");
    for (const client of [open, busy]) expect(codeOf(errorsOf(await client.untilClosed())[0])).toBe("draining");
    expect(await stopping).toBe(0);
    expect(Date.now() - startedAt).toBeLessThan(15_000);
    stranger.destroy();
    hole.close();
    expect(orders.sluice.output()).not.toMatch(/UnhandledPromise|uncaught|did not stop cleanly|ended by a fault/);
  });
});
