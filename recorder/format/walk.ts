/**
 * Reads a recording block by block and checks everything that needs no key: the chain of hashes, indices, sequences, counts. Pure: bytes
 * come as an iterable. Never hands out records of a block that does not hash to what stands behind it, and holds one block in memory.
 */
import { promisify } from "node:util";
import { zstdDecompress, type ZstdOptions } from "node:zlib";
import type { SessionId } from "@sluice/core/ids.ts";
import { decodeRecord } from "@sluice/events/spool/record-codec.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import {
  BLOCK_HEAD_BYTES,
  BLOCK_PAYLOAD_BYTES_MAX,
  type BlockHead,
  chainHash,
  decodeBlockHead,
  decodeHeader,
  HASH_BYTES,
  HEADER_BYTES,
  type RecordingHeader,
} from "./layout.ts";

export type ByteSource = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Where a walk stands behind a block. */
export interface WalkPlace {
  readonly sessionId: SessionId;
  /** Blocks so far. */
  readonly blocks: number;
  readonly head: Buffer;
  readonly nextSequence: number;
  /** A `closed` record was read. */
  readonly closed: boolean;
  /** Bytes of the file so far. */
  readonly fileBytes: number;
}

export type WalkStep =
  | { readonly kind: "header"; readonly header: RecordingHeader; readonly after: WalkPlace }
  /** A block that is whole and in its place. `before` is what a checkpoint speaks about. */
  | {
      readonly kind: "block";
      readonly head: BlockHead;
      readonly payload: Buffer;
      readonly records: readonly SessionRecord[];
      /** What is wrong beside the chain (a gap that was noted, for one); the walk goes on. */
      readonly faults: readonly string[];
      readonly before: WalkPlace;
      readonly after: WalkPlace;
    }
  /** The walk ends here. `incomplete`: the file ends within a block, as after a crash. */
  | { readonly kind: "broken"; readonly incomplete: boolean; readonly reason: string };

const decompressAside = promisify<Buffer, ZstdOptions, Buffer>(zstdDecompress);

export interface WalkOptions {
  /**
   * Check hashes and order alone, and leave records packed: a fifth of the work. Then `payload` is as stored, `records` is empty and `closed`
   * is not known: ask `unpackRecords` about the last step with records.
   */
  readonly skim?: boolean;
}

/** Yields the header, then each block; ends after the last whole block, or with a `broken` step. */
export async function* walkRecording(source: ByteSource, options: WalkOptions = {}): AsyncGenerator<WalkStep, void, undefined> {
  const bytes = new Bytes(source);
  try {
    const headerBytes = await bytes.take(HEADER_BYTES);
    const header = decodeHeader(headerBytes);
    if (typeof header === "string") {
      yield { kind: "broken", incomplete: headerBytes.length < HEADER_BYTES, reason: header };
      return;
    }
    let place: WalkPlace = {
      sessionId: header.sessionId,
      blocks: 0,
      head: chainHash(headerBytes),
      nextSequence: 0,
      closed: false,
      fileBytes: HEADER_BYTES,
    };
    yield { kind: "header", header, after: place };
    for (;;) {
      const step = await readBlock(bytes, place, options.skim === true);
      if (step === null) return;
      yield step;
      if (step.kind !== "block") return;
      place = step.after;
    }
  } finally {
    await bytes.close();
  }
}

/** The records of a skimmed step, or in words why there are none. */
export async function unpackRecords(
  step: Extract<WalkStep, { readonly kind: "block" }>,
): Promise<{ readonly records: readonly SessionRecord[]; readonly closed: boolean } | string> {
  const plain = await decompress(step.head, step.payload);
  return plain === null ? "cannot be decompressed" : readRecords(plain, step.before, step.head);
}

async function readBlock(bytes: Bytes, place: WalkPlace, skim: boolean): Promise<WalkStep | null> {
  const broken = (reason: string, incomplete = false): WalkStep => ({
    kind: "broken",
    incomplete,
    reason: `Chunk ${place.blocks} ${reason}.`,
  });
  const headBytes = await bytes.take(BLOCK_HEAD_BYTES);
  if (headBytes.length === 0) return null;
  if (headBytes.length < BLOCK_HEAD_BYTES) return broken("is cut off: the file ends within it", true);
  const head = decodeBlockHead(headBytes);
  if (typeof head === "string") return broken(head);
  const rest = await bytes.take(head.storedBytes + HASH_BYTES);
  if (rest.length < head.storedBytes + HASH_BYTES) return broken("is cut off: the file ends within it", true);
  const payload = rest.subarray(0, head.storedBytes);
  const hash = rest.subarray(head.storedBytes);
  if (!chainHash(headBytes, payload).equals(hash)) return broken("was changed: its hash is wrong");
  if (head.index !== place.blocks) return broken(`is out of its place: it was written as chunk ${head.index}`);
  if (!head.previousHash.equals(place.head))
    return broken("does not follow from what stands before it: a part was changed, removed or moved");
  if (place.closed && head.kind !== "checkpoint") return broken("follows the end of the session");
  const packed = skim && head.kind === "records" && head.firstSequence === place.nextSequence;
  const plain = packed ? payload : await decompress(head, payload);
  if (plain === null) return broken("cannot be decompressed");
  const content = packed
    ? { records: [], faults: [], nextSequence: head.firstSequence + head.records, closed: false }
    : head.kind === "records"
      ? readRecords(plain, place, head)
      : readOther(plain, place, head);
  if (typeof content === "string") return broken(content);
  const fileBytes = place.fileBytes + BLOCK_HEAD_BYTES + rest.length;
  const after: WalkPlace = {
    sessionId: place.sessionId,
    blocks: place.blocks + 1,
    head: Buffer.from(hash),
    nextSequence: content.nextSequence,
    closed: content.closed,
    fileBytes,
  };
  return { kind: "block", head, payload: plain, records: content.records, faults: content.faults, before: place, after };
}

interface Content {
  readonly records: readonly SessionRecord[];
  readonly faults: readonly string[];
  readonly nextSequence: number;
  readonly closed: boolean;
}

function readRecords(plain: Buffer, place: WalkPlace, head: BlockHead): Content | string {
  const records: SessionRecord[] = [];
  const faults: string[] = [];
  let nextSequence = place.nextSequence;
  let closed = false;
  for (let at = 0; at < plain.length; ) {
    const decoded = decodeRecord(plain, at, BLOCK_PAYLOAD_BYTES_MAX);
    if (decoded.kind === "incomplete") return "holds a record that is cut off";
    if (decoded.kind === "corrupt") return `is damaged: ${decoded.reason}`;
    const { record, end } = decoded;
    if (record.sessionId !== place.sessionId) return "holds a record of another session";
    if (record.sequence < nextSequence) return `holds record ${record.sequence} twice or out of order`;
    if (record.sequence > nextSequence) faults.push(`Records ${nextSequence} to ${record.sequence - 1} are missing.`);
    if (closed) return "holds a record behind the end of the session";
    nextSequence = record.sequence + 1;
    closed = record.kind === "closed";
    records.push(record);
    at = end;
  }
  if (records.length !== head.records) return `declares ${head.records} records and holds ${records.length}`;
  if (records[0]?.sequence !== head.firstSequence) return "declares another first record than it holds";
  return { records, faults, nextSequence, closed };
}

function readOther(plain: Buffer, place: WalkPlace, head: BlockHead): Content | string {
  if (head.records !== 0 || head.firstSequence !== place.nextSequence) return "declares records that it does not hold";
  const same = { records: [], faults: [], nextSequence: place.nextSequence, closed: place.closed };
  if (head.kind === "checkpoint") return same;
  const note = parseFault(plain);
  if (note === null || note.expected !== place.nextSequence || note.received <= note.expected)
    return "notes a gap that does not fit the records around it";
  return { ...same, nextSequence: note.received, faults: [`Records ${note.expected} to ${note.received - 1} are missing.`] };
}

function parseFault(plain: Buffer): { readonly expected: number; readonly received: number } | null {
  try {
    const value: unknown = JSON.parse(plain.toString("utf8"));
    if (typeof value !== "object" || value === null || !("expected" in value) || !("received" in value)) return null;
    const { expected, received } = value;
    if (!Number.isSafeInteger(expected) || !Number.isSafeInteger(received)) return null;
    return { expected: expected as number, received: received as number }; // checked in the line above
  } catch {
    return null;
  }
}

async function decompress(head: BlockHead, payload: Buffer): Promise<Buffer | null> {
  if (!head.compressed) return payload.length === head.plainBytes ? payload : null;
  try {
    const bytesMax = Math.max(64, head.plainBytes); // 64: the least Node takes as a chunk
    const plain = await decompressAside(payload, { maxOutputLength: bytesMax, chunkSize: bytesMax });
    return plain.length === head.plainBytes ? plain : null;
  } catch {
    return null;
  }
}

/** Takes bytes off a source in the lengths that are asked for. */
class Bytes {
  readonly #iterator: Iterator<Uint8Array> | AsyncIterator<Uint8Array>;
  #chunks: Buffer[] = [];
  #held = 0;
  #done = false;

  constructor(source: ByteSource) {
    this.#iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** `count` bytes, or what was left when the source ends before. */
  async take(count: number): Promise<Buffer> {
    while (this.#held < count && !this.#done) {
      const next = await this.#iterator.next();
      if (next.done === true) this.#done = true;
      else {
        this.#chunks.push(Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength));
        this.#held += next.value.byteLength;
      }
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#held);
    const taken = all.subarray(0, count);
    const rest = all.subarray(taken.length);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#held = rest.length;
    return taken;
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}
