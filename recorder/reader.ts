/**
 * Reads recordings back: verification with the recorder's own public keys, and replay as items that a page or terminal can show. Never
 * shows what a block holds before its hash was checked, and never reads beyond what is on disk of a recording that is still written.
 */
import type { KeyObject } from "node:crypto";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import { RepeatedStatements } from "@sluice/events/repeated-statements.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { ReleasedDecoder, type ReleasedItem } from "@sluice/inspect/wire/postgres/released.ts";
import type { RecordingReader, ReplayItem } from "@sluice/rpc/recordings.ts";
import { claimsLost } from "./format/checkpoint.ts";
import { verifyRecording } from "./format/verify.ts";
import { walkRecording, type WalkStep } from "./format/walk.ts";
import type { DiskSink } from "./sink/disk.ts";

/** `durableBytes` says how much of an open recording may be read; undefined for one that is not being written. */
export function createReader(
  sink: DiskSink,
  publicKeys: readonly KeyObject[],
  durableBytes: (sessionId: SessionId) => number | undefined,
): RecordingReader {
  const bytesOf = async (sessionId: SessionId): Promise<AsyncIterable<Buffer>> => {
    const located = parseSessionId(sessionId) === undefined ? null : await sink.locate(sessionId);
    const bytesMax = located?.closed === false ? durableBytes(sessionId) : Number.MAX_SAFE_INTEGER;
    if (located === null || bytesMax === 0)
      throw new GatewayError("not_found", "There is no recording of this session.", {
        hint: "List the sessions to see their ids. A session that was opened just now is recorded within a second.",
      });
    // A recording may be moved to its final place between finding and opening it: then it is found there.
    return sink.readMoved(located.path, sessionId, bytesMax ?? Number.MAX_SAFE_INTEGER);
  };
  return {
    replay: (sessionId) => replay(bytesOf(sessionId)),
    verify: async (sessionId) => verifyRecording(await bytesOf(sessionId), publicKeys, sessionId),
  };
}

async function* replay(source: Promise<AsyncIterable<Buffer>>): AsyncGenerator<ReplayItem, void, undefined> {
  const released = new ReleasedDecoder();
  const statements = new RepeatedStatements();
  let atMs = 0;
  for await (const step of walkRecording(await source)) {
    if (step.kind === "header") {
      atMs = step.header.createdMs;
      continue;
    }
    for (const sentence of troubles(step)) yield { kind: "alert", atMs, alert: { code: "recording_damaged", message: sentence } };
    if (step.kind === "broken") return;
    for (const record of step.records) {
      atMs = record.atMs;
      yield* itemsOf(record, released, statements);
    }
    if (step.head.kind === "checkpoint" && !step.before.closed && claimsLost(step.payload))
      yield { kind: "closed", atMs, closed: { code: "lost" } };
  }
}

function troubles(step: Exclude<WalkStep, { kind: "header" }>): readonly string[] {
  return step.kind === "broken" ? [`${step.reason} The replay ends here.`] : step.faults;
}

function* itemsOf(
  record: SessionRecord,
  released: ReleasedDecoder,
  statements: RepeatedStatements,
): Generator<ReplayItem, void, undefined> {
  const { atMs } = record;
  switch (record.kind) {
    case "opened":
      return yield { kind: "opened", atMs, opened: { ...record.opened } };
    case "statement":
      return yield { kind: "statement", atMs, statement: { ...statements.resolve(record.statement) } };
    case "released":
      yield* shown(released.push(record.bytes), atMs);
      return yield* (record.finished ?? []).map(
        (finished): ReplayItem => ({ kind: "finished", atMs, finished: { ...finished } }),
      );
    case "finished":
      return yield { kind: "finished", atMs, finished: { ...record.finished } };
    case "alert":
      return yield { kind: "alert", atMs, alert: { ...record.alert } };
    case "closed":
      return yield { kind: "closed", atMs, closed: { ...record.closed } };
    default:
      return assertNever(record);
  }
}

function* shown(items: readonly ReleasedItem[], atMs: number): Generator<ReplayItem, void, undefined> {
  for (const item of items) {
    switch (item.kind) {
      case "columns":
      case "row":
      case "copy":
      case "complete":
        yield { ...item, atMs };
        break;
      case "error":
      case "notice":
        yield { kind: item.kind, atMs, fields: { ...item.fields } };
        break;
      default:
        assertNever(item);
    }
  }
}
