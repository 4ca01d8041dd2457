import { createHash } from "node:crypto";
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { RecordSource } from "@sluice/events/bus.ts";
import { closedRecord, openedRecord, releasedRecord, testLog, testSessionId } from "@sluice/events/testing.ts";
import type { ReplayItem } from "@sluice/rpc/recordings.ts";
import { afterEach, beforeEach, expect, test } from "vitest";
import { verifyRecording } from "./format/verify.ts";
import { openRecorder, type Recorder } from "./recorder.ts";

const hourMs = 3_600_000;
let directory: string;
let nowMs: number;
const open: Recorder[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-lost-"));
  nowMs = 1_000_000;
});

afterEach(async () => {
  for (const recorder of open.splice(0)) await recorder.close();
  await rm(directory, { recursive: true, force: true });
});

async function openIt(): Promise<Recorder> {
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const recorder = await openRecorder({ directory, clock, log: testLog(), limits: defaultLimits });
  open.push(recorder);
  return recorder;
}

const source = (from: number, next: number, runStart: number, spoolId = "a"): RecordSource => ({
  gateway: "gw-1",
  spoolId,
  from,
  next,
  kept: from,
  runStart,
});

async function closedFiles(): Promise<string[]> {
  const names = await readdir(directory, { recursive: true });
  return names.filter((name) => name.endsWith(".slr") && !name.startsWith("open"));
}

test("a session whose gateway began anew is closed as lost, which is signed and is not complete", async () => {
  const recorder = await openIt();
  await recorder.consumer.consume([openedRecord(1), releasedRecord(1, 1)], { source: source(0, 100, 0) });
  await recorder.consumer.consume([openedRecord(2), closedRecord(2, 1)], { source: source(100, 200, 0) });
  // The gateway was killed at 300 and is back: what it had not sent comes first.
  await recorder.consumer.consume([releasedRecord(1, 2)], { source: source(200, 300, 300) });
  expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ state: "lost", ok: false, records: 3, faults: [] });
  await recorder.consumer.consume([openedRecord(3)], { source: source(300, 400, 300) });
  expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ state: "lost", ok: false, records: 3, faults: [] });
  expect(await recorder.reader.verify(testSessionId(2))).toMatchObject({ state: "complete", ok: true });
  expect(await recorder.reader.verify(testSessionId(3))).toMatchObject({ state: "open", ok: false });
  const items: ReplayItem[] = [];
  for await (const item of recorder.reader.replay(testSessionId(1))) items.push(item);
  expect(items.at(-1)).toEqual({ kind: "closed", atMs: 1_002, closed: { code: "lost" } });
  expect((await closedFiles()).length).toBe(2);
});

test("nothing is lost before everything of the earlier run is here", async () => {
  const recorder = await openIt();
  await recorder.consumer.consume([openedRecord(1)], { source: source(0, 100, 500) });
  await recorder.consumer.consume([releasedRecord(1, 1)], { source: source(100, 400, 500) });
  expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ state: "open" });
  await recorder.consumer.consume([closedRecord(1, 2)], { source: source(400, 500, 500) });
  expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ state: "complete", ok: true, records: 3 });
});

test("the recorder remembers over restarts which session came from where, and how far each spool is", async () => {
  const first = await openIt();
  await first.consumer.consume([openedRecord(1)], { source: source(0, 100, 0) });
  expect(first.placeOf("gw-1", "a")).toBe(100);
  expect(first.placeOf("gw-1", "b")).toBeUndefined();
  await first.close();
  await appendFile(join(directory, "spools.log"), "deadbeef {torn");
  const second = await openIt();
  expect(second.placeOf("gw-1", "a")).toBe(100);
  await second.consumer.consume([openedRecord(2)], { source: source(100, 200, 100) });
  expect(await second.reader.verify(testSessionId(1))).toMatchObject({ state: "lost", faults: [] });
  expect(await second.reader.verify(testSessionId(2))).toMatchObject({ state: "open" });
  await second.close();
  await writeFile(join(directory, "spools.log"), ""); // as when it is lost
  const third = await openIt();
  expect(third.placeOf("gw-1", "a")).toBeUndefined();
  await third.consumer.consume([closedRecord(2, 1)], { source: source(200, 300, 100) });
  expect(await third.reader.verify(testSessionId(2))).toMatchObject({ state: "complete", ok: true });
});

test("a spool that was silent for a day while its gateway uses another is given up, not before", async () => {
  const recorder = await openIt();
  await recorder.consumer.consume([openedRecord(1)], { source: source(0, 100, 0) });
  nowMs += 23 * hourMs;
  await recorder.consumer.consume([openedRecord(2)], { source: source(0, 100, 0, "b") });
  expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ state: "open" });
  nowMs += 2 * hourMs;
  await recorder.consumer.consume([releasedRecord(2, 1)], { source: source(100, 200, 0, "b") });
  expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ state: "lost", faults: [] });
  expect(await recorder.reader.verify(testSessionId(2))).toMatchObject({ state: "open" });
});

// Nine thousand syncs of a disk that others use too.
test("many places are kept in a file that does not grow with them", { timeout: 120_000 }, async () => {
  const recorder = await openIt();
  await recorder.consumer.consume([openedRecord(1)], { source: source(0, 1, 0) });
  const before = (await readFile(join(directory, "spools.log"))).length;
  for (let at = 1; at < 9_000; at++) await recorder.consumer.consume([], { source: source(at, at + 1, 0) });
  expect((await readFile(join(directory, "spools.log"))).length).toBeLessThan(before + 1.1 * 1024 * 1024);
  await recorder.close();
  expect((await openIt()).placeOf("gw-1", "a")).toBe(9_000);
});

test("an end cannot be made of a lost recording, nor a lost one of an end", async () => {
  const recorder = await openIt();
  await recorder.consumer.consume([openedRecord(1)], { source: source(0, 100, 0) });
  await recorder.consumer.consume([openedRecord(2), closedRecord(2, 1)], { source: source(100, 200, 100) });
  for (const file of await closedFiles()) {
    const bytes = await readFile(join(directory, file));
    const report = await verifyRecording([bytes], recorder.publicKeys);
    expect(["lost", "complete"]).toContain(report.state);
    // The last chunk is the checkpoint: its state stands behind the key id. Its hash is made right again, as anybody could.
    const start = bytes.length - 32 - 105;
    bytes[start + 32] = report.state === "lost" ? 2 : 3;
    createHash("sha256")
      .update(bytes.subarray(start - 64, bytes.length - 32))
      .digest()
      .copy(bytes, bytes.length - 32);
    expect(await verifyRecording([bytes], recorder.publicKeys)).toMatchObject({ state: "broken", ok: false });
  }
});
