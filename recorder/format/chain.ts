/**
 * Builds a recording: records in, the bytes to append out. Pure, apart from compression on a helper thread. The state is a value: a caller
 * whose write failed still has the state from before and builds again. Never leaves out a record without a fault block that says so.
 */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdCompressSync, type ZstdOptions } from "node:zlib";
import type { SessionId } from "@sluice/core/ids.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { type EncodedRecord, encodeRecord } from "@sluice/events/spool/record-codec.ts";
import { type Signer, signCheckpoint } from "./checkpoint.ts";
import type { WalkPlace } from "./walk.ts";
import { type BlockKind, chainHash, encodeBlockHead, encodeHeader } from "./layout.ts";

/** How far a recording has come. */
export interface ChainState {
  readonly sessionId: SessionId;
  /** Index of the next block. */
  readonly index: number;
  /** Hash of the last block, or of the header. */
  readonly head: Buffer;
  readonly nextSequence: number;
  /** A `closed` record was written and signed, or the session given up: nothing may follow. */
  readonly closed: boolean;
  /** Record blocks since the last checkpoint. */
  readonly unsignedBlocks: number;
  /** Length of the file. */
  readonly fileBytes: number;
}

export interface Extension {
  readonly pieces: readonly Buffer[];
  readonly state: ChainState;
  /** Gaps that were found, in words. */
  readonly faults: readonly string[];
  /** Records not taken because they came after `closed`. */
  readonly lateRecords: number;
}

/** What a fault block says, as JSON. */
export interface FaultNote {
  readonly expected: number;
  readonly received: number;
  readonly message: string;
}

/** A checkpoint after so many record blocks: a signature costs about 40 µs and 200 bytes. */
const BLOCKS_PER_CHECKPOINT = 16;
/** Below this, compression saves less than it costs. */
const COMPRESS_BYTES_MIN = 256;
/** Above this, compression takes longer than the way to a helper thread and back. */
const COMPRESS_ASIDE_BYTES_MIN = 16 * 1024;
/**
 * Measured on rows of text: zstd's level 1 makes them twelve times smaller at 510 MB/s, zlib's level 1 five times at 300; negative levels
 * are hardly faster. One output chunk for the whole is faster than many of 16 KiB.
 */
const COMPRESSION = { [constants.ZSTD_c_compressionLevel]: 1 };
const compressAside = promisify<Buffer, ZstdOptions, Buffer>(zstdCompress);

/** The first bytes of a new recording and the state behind them. */
export function beginChain(sessionId: SessionId, createdMs: number, signer: Signer): Extension {
  const header = encodeHeader({ sessionId, createdMs, keyId: signer.keyId });
  const state: ChainState = {
    sessionId,
    index: 0,
    head: chainHash(header),
    nextSequence: 0,
    closed: false,
    unsignedBlocks: 0,
    fileBytes: header.length,
  };
  return { pieces: [header], state, faults: [], lateRecords: 0 };
}

/**
 * Extends a recording by records of its session, in order. Records it already has are left out. `chunkBytesMax` bounds a block's records
 * before compression (one record may be larger). `encoded`: the records as bytes, one for one, when somebody has encoded them before.
 */
export async function extendChain(
  from: ChainState,
  records: readonly SessionRecord[],
  signer: Signer,
  chunkBytesMax: number,
  encoded?: readonly EncodedRecord[],
): Promise<Extension> {
  const builder = new Builder(from, signer, chunkBytesMax);
  let lateRecords = 0;
  for (const [index, record] of records.entries()) {
    if (record.sequence < builder.nextSequence) continue;
    if (builder.closed) lateRecords += 1;
    else await builder.add(record, encoded?.[index] ?? encodeRecord(record));
  }
  await builder.flush();
  return { pieces: builder.pieces, state: builder.state, faults: builder.faults, lateRecords };
}

/** Continues from where a walk over the file ended. A recording whose end was written but not signed still wants `sealChain`. */
export function resumeChain(
  place: WalkPlace,
  of: { readonly unsignedBlocks: number; readonly signedClosed: boolean },
): ChainState {
  const { sessionId, blocks, head, nextSequence, fileBytes } = place;
  return { sessionId, index: blocks, head, nextSequence, closed: of.signedClosed, unsignedBlocks: of.unsignedBlocks, fileBytes };
}

/** Adds the closing checkpoint that a crash left out behind a `closed` record. */
export function sealChain(from: ChainState, signer: Signer): Extension {
  const builder = new Builder(from, signer, 0);
  builder.checkpoint("closed");
  return { pieces: builder.pieces, state: builder.state, faults: [], lateRecords: 0 };
}

/** Ends the recording of a session whose gateway is gone: the recorder's signed word that nothing more came, and nothing will be taken. */
export function giveUpChain(from: ChainState, signer: Signer): Extension {
  const builder = new Builder(from, signer, 0);
  builder.checkpoint("lost");
  return { pieces: builder.pieces, state: builder.state, faults: [], lateRecords: 0 };
}

class Builder {
  readonly pieces: Buffer[] = [];
  readonly faults: string[] = [];
  nextSequence: number;
  closed: boolean;
  state: ChainState;
  readonly #durableBlocks: number;
  readonly #signer: Signer;
  readonly #chunkBytesMax: number;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #waitingRecords = 0;

  constructor(state: ChainState, signer: Signer, chunkBytesMax: number) {
    this.state = state;
    this.nextSequence = state.nextSequence;
    this.closed = state.closed;
    this.#durableBlocks = state.index;
    this.#signer = signer;
    this.#chunkBytesMax = chunkBytesMax;
  }

  async add(record: SessionRecord, encoded: EncodedRecord): Promise<void> {
    if (record.sequence > this.nextSequence) await this.#noteGap(record.sequence);
    if (this.#waitingBytes > 0 && this.#waitingBytes + encoded.byteLength > this.#chunkBytesMax) await this.flush();
    this.#waiting.push(encoded.head);
    if (encoded.raw !== null) this.#waiting.push(encoded.raw);
    this.#waitingBytes += encoded.byteLength;
    this.#waitingRecords += 1;
    this.nextSequence = record.sequence + 1;
    if (record.kind === "closed") {
      this.closed = true;
      await this.flush();
      this.checkpoint("closed");
    }
  }

  /** Writes the waiting records as one block. */
  async flush(): Promise<void> {
    if (this.#waitingRecords === 0) return;
    const plainBytes = this.#waitingBytes;
    const records = this.#waitingRecords;
    const stored = await compress(this.#waiting, plainBytes);
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#waitingRecords = 0;
    this.#block("records", stored, { plainBytes, records, nextSequence: this.nextSequence });
    // Behind the last records only the closing one may stand, whatever their number.
    if (!this.closed && this.state.unsignedBlocks >= BLOCKS_PER_CHECKPOINT) this.checkpoint("open");
  }

  async #noteGap(received: number): Promise<void> {
    await this.flush();
    const expected = this.nextSequence;
    const message = `Records ${expected} to ${received - 1} of the session never arrived.`;
    const note: FaultNote = { expected, received, message };
    this.faults.push(message);
    const payload = Buffer.from(JSON.stringify(note));
    this.#block("fault", payload, { plainBytes: payload.length, records: 0, nextSequence: received });
    this.nextSequence = received;
  }

  checkpoint(state: "open" | "closed" | "lost"): void {
    const { sessionId, index, head } = this.state;
    const payload = signCheckpoint({ sessionId, index, nextSequence: this.nextSequence, head, state }, this.#signer);
    this.#block("checkpoint", payload, { plainBytes: payload.length, records: 0, nextSequence: this.nextSequence });
    this.state = { ...this.state, closed: state !== "open" };
  }

  #block(
    kind: BlockKind,
    payload: Buffer,
    of: { readonly plainBytes: number; readonly records: number; readonly nextSequence: number },
  ): void {
    const head = encodeBlockHead({
      kind,
      compressed: payload.length < of.plainBytes,
      index: this.state.index,
      firstSequence: this.state.nextSequence,
      records: of.records,
      storedBytes: payload.length,
      plainBytes: of.plainBytes,
      durableBlocks: this.#durableBlocks,
      previousHash: this.state.head,
    });
    const hash = chainHash(head, payload);
    this.pieces.push(head, payload, hash);
    this.state = {
      ...this.state,
      index: this.state.index + 1,
      head: hash,
      nextSequence: of.nextSequence,
      unsignedBlocks: kind === "checkpoint" ? 0 : this.state.unsignedBlocks + 1,
      fileBytes: this.state.fileBytes + head.length + payload.length + hash.length,
    };
  }
}

/** The shorter of the two forms; a reader knows by the lengths which it is. */
async function compress(pieces: readonly Buffer[], bytes: number): Promise<Buffer> {
  if (bytes < COMPRESS_BYTES_MIN) return Buffer.concat(pieces, bytes);
  const options = { params: COMPRESSION, chunkSize: Math.max(1_024, bytes >> 3) };
  if (bytes < COMPRESS_ASIDE_BYTES_MIN) {
    const plain = Buffer.concat(pieces, bytes);
    const compressed = zstdCompressSync(plain, options);
    return compressed.length < bytes ? compressed : plain;
  }
  const scratch = takeScratch(bytes);
  const plain = join(pieces, scratch, bytes);
  const compressed = await compressAside(plain, options);
  if (compressed.length >= bytes) return plain; // it lives on in the block, so it is not given back
  giveBack(scratch);
  return compressed;
}

/**
 * Memory in which records are put side by side to be compressed. Used again: a fresh mebibyte for each block makes the collector run
 * several times a second under bulk reads.
 */
const spare: Buffer[] = [];
/** As many as the recorder compresses at a time; larger ones are left to the collector. */
const SPARE_MAX = 2;
const SPARE_BYTES_MAX = 2 * 1024 * 1024;

function takeScratch(bytes: number): Buffer {
  const known = spare.pop();
  return known !== undefined && known.length >= bytes ? known : Buffer.allocUnsafeSlow(Math.max(bytes, 64 * 1024));
}

function giveBack(scratch: Buffer): void {
  if (spare.length < SPARE_MAX && scratch.length <= SPARE_BYTES_MAX) spare.push(scratch);
}

function join(pieces: readonly Buffer[], into: Buffer, bytes: number): Buffer {
  let at = 0;
  for (const piece of pieces) at += piece.copy(into, at);
  return into.subarray(0, bytes);
}
