import { cp, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { RecordSource } from "@sluice/events/bus.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { diskFiles, type SpoolFiles } from "@sluice/events/spool/file-layer.ts";
import { closedRecord, openedRecord, releasedRecord, testLog, testSessionId } from "@sluice/events/testing.ts";
import type { ReplayItem } from "@sluice/rpc/recordings.ts";
import { parsePublicKeys } from "./format/checkpoint.ts";
import { verifyRecording } from "./format/verify.ts";
import { openRecorder, type Recorder } from "./recorder.ts";

const clock: Clock = { nowMs: () => 1_000, monotonicMs: () => 0 };
let directory: string;
let log: ReturnType<typeof testLog>;
const open: Recorder[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-recorder-"));
  log = testLog();
});

afterEach(async () => {
  for (const recorder of open.splice(0)) await recorder.close();
  await rm(directory, { recursive: true, force: true });
});

async function openIt(options: { files?: SpoolFiles; limits?: Partial<Limits>; at?: string } = {}): Promise<Recorder> {
  const recorder = await openRecorder({
    directory: options.at ?? directory,
    clock,
    log,
    limits: { ...defaultLimits, ...options.limits },
    ...(options.files === undefined ? {} : { files: options.files }),
  });
  open.push(recorder);
  return recorder;
}

const session = (number: number): SessionRecord[] => [
  openedRecord(number),
  releasedRecord(number, 1, notice("one")),
  releasedRecord(number, 2, notice("two")),
  closedRecord(number, 3),
];

/** A NoticeResponse with a message, as the caller would have received it. */
function notice(message: string): Buffer {
  const body = Buffer.from(`SNOTICE\0M${message}\0\0`);
  const head = Buffer.alloc(5);
  head.write("N");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

async function replayed(recorder: Recorder, number: number): Promise<ReplayItem[]> {
  const items: ReplayItem[] = [];
  for await (const item of recorder.reader.replay(testSessionId(number))) items.push(item);
  return items;
}

const openFile = (number: number): string => join(directory, "open", `${testSessionId(number)}.slr`);

describe("recorder", () => {
  test("keeps sessions apart, replays and verifies them", async () => {
    const recorder = await openIt();
    const [a, b] = [session(1), session(2)];
    await recorder.consumer.consume([a[0]!, b[0]!, b[1]!, a[1]!]);
    await recorder.consumer.consume([a[2]!, b[2]!, a[3]!]);
    expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ ok: true, state: "complete", records: 4 });
    expect(await recorder.reader.verify(testSessionId(2))).toMatchObject({ ok: false, state: "open", records: 3, faults: [] });
    const items = await replayed(recorder, 1);
    expect(items.map((item) => item.kind)).toEqual(["opened", "notice", "notice", "closed"]);
    expect(items[1]).toEqual({ kind: "notice", atMs: 1_001, fields: { severity: "NOTICE", message: "one" } });
  });

  test("replays a statement that comes again in full, and the endings beside released bytes", async () => {
    const recorder = await openIt();
    const [opened, first, , closed] = session(1);
    const base = { sessionId: testSessionId(1), atMs: 1_005 };
    const decision = { id: "d_1", effect: "allow", rule: "p/r" };
    const whole = { number: 1, phase: "execute" as const, text: "SELECT $1", parameters: ["a"], decision };
    const repeat = { ...whole, number: 2, sameAs: 1, text: "", parameters: ["b"], decision: { id: "d_2", effect: "allow" } };
    const finished = [{ number: 2, ok: true, tag: "SELECT 1", rows: 1 }];
    await recorder.consumer.consume([
      opened!,
      { ...base, sequence: 1, kind: "statement", statement: whole },
      { ...base, sequence: 2, kind: "statement", statement: repeat },
      { ...first!, sequence: 3, finished } as SessionRecord, // a released record, with endings
      { ...closed!, sequence: 4 },
    ]);
    const items = await replayed(recorder, 1);
    expect(items.map((item) => item.kind)).toEqual(["opened", "statement", "statement", "notice", "finished", "closed"]);
    expect(items[2]).toMatchObject({
      statement: { number: 2, text: "SELECT $1", parameters: ["b"], decision: { id: "d_2", effect: "allow", rule: "p/r" } },
    });
    expect(items[4]).toMatchObject({ finished: finished[0] });
  });

  test("what is offered again, also after a restart and after the end, is kept once", async () => {
    const records = session(1);
    const first = await openIt();
    await first.consumer.consume(records.slice(0, 2));
    await first.consumer.consume(records.slice(0, 3));
    await first.close();
    const second = await openIt();
    await second.consumer.consume(records);
    await second.consumer.consume(records);
    await second.close();
    const third = await openIt();
    await third.consumer.consume(records);
    expect(await third.reader.verify(testSessionId(1))).toMatchObject({ ok: true, records: 4, faults: [] });
    expect(log.sentences).toEqual([]);
  });

  test("a gateway writes into no session of another, before and after a restart", async () => {
    const source = (gateway: string, next: number): RecordSource => {
      return { gateway, spoolId: gateway === "gw-1" ? "a".repeat(32) : "b".repeat(32), from: 0, next, kept: 0, runStart: 0 };
    };
    const [opened, one, two, closed] = session(1) as [SessionRecord, SessionRecord, SessionRecord, SessionRecord];
    const first = await openIt();
    await first.consumer.consume([opened, one], { source: source("gw-1", 100) });
    await first.consumer.consume([{ ...closed, sequence: 2 }, openedRecord(2)], { source: source("gw-2", 100) });
    await first.close();
    const second = await openIt();
    await second.consumer.consume([{ ...closed, sequence: 2 }], { source: source("gw-2", 200) });
    await second.consumer.consume([two, closed], { source: source("gw-1", 200) });
    expect(await second.reader.verify(testSessionId(1))).toMatchObject({ ok: true, state: "complete", records: 4, faults: [] });
    expect(await second.reader.verify(testSessionId(2))).toMatchObject({ state: "open", records: 1 });
    expect(log.sentences.filter((sentence) => sentence.includes("of another's session"))).toHaveLength(2);
  });

  test("a gap is logged and shows for ever", async () => {
    const records = session(1);
    const recorder = await openIt();
    await recorder.consumer.consume([records[0]!, records[2]!, records[3]!]);
    expect(log.sentences).toEqual([expect.stringContaining("Records 1 to 1 of the session never arrived.") as string]);
    expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ ok: false, faults: ["Records 1 to 1 are missing."] });
    expect((await replayed(recorder, 1)).map((item) => item.kind)).toEqual(["opened", "alert", "notice", "closed"]);
  });

  test("what comes after the end is not kept, and is logged", async () => {
    const recorder = await openIt();
    await recorder.consumer.consume([...session(1), releasedRecord(1, 4)]);
    await recorder.consumer.consume([releasedRecord(1, 5)]);
    expect(log.sentences.length).toBe(2);
    expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ ok: true, records: 4 });
  });

  test("more sessions than files may be open", async () => {
    const recorder = await openIt({ limits: { recordingOpenFilesMax: 3 } });
    const sessions = Array.from({ length: 10 }, (_, number) => session(number));
    for (let at = 0; at < 4; at++) await recorder.consumer.consume(sessions.map((records) => records[at]!));
    for (let number = 0; number < 10; number++)
      expect(await recorder.reader.verify(testSessionId(number))).toMatchObject({ ok: true, records: 4 });
    expect(await readdir(join(directory, "open"))).toEqual([]);
  });

  test("an unknown or misshapen session is not found", async () => {
    const recorder = await openIt();
    await expect(recorder.reader.verify(testSessionId(9))).rejects.toMatchObject({ code: "not_found" });
    await expect(replayed(recorder, 9)).rejects.toMatchObject({ code: "not_found" });
    const outside = "../keys/signing" as ReturnType<typeof testSessionId>; // what an unchecked caller might pass
    await expect(recorder.reader.verify(outside)).rejects.toMatchObject({ code: "not_found" });
  });

  test("the key is made once, private to its user, and its public half is enough to verify a file", async () => {
    const first = await openIt();
    await first.consumer.consume(session(1));
    await first.close();
    const second = await openIt();
    expect(second.publicKeys.map((key) => key.export({ format: "jwk" }))).toEqual(
      first.publicKeys.map((key) => key.export({ format: "jwk" })),
    );
    expect((await stat(join(directory, "keys", "signing.pem"))).mode & 0o777).toBe(0o600);
    const publicName = (await readdir(join(directory, "keys"))).find((name) => name.endsWith(".pub.pem"))!;
    const keys = parsePublicKeys(await readFile(join(directory, "keys", publicName), "utf8"));
    const file = (await readdir(directory, { recursive: true })).find((name) => name.endsWith(".slr"))!;
    const bytes = await readFile(join(directory, file));
    expect(await verifyRecording([bytes], keys)).toMatchObject({ ok: true, sessionId: testSessionId(1) });
  });

  test("a key that is none is refused without quoting it", async () => {
    await (await openIt()).close();
    await writeFile(join(directory, "keys", "signing.pem"), "SECRET");
    const failure: unknown = await openIt().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "config_invalid" });
    expect(inspect(failure)).not.toContain("SECRET");
  });
});

describe("recorder after a crash", () => {
  test("cut at every byte of the last write, it takes up and ends whole", async () => {
    const records = session(1);
    const recorder = await openIt();
    await recorder.consumer.consume(records.slice(0, 2));
    const safeBytes = (await stat(openFile(1))).size;
    await recorder.consumer.consume(records.slice(2, 3));
    const wholeBytes = (await stat(openFile(1))).size;
    await recorder.close();
    for (let length = safeBytes; length < wholeBytes; length += 7) {
      const copy = `${directory}-cut`;
      await cp(directory, copy, { recursive: true });
      await truncate(openFile(1).replace(directory, copy), length);
      const again = await openIt({ at: copy });
      expect(await again.reader.verify(testSessionId(1))).toMatchObject({ state: "open", records: 2, faults: [] });
      await again.consumer.consume(records.slice(1));
      expect(await again.reader.verify(testSessionId(1))).toMatchObject({ ok: true, records: 4 });
      await again.close();
      await rm(copy, { recursive: true });
    }
    expect(log.sentences).toEqual([]);
  });

  test("with the closing checkpoint cut off, it is added", async () => {
    const recorder = await openIt();
    await recorder.consumer.consume(session(1).slice(0, 3));
    await recorder.close();
    const before = await readFile(openFile(1));
    const second = await openIt();
    await second.consumer.consume(session(1).slice(3));
    await second.close();
    const file = (await readdir(directory, { recursive: true })).find((name) => name.endsWith(".slr"))!;
    const whole = await readFile(join(directory, file));
    await rm(join(directory, file));
    const checkpointBytes = 64 + 105 + 32;
    await writeFile(openFile(1), whole.subarray(0, whole.length - checkpointBytes));
    const third = await openIt();
    expect(await third.reader.verify(testSessionId(1))).toMatchObject({ ok: true, records: 4 });
    expect(whole.subarray(0, before.length)).toEqual(before);
  });

  test("an open recording that was changed is set aside, and what follows says what is missing", async () => {
    const recorder = await openIt();
    await recorder.consumer.consume(session(1).slice(0, 2));
    await recorder.consumer.consume(session(1).slice(2, 3));
    await recorder.close();
    const bytes = await readFile(openFile(1));
    bytes[200] = bytes[200]! ^ 1;
    await writeFile(openFile(1), bytes);
    const again = await openIt();
    expect(log.sentences).toEqual([expect.stringContaining("was changed") as string]);
    expect(await readdir(join(directory, "open"))).toEqual([`${testSessionId(1)}.damaged-1`]);
    await again.consumer.consume(session(1).slice(3));
    expect(await again.reader.verify(testSessionId(1))).toMatchObject({ ok: false, faults: ["Records 0 to 2 are missing."] });
  });
});

describe("recorder on a broken disk", () => {
  test("a failed write is not acknowledged, and nothing is twice or missing when the disk is well again", async () => {
    let broken = false;
    const recorder = await openIt({ files: breakable(() => broken) });
    await recorder.consumer.consume(session(1).slice(0, 1));
    broken = true;
    await expect(recorder.consumer.consume([...session(1).slice(0, 3), ...session(2)])).rejects.toThrow("no space");
    broken = false;
    await recorder.consumer.consume([...session(1).slice(0, 3), ...session(2)]);
    await recorder.consumer.consume(session(1).slice(3));
    expect(await recorder.reader.verify(testSessionId(1))).toMatchObject({ ok: true, records: 4 });
    expect(await recorder.reader.verify(testSessionId(2))).toMatchObject({ ok: true, records: 4 });
  });
});

/** The real disk; while it is broken a write leaves half of its bytes and fails. */
function breakable(broken: () => boolean): SpoolFiles {
  return {
    ...diskFiles,
    open: async (path, mode) => {
      const file = await diskFiles.open(path, mode);
      return {
        ...file,
        write: async (pieces, offset) => {
          const bytes = Buffer.concat([...pieces]);
          if (!broken()) return file.write(pieces, offset);
          await file.write([bytes.subarray(0, bytes.length / 2)], offset);
          throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
        },
      };
    },
  };
}
