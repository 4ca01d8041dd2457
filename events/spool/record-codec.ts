/**
 * Session records as bytes and back, for the spool and for recordings. Pure. Never hands out a record whose checksum is wrong, and
 * never copies released bytes. Layout (big-endian), described in docs/reference/recording-format.md:
 *
 *   u32 length of what follows the checksum | u32 CRC-32 of it | u8 version | u8 zero | u32 length of head | head (JSON) | raw bytes
 *
 * Raw bytes exist for `released` only; everything else is in the head.
 */
import { crc32 } from "node:zlib";
import { parseSessionId } from "@sluice/core/ids.ts";
import type { Slab, Slabs } from "@sluice/core/slabs.ts";
import type { SessionRecord, StatementFinished } from "../session-events.ts";

/**
 * One record ready to be written: `head`, then `raw` where there is one. `raw` is the record's own buffer, not a copy; of a record that was
 * read back or encoded into a slab, `head` is all of it.
 */
export interface EncodedRecord {
  readonly head: Buffer;
  readonly raw: Buffer | null;
  readonly byteLength: number;
}

/** What `decodeRecord` found at an offset. `end` is where the next record begins; `bytes` of a released record views the input. */
export type DecodedRecord =
  | { readonly kind: "record"; readonly record: SessionRecord; readonly end: number }
  | { readonly kind: "incomplete" }
  | { readonly kind: "corrupt"; readonly reason: string };

const CODEC_VERSION = 1;
const FRAME_BYTES = 8;
const PREFIX_BYTES = FRAME_BYTES + 6;

/** Encodes one record. Throws TypeError when a field cannot be JSON (a BigInt, a cycle). */
export function encodeRecord(record: SessionRecord): EncodedRecord {
  const text = record.kind === "released" ? releasedHead(record) : JSON.stringify(record);
  const raw = record.kind === "released" ? record.bytes : null;
  const headBytes = Buffer.byteLength(text);
  const head = Buffer.allocUnsafe(PREFIX_BYTES + headBytes);
  head.writeUInt32BE(PREFIX_BYTES - FRAME_BYTES + headBytes + (raw?.length ?? 0), 0);
  head[FRAME_BYTES] = CODEC_VERSION;
  head[FRAME_BYTES + 1] = 0;
  head.writeUInt32BE(headBytes, FRAME_BYTES + 2);
  head.write(text, PREFIX_BYTES, "utf8");
  const headCrc = crc32(head.subarray(FRAME_BYTES));
  head.writeUInt32BE(raw === null ? headCrc : crc32(raw, headCrc), 4);
  return { head, raw, byteLength: head.length + (raw?.length ?? 0) };
}

/** A record as bytes in a slab, which is held for it. */
export interface SlabRecord {
  readonly record: SessionRecord;
  readonly encoded: EncodedRecord;
  readonly slab: Slab;
}

export type ReleasedRecord = Extract<SessionRecord, { readonly kind: "released" }>;

/**
 * Encodes one record into a slab: of what it is given nothing is kept. The bytes of a released record are `pieces`, one behind the
 * other, and the record handed back views them there. Throws TypeError when a field cannot be JSON.
 */
export function encodeIntoSlab(
  slabs: Slabs,
  record: SessionRecord | Omit<ReleasedRecord, "bytes">,
  pieces: readonly Buffer[],
): SlabRecord {
  const text = record.kind === "released" ? releasedHead(record) : JSON.stringify(record);
  const headBytes = Buffer.byteLength(text);
  let byteLength = PREFIX_BYTES + headBytes;
  for (const piece of pieces) byteLength += piece.length;
  const { slab, start } = slabs.room(byteLength);
  const head = slab.memory.subarray(start, start + byteLength);
  head.writeUInt32BE(byteLength - FRAME_BYTES, 0);
  head[FRAME_BYTES] = CODEC_VERSION;
  head[FRAME_BYTES + 1] = 0;
  head.writeUInt32BE(headBytes, FRAME_BYTES + 2);
  head.write(text, PREFIX_BYTES, "utf8");
  let at = PREFIX_BYTES + headBytes;
  for (const piece of pieces) at += piece.copy(head, at);
  head.writeUInt32BE(crc32(head.subarray(FRAME_BYTES)), 4);
  const encoded: EncodedRecord = { head, raw: null, byteLength };
  if (record.kind !== "released") return { record, encoded, slab };
  return { record: { ...record, bytes: head.subarray(PREFIX_BYTES + headBytes) }, encoded, slab };
}

function releasedHead({ sessionId, sequence, atMs, finished }: Omit<ReleasedRecord, "bytes">): string {
  const ended = finished === undefined ? "" : `,"finished":${JSON.stringify(finished)}`;
  return `{"sessionId":${JSON.stringify(sessionId)},"sequence":${sequence},"atMs":${atMs},"kind":"released"${ended}}`;
}

/**
 * Checks the frame that begins at `at` without building the record. Returns where it ends, or why it is none.
 * `recordBytesMax` bounds the declared length before anything is trusted.
 */
export function checkRecordFrame(
  source: Buffer,
  at: number,
  recordBytesMax: number,
): { readonly kind: "whole"; readonly end: number } | Exclude<DecodedRecord, { kind: "record" }> {
  if (source.length - at < FRAME_BYTES) return { kind: "incomplete" };
  const length = source.readUInt32BE(at);
  if (length < PREFIX_BYTES - FRAME_BYTES || length + FRAME_BYTES > recordBytesMax)
    return { kind: "corrupt", reason: "a record declares an impossible length" };
  const end = at + FRAME_BYTES + length;
  if (end > source.length) return { kind: "incomplete" };
  if (crc32(source.subarray(at + FRAME_BYTES, end)) !== source.readUInt32BE(at + 4))
    return { kind: "corrupt", reason: "a record's checksum is wrong" };
  return { kind: "whole", end };
}

/** Decodes the record that begins at `at`. */
export function decodeRecord(source: Buffer, at: number, recordBytesMax: number): DecodedRecord {
  const frame = checkRecordFrame(source, at, recordBytesMax);
  if (frame.kind !== "whole") return frame;
  const version = source[at + FRAME_BYTES];
  if (version !== CODEC_VERSION || source[at + FRAME_BYTES + 1] !== 0)
    return { kind: "corrupt", reason: `a record has version ${version}, which this build does not know` };
  const headEnd = at + PREFIX_BYTES + source.readUInt32BE(at + FRAME_BYTES + 2);
  if (headEnd > frame.end) return { kind: "corrupt", reason: "a record's head is longer than the record" };
  const record = parseHead(source.toString("utf8", at + PREFIX_BYTES, headEnd), source.subarray(headEnd, frame.end));
  if (record === null) return { kind: "corrupt", reason: "a record's head does not have the shape of a session record" };
  return { kind: "record", record, end: frame.end };
}

/** Which member holds the body, by kind. `released` has its bytes beside the head. */
const bodyMembers: ReadonlyMap<unknown, string> = new Map([
  ["opened", "opened"],
  ["statement", "statement"],
  ["finished", "finished"],
  ["alert", "alert"],
  ["closed", "closed"],
]);

function parseHead(text: string, raw: Buffer): SessionRecord | null {
  const head = parseObject(text);
  if (head === null) return null;
  const sessionId = typeof head["sessionId"] === "string" ? parseSessionId(head["sessionId"]) : undefined;
  const { sequence, atMs, kind } = head as { sequence: unknown; atMs: unknown; kind: unknown }; // members are checked below
  if (sessionId === undefined || !Number.isSafeInteger(sequence) || (sequence as number) < 0) return null;
  if (typeof atMs !== "number") return null;
  const base = { sessionId, sequence: sequence as number, atMs };
  if (kind === "released") {
    const { finished } = head as { finished?: readonly StatementFinished[] }; // written by encodeRecord and checksummed
    if (finished === undefined) return { ...base, kind, bytes: raw };
    return Array.isArray(finished) ? { ...base, kind, bytes: raw, finished } : null;
  }
  const member = bodyMembers.get(kind);
  if (member === undefined || raw.length !== 0) return null;
  if (typeof head[member] !== "object" || head[member] === null) return null;
  return head as unknown as SessionRecord; // written by encodeRecord and checksummed; the outer shape was checked above
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null; // any object has string keys
  } catch {
    return null;
  }
}
