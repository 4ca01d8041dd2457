/** What a caller received is in the recording, whatever happens to the process; a recording that was touched says so. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { contractConfig, type Orders, startOrders } from "./support/orders.ts";
import { RawClient } from "./support/raw-client.ts";
import { replayed, replayedWhole } from "./support/replayed.ts";
import { type Sluice, startSluice } from "./support/sluice.ts";
import { APP_PASSWORD } from "./support/targets.ts";
import { bind, execute, parse, query, rowTexts, rowsOf, type WireMessage } from "./support/wire-messages.ts";

let orders: Orders;
let again: Sluice | undefined;
beforeEach(async () => {
  orders = await startOrders();
});
afterEach(async () => {
  await again?.stop();
  again = undefined;
  await orders?.stop();
});

interface Opened {
  readonly client: RawClient;
  readonly id: string;
}

async function open(token: string): Promise<Opened> {
  const client = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
  const answers = await client.login({ token });
  const status = answers.find(({ body }) => body.includes("sluice.session_id"))!;
  return { client, id: status.body.toString().split("\0")[1]! };
}

const restart = async (): Promise<Sluice> => {
  again = await startSluice({
    config: await contractConfig(),
    manifests: {},
    environment: { ORDERS_PASSWORD: APP_PASSWORD },
    directory: orders.sluice.directory,
  });
  return again;
};

const recordedRows = (items: readonly Readonly<Record<string, unknown>>[]): readonly unknown[] =>
  items.filter(({ kind }) => kind === "row").map(({ values }) => values);

async function recordingFile(id: string): Promise<string> {
  const root = join(orders.sluice.dataDirectory, "recordings");
  const names = await readdir(root, { recursive: true });
  const name = names.find((candidate) => candidate.endsWith(`${id}.slr`));
  if (name === undefined) throw new Error(`there is no recording of ${id} among ${names.join(", ")}`);
  return join(root, name);
}

describe("recordings", () => {
  it("hold what was received: rows, errors, notices, COPY, partial results, with the statements and their decisions", async () => {
    const { client, id } = await open(orders.agent);
    const received: WireMessage[] = [];
    for (const sql of [
      "SELECT id, ssn, notes FROM customers WHERE id < 4 ORDER BY id",
      "TABLE customers",
      "SELECT 1; SELECT 2",
      "SELECT 'abc'::int",
    ])
      received.push(...(await client.query(sql)));
    received.push(
      ...(await client.pipeline(parse("", "SELECT ssn FROM customers WHERE id = $1"), bind("", "", ["2"]), execute(""))),
    );
    await client.end();
    const items = await replayedWhole(orders.sluice, id);
    expect(recordedRows(items)).toEqual(rowsOf(received));
    expect(items.filter(({ kind }) => kind === "error")).toHaveLength(received.filter(({ type }) => type === "E").length);
    const statements = items
      .filter(({ kind }) => kind === "statement")
      .map(({ statement }) => statement as Record<string, unknown>); // by the published shape
    expect(statements.map(({ decision }) => (decision as Record<string, unknown>)["effect"])).toEqual(
      expect.arrayContaining(["mask", "deny", "limit"]),
    );
    expect(statements.map(({ number }) => number)).toEqual(statements.map((_, at) => at + 1));

    const dba = await open(orders.dba);
    const copied = await dba.client.query("COPY (SELECT id, label FROM big WHERE id < 3 ORDER BY id) TO STDOUT");
    await dba.client.query("DO $$ BEGIN RAISE NOTICE 'seen'; END $$");
    await dba.client.end();
    expect(copied.filter(({ type }) => type === "d")).toHaveLength(2);
    const copyItems = await replayedWhole(orders.sluice, dba.id);
    expect(
      copyItems
        .filter(({ kind }) => kind === "copy")
        .map(({ text }) => text)
        .join(""),
    ).toBe("1\trow 1\n2\trow 2\n");
    expect(JSON.stringify(copyItems.filter(({ kind }) => kind === "notice"))).toContain("seen");
  });

  it("hold everything a caller had received when the power went", async () => {
    const sessions = await Promise.all([open(orders.agent), open(orders.agent), open(orders.dba)]);
    const power = new AbortController();
    const work = sessions.map(async ({ client }, at) => {
      const received: (readonly (string | null)[])[] = [];
      let sequence = 0;
      while (!power.signal.aborted && !client.isClosed) {
        sequence += 1;
        client.send(query(`SELECT ${sequence} AS n, ssn, '${at}' AS who FROM customers WHERE id = ${1 + (sequence % 3)}`));
        try {
          for (;;) {
            const [message] = await client.until(() => true);
            if (message!.type === "D") received.push(rowTexts(message!));
            if (message!.type === "Z") break;
          }
        } catch {
          break;
        }
      }
      return received;
    });
    await delay(1_500);
    await orders.sluice.kill();
    power.abort();
    const received = await Promise.all(work);
    for (const rows of received) expect(rows.length).toBeGreaterThan(10);

    const sluice = await restart();
    for (const [at, { id }] of sessions.entries()) {
      const missing = async (): Promise<readonly unknown[]> => {
        const rows = new Set(recordedRows(await replayed(sluice, id).catch(() => [])).map((row) => JSON.stringify(row)));
        return received[at]!.filter((row) => !rows.has(JSON.stringify(row)));
      };
      await expect.poll(missing, { timeout: 15_000, interval: 300 }).toEqual([]);
    }
    const listed = JSON.parse((await sluice.cli("sessions", "list", "--json")).stdout) as { id: string; state: string }[]; // by the published shape
    for (const { id } of sessions) expect(listed.find((session) => session.id === id)?.state).not.toBe("open");
  });

  it("go on after a restart and keep what was there", async () => {
    const { client, id } = await open(orders.agent);
    await client.query("SELECT 'before'");
    await client.end();
    await replayedWhole(orders.sluice, id);
    expect(await orders.sluice.stop()).toBe(0);
    const sluice = await restart();
    expect((await sluice.cli("sessions", "verify", id)).status).toBe(0);
    expect(recordedRows(await replayed(sluice, id))).toEqual([["before"]]);
  });

  it("tell when they were changed, cut, or replaced", async () => {
    const { client, id } = await open(orders.agent);
    await client.query("SELECT ssn FROM customers WHERE id = 1");
    await client.end();
    const other = await open(orders.agent);
    await other.client.query("SELECT 'other'");
    await other.client.end();
    await replayedWhole(orders.sluice, id);
    await replayedWhole(orders.sluice, other.id);
    const file = await recordingFile(id);
    const whole = await readFile(file);
    expect((await orders.sluice.cli("sessions", "verify", id)).status).toBe(0);

    const flipped = (at: number): Buffer => {
      const changed = Buffer.from(whole);
      changed[at] = changed[at]! ^ 1;
      return changed;
    };
    const changes: Readonly<Record<string, Buffer>> = {
      "a bit of the header": flipped(20),
      "a bit in the middle": flipped(whole.length >> 1),
      "a bit of the end": flipped(whole.length - 3),
      "the last byte cut": whole.subarray(0, -1),
      "half of it cut": whole.subarray(0, whole.length >> 1),
      "bytes behind it": Buffer.concat([whole, Buffer.from("more")]),
      "nothing left": Buffer.alloc(0),
      "another session's": await readFile(await recordingFile(other.id)),
    };
    for (const [name, bytes] of Object.entries(changes)) {
      await writeFile(file, bytes);
      const result = await orders.sluice.cli("sessions", "verify", id, "--json");
      expect(result.status, name).toBe(1);
      const report = JSON.parse(result.stdout || "{}") as { ok?: boolean; faults?: string[] }; // by the published shape
      expect(report.ok ?? false, name).toBe(false);
    }
    await writeFile(file, whole);
    expect((await orders.sluice.cli("sessions", "verify", id)).status).toBe(0);
  });
});
