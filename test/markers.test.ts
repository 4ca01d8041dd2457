/**
 * Planted protected values, tokens and secrets are looked for everywhere they must not be: in what masked callers receive, in logs,
 * in the spool, in recordings, in the store. The search is shown to work by a value that may be there.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliDecompressSync, gunzipSync, inflateRawSync, inflateSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Orders, startOrders } from "./support/orders.ts";
import { markersOf, planted } from "./support/orders-schema.ts";
import { RawClient } from "./support/raw-client.ts";
import { APP_PASSWORD } from "./support/targets.ts";
import { bind, errorsOf, execute, parse } from "./support/wire-messages.ts";
import { replayedWhole } from "./support/replayed.ts";

/** Sent by callers, protected by nothing: it must be found, or the search is blind. */
const VISIBLE = "zebra-4711-crossing";

const statements: readonly string[] = [
  `SELECT '${VISIBLE}'`,
  "SELECT * FROM customers WHERE id = 1",
  "SELECT ssn, email, card, notes FROM customers WHERE id < 4",
  "SELECT to_jsonb(c) FROM customers c WHERE id = 2",
  "SELECT ssn || card FROM customers WHERE id = 3",
  "SELECT string_agg(ssn, ',') FROM customers WHERE id < 9",
  "SELECT ssn::int FROM customers WHERE id = 1",
  "SELECT email::date FROM customers WHERE id = 1",
  "SELECT * FROM customers",
  "COPY customers TO STDOUT",
  "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
  "EXPLAIN ANALYZE SELECT ssn FROM customers WHERE ssn = 'x'",
  `SELECT id FROM customers WHERE ssn = '${planted[0]!.ssn}'`,
  `SELECT id FROM customers WHERE email = '${planted[1]!.email}'`,
  `SELECT '${planted[2]!.card}'::text`,
  `SELECT id FROM nowhere WHERE ssn = '${planted[2]!.ssn}'`,
  `SELEC '${planted[2]!.ssn}'`,
];

describe("planted values", () => {
  let orders: Orders;
  let received = "";
  let expired = "";
  const ids: string[] = [];
  beforeAll(async () => {
    orders = await startOrders({ environment: { SLUICE_LOG_LEVEL: "trace" } });
    const client = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
    const answers = await client.login({ token: orders.agent });
    ids.push(
      answers
        .find(({ body }) => body.includes("sluice.session_id"))!
        .body.toString()
        .split("\0")[1]!,
    );
    for (const sql of statements) await client.query(sql);
    await client.pipeline(
      parse("", "SELECT ssn, notes FROM customers WHERE ssn = $1"),
      bind("", "", [planted[0]!.ssn]),
      execute(""),
    );
    await client.pipeline(
      parse("", "SELECT $1::text, $2::text"),
      bind("", "", [planted[1]!.card, planted[1]!.email]),
      execute(""),
    );
    await client.end();
    received = Buffer.concat(client.received).toString("latin1");
    // Refused logins: a token that expired, one with a broken signature, a secret as password.
    expired = await orders.sluice.token("ada", ["agents"], "--ttl", "1s");
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    for (const token of [expired, `${orders.dba.slice(0, -6)}AAAAAA`, `${APP_PASSWORD}-guess`]) {
      const refused = await RawClient.connect({ port: orders.sluice.port, caFile: orders.sluice.ready.caFile });
      expect(errorsOf(await refused.login({ token }))).toHaveLength(1);
      refused.vanish();
    }
    await orders.sluice.cli(
      "policy",
      "explain",
      "--as",
      '{"sub":"ada","groups":["agents"]}',
      "--resource",
      "orders",
      "--sql",
      statements[12]!,
    );
    for (const id of ids) await replayedWhole(orders.sluice, id);
  });
  afterAll(async () => {
    await orders?.stop();
  });

  const secrets = (): readonly string[] => [
    APP_PASSWORD,
    orders.agent.split(".")[1]!,
    orders.agent.split(".")[2]!,
    orders.dba.split(".")[2]!.slice(0, 40),
    expired.split(".")[2]!,
  ];

  it("never reach a masked caller, but for what the caller sent itself", () => {
    expect(received).toContain(VISIBLE);
    // The caller's own literals may come back to it; everything else of the planted rows may not.
    for (const marker of [planted[0]!.email, planted[0]!.card, planted[1]!.ssn, planted[2]!.ssn, planted[2]!.email])
      expect(received).not.toContain(marker);
    for (const secret of secrets()) expect(received).not.toContain(secret);
  });

  it("are in no log", () => {
    const log = orders.sluice.output();
    expect(log).toContain("a session ended");
    for (const marker of [...markersOf(planted), ...secrets(), orders.sluice.ready.adminToken]) expect(log).not.toContain(marker);
  });

  it("are in no recording", async () => {
    for (const id of ids) {
      const json = JSON.stringify(await replayedWhole(orders.sluice, id));
      expect(json).toContain(VISIBLE);
      for (const marker of [...markersOf(planted), ...secrets()]) expect(json).not.toContain(marker);
    }
  });

  it("are in no file of the installation: spool, recordings, store", async () => {
    const files = await filesUnder(orders.sluice.dataDirectory);
    expect(files.length).toBeGreaterThan(20);
    const found: string[] = [];
    let visible = 0;
    for (const file of files) {
      const bytes = await readFile(file).catch(() => Buffer.alloc(0));
      for (const text of [bytes.toString("latin1"), ...unpacked(bytes)]) {
        if (text.includes(VISIBLE)) visible += 1;
        for (const marker of [...markersOf(planted), ...secrets()]) if (text.includes(marker)) found.push(`${marker} in ${file}`);
      }
    }
    expect(found).toEqual([]);
    expect(visible, "files in which the visible value was found").toBeGreaterThan(0);
  });

  it("do not appear in the answers of the command line", async () => {
    for (const args of [
      ["sessions", "list"],
      ["sessions", "list", "--json"],
      ["sessions", "show", "last"],
      ["sessions", "replay", ids[0]!],
      ["doctor"],
    ]) {
      const { stdout, stderr } = await orders.sluice.cli(...args);
      for (const marker of [...markersOf(planted), ...secrets(), orders.sluice.ready.adminToken])
        expect(stdout + stderr, args.join(" ")).not.toContain(marker);
    }
  });
});

async function filesUnder(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Every compressed stream in a file, wherever it begins: gzip, zlib, zstd by their first bytes; brotli has none and is tried whole. */
function unpacked(bytes: Buffer): readonly string[] {
  const texts: string[] = [];
  const attempt = (unpack: (part: Buffer) => Buffer, part: Buffer): void => {
    try {
      texts.push(unpack(part).toString("latin1"));
    } catch {
      // not that format
    }
  };
  if (bytes.length > 4_000_000) return texts;
  for (let at = 0; at < bytes.length - 4; at++) {
    const head = bytes.readUInt32BE(at);
    if (head >>> 8 === 0x1f8b08) attempt((part) => gunzipSync(part, { finishFlush: 2 }), bytes.subarray(at));
    else if (head === 0x28b52ffd) attempt((part) => zstdDecompressSync(part), bytes.subarray(at));
    else if (head >>> 16 === 0x7801 || head >>> 16 === 0x789c)
      attempt((part) => inflateSync(part, { finishFlush: 2 }), bytes.subarray(at));
  }
  attempt((part) => brotliDecompressSync(part), bytes);
  attempt((part) => inflateRawSync(part), bytes);
  return texts;
}
