import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { SessionRecord } from "../session-events.ts";
import type { Spool } from "../spool.ts";
import { releasedRecord, testLog, testSessionId } from "../testing.ts";
import { diskFiles, type SpoolFiles } from "./file-layer.ts";
import { type FileSpool, openFileSpool } from "./file-spool.ts";
import { type MemoryDisk, memoryDisk } from "./memory-files.test-fixture.ts";
import { GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES } from "./segment-format.ts";

let directory: string;
const open: FileSpool[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-spool-"));
});

afterEach(async () => {
  for (const spool of open.splice(0)) await spool.close();
  await rm(directory, { recursive: true, force: true });
});

async function openSpool(
  options: { limits?: Partial<Limits>; files?: SpoolFiles; log?: ReturnType<typeof testLog> } = {},
): Promise<FileSpool> {
  const spool = await openFileSpool({
    directory,
    limits: { ...defaultLimits, ...options.limits },
    log: options.log ?? testLog(),
    ...(options.files === undefined ? {} : { files: options.files }),
  });
  open.push(spool);
  return spool;
}

/** Everything the spool holds from its start. */
async function contents(spool: FileSpool): Promise<SessionRecord[]> {
  const records: SessionRecord[] = [];
  if (spool.start === spool.end) return records;
  for await (const batch of spool.follow(spool.start, new AbortController().signal)) {
    records.push(...batch.records);
    if (batch.next === spool.end) break;
  }
  return records;
}

async function appendDurably(spool: Spool, records: readonly SessionRecord[]): Promise<void> {
  for (const record of records) spool.append(record);
  await spool.durable();
}

function someRecords(from: number, to: number, bytes = "released"): SessionRecord[] {
  return Array.from({ length: to - from }, (_, index) => releasedRecord(1, from + index, bytes));
}

function segmentOn(disk: MemoryDisk): string {
  return [...disk.contents.keys()].find((path) => path.endsWith(".spool"))!;
}

async function segmentPaths(): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.endsWith(".spool")).map((name) => join(directory, name));
}

describe("file spool", () => {
  test("keeps what was durable, in order, over a restart", async () => {
    const first = await openSpool();
    await appendDurably(first, someRecords(0, 5));
    await appendDurably(first, someRecords(5, 9));
    expect(await contents(first)).toEqual(someRecords(0, 9));
    await first.close();
    const second = await openSpool();
    await appendDurably(second, someRecords(9, 12));
    expect(await contents(second)).toEqual(someRecords(0, 12));
  });

  test("callers that overlap share commits", async () => {
    let writes = 0;
    const files = watchWrites(() => void (writes += 1));
    const spool = await openSpool({ files });
    writes = 0;
    await Promise.all(
      someRecords(0, 50).map((record) => {
        spool.append(record);
        return spool.durable();
      }),
    );
    expect(writes).toBe(1);
  });

  test("a follower sees durable records only, and waits for more until it is aborted", async () => {
    const spool = await openSpool();
    const stop = new AbortController();
    const seen: number[] = [];
    const following = (async () => {
      for await (const batch of spool.follow(spool.start, stop.signal)) seen.push(...batch.records.map((r) => r.sequence));
    })();
    spool.append(releasedRecord(1, 0));
    await Promise.resolve();
    expect(seen).toEqual([]);
    await spool.durable();
    await expect.poll(() => seen).toEqual([0]);
    await appendDurably(spool, someRecords(1, 4));
    await expect.poll(() => seen).toEqual([0, 1, 2, 3]);
    stop.abort();
    await following;
  });

  test("without anybody asking, a record is durable within a second", async () => {
    const spool = await openSpool();
    spool.append(releasedRecord(1, 0));
    await expect.poll(() => spool.end, { timeout: 1_000 }).toBeGreaterThan(0);
  });

  test("large records go through several segments and come back from the files", async () => {
    const limits = { spoolBytesMax: 2 * 1024 * 1024, spoolRecentBytesMax: 1 };
    const spool = await openSpool({ limits });
    const big = "x".repeat(20_000);
    for (let at = 0; at < 40; at += 4) await appendDurably(spool, someRecords(at, at + 4, big));
    expect((await segmentPaths()).length).toBeGreaterThan(2);
    expect(await contents(spool)).toEqual(someRecords(0, 40, big));
    await spool.close();
    expect(await contents(await openSpool({ limits }))).toEqual(someRecords(0, 40, big));
  });

  test("trim deletes whole files and moves the start, also over a restart", async () => {
    const limits = { spoolBytesMax: 512 * 1024 };
    const spool = await openSpool({ limits });
    const big = "x".repeat(10_000);
    const ends: number[] = [];
    for (let at = 0; at < 16; at++) {
      await appendDurably(spool, someRecords(at, at + 1, big));
      ends.push(spool.end);
    }
    const before = (await segmentPaths()).length;
    await spool.trim(ends[12]!);
    expect((await segmentPaths()).length).toBeLessThan(before);
    expect(await contents(spool)).toEqual(someRecords(13, 16, big));
    await spool.close();
    expect(await contents(await openSpool({ limits }))).toEqual(someRecords(13, 16, big));
  });

  test("drained resolves once everything appended before was trimmed", async () => {
    const spool = await openSpool();
    await spool.drained();
    for (const record of someRecords(0, 3)) spool.append(record);
    let drained = false;
    const draining = spool.drained().then(() => void (drained = true));
    await spool.durable();
    await appendDurably(spool, someRecords(3, 4));
    expect(drained).toBe(false);
    await spool.trim(spool.end);
    await draining;
    expect(drained).toBe(true);
  });

  test("full means no, and room made by trimming means yes again", async () => {
    const spool = await openSpool({ limits: { spoolBytesMax: 64 * 1024 } });
    let next = 0;
    const fill = (): void => {
      for (;;) spool.append(releasedRecord(1, next++, "x".repeat(4_000)));
    };
    expect(fill).toThrow(/spool is full/);
    expect(next).toBeGreaterThan(10);
    const drained = spool.drained();
    await expect.poll(() => spool.end).toBeGreaterThan(0);
    expect(fill).toThrow(/spool is full/);
    await spool.trim(spool.end);
    await drained;
    await appendDurably(spool, [releasedRecord(1, next, "again")]);
    expect(await contents(spool)).toEqual([releasedRecord(1, next, "again")]);
  });

  test("a caller that is faster than whoever empties the spool is slowed, not refused", async () => {
    const spool = await openSpool({ limits: { spoolBytesMax: 1024 * 1024 } });
    const stop = new AbortController();
    const emptying = (async () => {
      for await (const batch of spool.follow(spool.start, stop.signal)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        await spool.trim(batch.next);
      }
    })();
    for (let sequence = 0; sequence < 40; sequence++)
      await appendDurably(spool, [releasedRecord(1, sequence, "x".repeat(50_000))]);
    await spool.drained();
    stop.abort();
    await emptying;
  });

  test("says that it is crowded from half full until it was emptied", async () => {
    const spool = await openSpool({ limits: { spoolBytesMax: 100_000 } });
    await appendDurably(spool, [releasedRecord(1, 0, "x".repeat(40_000))]);
    expect(spool.crowded).toBe(false);
    spool.append(releasedRecord(1, 1, "x".repeat(20_000)));
    expect(spool.crowded).toBe(true);
    await spool.durable();
    expect(spool.crowded).toBe(true);
    await spool.trim(spool.end);
    expect(spool.crowded).toBe(false);
  });

  test("says that it is crowded while the disk is far behind", async () => {
    const spool = await openSpool({ limits: { spoolQueueBytesMax: 20_000 } });
    spool.append(releasedRecord(1, 0, Buffer.alloc(8_000)));
    expect(spool.crowded).toBe(false);
    spool.append(releasedRecord(1, 1, Buffer.alloc(8_000)));
    expect(spool.crowded).toBe(true);
    await spool.durable();
    expect(spool.crowded).toBe(false);
  });

  test("an over-long record and an over-long queue are refused", async () => {
    const spool = await openSpool({ limits: { spoolRecordBytesMax: 1_000, spoolQueueBytesMax: 2_000 } });
    expect(() => spool.append(releasedRecord(1, 0, "x".repeat(1_000)))).toThrow(/larger than the spool accepts/);
    expect(() => someRecords(0, 9, "x".repeat(500)).forEach((record) => spool.append(record))).toThrow(/cannot keep up/);
    await spool.durable();
    expect((await contents(spool)).length).toBe(3);
  });
});

describe("file spool after a crash", () => {
  test("cut at every byte of the last commit: earlier commits stay, the rest is a prefix", async () => {
    const disk = memoryDisk();
    const spool = await openSpool({ files: disk });
    await appendDurably(spool, someRecords(0, 3));
    const safeBytes = spool.end + SEGMENT_HEADER_BYTES;
    await appendDurably(spool, someRecords(3, 5));
    await spool.close();
    const path = segmentOn(disk);
    const whole = disk.contents.get(path)!;
    const firstRecordEnd = safeBytes + GROUP_HEADER_BYTES + (whole.length - safeBytes - GROUP_HEADER_BYTES) / 2;
    for (let length = safeBytes; length < whole.length; length++) {
      const cut = memoryDisk(disk.contents);
      cut.contents.set(path, Buffer.from(whole.subarray(0, length)));
      const log = testLog();
      const reopened = await openSpool({ files: cut, log });
      const kept = length < firstRecordEnd ? 3 : 4;
      expect(await contents(reopened)).toEqual(someRecords(0, kept));
      expect(log.sentences.length).toBe(length === safeBytes ? 0 : 1);
      await appendDurably(reopened, someRecords(kept, kept + 1));
      await reopened.close();
      expect(await contents(await openSpool({ files: cut }))).toEqual(someRecords(0, kept + 1));
    }
  });

  test("a flipped byte before the last commit refuses to open; in the last commit it is a torn tail", async () => {
    const disk = memoryDisk();
    const spool = await openSpool({ files: disk });
    for (let at = 0; at < 3; at++) await appendDurably(spool, someRecords(at, at + 1));
    await spool.close();
    const path = segmentOn(disk);
    const lastCommitBytes = (disk.contents.get(path)!.length - SEGMENT_HEADER_BYTES) / 3;
    for (let at = 0; at < disk.contents.get(path)!.length; at++) {
      const damaged = memoryDisk(disk.contents);
      const bytes = damaged.contents.get(path)!;
      bytes[at] = bytes[at]! ^ 0x10;
      if (at < bytes.length - lastCommitBytes)
        await expect(openSpool({ files: damaged }), `byte ${at}`).rejects.toMatchObject({ code: "recording_unavailable" });
      else expect(await contents(await openSpool({ files: damaged }))).toEqual(someRecords(0, 2));
    }
  });

  test("a missing file in the middle refuses to open", async () => {
    const limits = { spoolBytesMax: 256 * 1024 };
    const spool = await openSpool({ limits });
    for (let at = 0; at < 12; at++) await appendDurably(spool, someRecords(at, at + 1, "x".repeat(9_000)));
    await spool.close();
    const paths = await segmentPaths();
    expect(paths.length).toBeGreaterThan(2);
    await rm(paths.sort()[1]!);
    await expect(openSpool({ limits })).rejects.toThrow(/are missing/);
  });

  test("a file whose creation never finished is made anew", async () => {
    const spool = await openSpool();
    await spool.close();
    const [path] = await segmentPaths();
    await truncate(path!, 10);
    const reopened = await openSpool();
    await appendDurably(reopened, someRecords(0, 2));
    expect(await contents(reopened)).toEqual(someRecords(0, 2));
  });

  test("a killed process leaves every record that was acknowledged", async () => {
    const child = spawn(process.execPath, [new URL("appending-process.test-fixture.ts", import.meta.url).pathname, directory], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const acknowledged = await acknowledgedBeforeKill(child, 150);
    const records = await contents(await openSpool());
    expect(acknowledged).toBeGreaterThanOrEqual(150);
    expect(records.length).toBeGreaterThan(acknowledged); // sequences count from 0
    expect(records.map((record) => record.sequence)).toEqual(records.map((_, index) => index));
    expect(records.every((record) => record.sessionId === testSessionId(7))).toBe(true);
  });
});

describe("file spool on a broken disk", () => {
  test("a failed write fails everything from then on, with a sentence, and leaves what was durable", async () => {
    let broken = false;
    const files = watchWrites(() => {
      if (broken) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    });
    const spool = await openSpool({ files });
    await appendDurably(spool, someRecords(0, 2));
    broken = true;
    spool.append(releasedRecord(1, 2));
    const failure = { code: "recording_unavailable", message: expect.stringContaining("disk") as string };
    await expect(spool.durable()).rejects.toMatchObject(failure);
    broken = false;
    await expect(spool.durable()).rejects.toMatchObject(failure);
    expect(() => spool.append(releasedRecord(1, 3))).toThrow(/full/);
    expect(spool.failure).toMatchObject(failure);
    expect(await contents(spool)).toEqual(someRecords(0, 2));
  });
});

/** The real disk, with a look at each commit before it is made. */
function watchWrites(onWrite: () => void): SpoolFiles {
  return {
    ...diskFiles,
    open: async (path, mode) => {
      const file = await diskFiles.open(path, mode);
      if (mode !== "durable") return file;
      return {
        ...file,
        write: async (pieces, offset) => {
          onWrite();
          await file.write(pieces, offset);
        },
      };
    },
  };
}

/** The last sequence the child printed (each after `durable()`); kills it once `count` were printed. */
async function acknowledgedBeforeKill(child: ChildProcess, count: number): Promise<number> {
  let text = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    if (text.split("\n").length > count + 1) child.kill("SIGKILL");
  });
  await new Promise((resolve) => child.once("close", resolve));
  return Number(text.slice(0, text.lastIndexOf("\n")).split("\n").at(-1));
}
