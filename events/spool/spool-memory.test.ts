import { expect, test } from "vitest";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import type { ReleasedBytes } from "../spool.ts";
import { testLog, testSessionId } from "../testing.ts";
import { type FileSpool, openFileSpool } from "./file-spool.ts";
import { memoryDisk } from "./memory-files.test-fixture.ts";
import { decodeRecord } from "./record-codec.ts";

const ROUNDS = 120;
const PIECES = 6;
const PIECE_BYTES = 24 * 1024;

async function openSpool(limits: Partial<Limits> = {}): Promise<FileSpool> {
  return await openFileSpool({
    directory: "/spool",
    limits: { ...defaultLimits, ...limits },
    log: testLog(),
    files: memoryDisk(),
  });
}

/** What record `sequence` holds; random once, so that a mix-up shows. */
const pattern = Buffer.from(systemRandom.bytes(1 << 20));
const bytesOf = (sequence: number): Buffer =>
  pattern.subarray((sequence * 7_919) % 500_000, ((sequence * 7_919) % 500_000) + PIECE_BYTES);

function release(spool: FileSpool, sequence: number): ReleasedBytes {
  const pieces = [Buffer.from(bytesOf(sequence).subarray(0, 100)), Buffer.from(bytesOf(sequence).subarray(100))];
  const released = spool.release({ sessionId: testSessionId(1), sequence, atMs: 1, kind: "released" }, pieces);
  for (const piece of pieces) piece.fill(0xee); // theirs again
  return released;
}

/** Follows, checks every batch when it comes and again when it is given back, trims. */
async function follow(spool: FileSpool, until: number, signal: AbortSignal): Promise<void> {
  let next = 0;
  for await (const batch of spool.follow(spool.start, signal)) {
    const check = (from: number): void => {
      batch.records.forEach((record, at) => {
        expect(record.sequence).toBe(from + at);
        expect(record.kind === "released" && record.bytes.equals(bytesOf(record.sequence))).toBe(true);
        const { head, raw } = batch.encoded[at]!;
        const decoded = decodeRecord(raw === null ? head : Buffer.concat([head, raw]), 0, 1 << 20);
        expect(decoded.kind === "record" && decoded.record.sequence).toBe(from + at);
      });
    };
    check(next);
    await new Promise((resolve) => setImmediate(resolve));
    check(next);
    next += batch.records.length;
    await spool.trim(batch.next);
    if (next === until) return;
  }
}

test.each([
  ["what the follower gets from memory", {}],
  ["what it reads back from files", { spoolRecentBytesMax: 200_000 }],
])("memory is used again, and never while somebody reads it: %s", async (_what, limits) => {
  const spool = await openSpool(limits);
  const stop = new AbortController();
  const following = follow(spool, ROUNDS * PIECES, stop.signal);
  const memories = new Set<ArrayBufferLike>();
  const slow: { released: ReleasedBytes; sequence: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (let at = 0; at < PIECES; at++) {
      const sequence = round * PIECES + at;
      const released = release(spool, sequence);
      memories.add(released.bytes.buffer);
      if (sequence % 50 === 7) slow.push({ released, sequence });
      else setImmediate(() => released.sent());
    }
    await spool.durable();
    for (const { released, sequence } of slow) expect(released.bytes.equals(bytesOf(sequence))).toBe(true);
    if (round % 4 === 3) await spool.drained();
    if (round % 40 !== 39) continue;
    for (const { released } of slow.splice(0)) {
      released.sent();
      released.sent(); // said twice is said once
    }
  }
  await following;
  stop.abort();
  expect(memories.size).toBeLessThan(20); // of 34 that the bytes would fill
  await spool.close();
});

test("two followers never lose what one of them has trimmed", async () => {
  const spool = await openSpool();
  const stop = new AbortController();
  const seen: Buffer[] = [];
  const slow = spool.follow(spool.start, stop.signal)[Symbol.asyncIterator]();
  const first = slow.next();
  const following = follow(spool, ROUNDS, stop.signal);
  for (let sequence = 0; sequence < ROUNDS; sequence++) {
    release(spool, sequence).sent();
    await spool.durable();
  }
  await following;
  const batch = await first;
  if (batch.done !== true) for (const record of batch.value.records) if (record.kind === "released") seen.push(record.bytes);
  expect(seen.length).toBeGreaterThan(0);
  seen.forEach((bytes, sequence) => expect(bytes.equals(bytesOf(sequence))).toBe(true));
  stop.abort();
  await spool.close();
});
