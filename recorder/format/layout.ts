/**
 * Layout of a recording: a header, then blocks, each chained to the one before by SHA-256. Pure. Big-endian throughout; described for
 * auditors in docs/reference/recording-format.md, which changes together with this file.
 *
 *   header, 88 bytes: "SLUICERC" | u32 version | u32 header length | f64 created, ms since the epoch | 32 bytes key id
 *                     | u8 length of the session id | 31 bytes session id, zero-padded
 *   block:            64 bytes head | payload | 32 bytes SHA-256 of head and payload
 *   block head:       "SB" | u8 kind | u8 encoding | u32 index | u64 first sequence | u32 records | u32 payload length
 *                     | u32 payload length before compression | u32 durable blocks | 32 bytes hash of the block before (the header's for
 *                     the first). "Durable blocks" says how many were on disk when this one was written.
 */
import { createHash } from "node:crypto";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";

export interface RecordingHeader {
  readonly sessionId: SessionId;
  /** Milliseconds since the epoch. */
  readonly createdMs: number;
  /** SHA-256 of the public key (SPKI, DER) that was the recorder's when the recording began. */
  readonly keyId: Buffer;
}

export type BlockKind = "records" | "checkpoint" | "fault";

export interface BlockHead {
  readonly kind: BlockKind;
  readonly compressed: boolean;
  /** Counts all blocks from 0. */
  readonly index: number;
  /** Sequence of the first record; for other kinds the sequence that is expected next. */
  readonly firstSequence: number;
  readonly records: number;
  /** Payload as stored and before compression. */
  readonly storedBytes: number;
  readonly plainBytes: number;
  /** Blocks that were on disk before this one was written: damage among them is no crash. */
  readonly durableBlocks: number;
  readonly previousHash: Buffer;
}

export const HEADER_BYTES = 88;
export const BLOCK_HEAD_BYTES = 64;
export const HASH_BYTES = 32;
/** Bounds what a reader allocates. Well above a chunk plus the largest record that a spool accepts. */
export const BLOCK_PAYLOAD_BYTES_MAX: number = 64 * 1024 * 1024;

export const BLOCK_MAGIC: Buffer = Buffer.from("SB", "latin1");

/** How a payload is compressed, in a block's head: one zstd frame. 0: not at all. */
const ZSTD = 2;
const MAGIC = Buffer.from("SLUICERC", "latin1");
const VERSION = 1;
const CREATED_AT = 16;
const KEY_ID_AT = 24;
const ID_LENGTH_AT = KEY_ID_AT + HASH_BYTES;
const ID_BYTES_MAX = HEADER_BYTES - ID_LENGTH_AT - 1;
const PREVIOUS_AT = BLOCK_HEAD_BYTES - HASH_BYTES;
const kinds: readonly (BlockKind | null)[] = [null, "records", "checkpoint", "fault"];

export function encodeHeader(header: RecordingHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt32BE(VERSION, 8);
  bytes.writeUInt32BE(HEADER_BYTES, 12);
  bytes.writeDoubleBE(header.createdMs, CREATED_AT);
  header.keyId.copy(bytes, KEY_ID_AT, 0, HASH_BYTES);
  bytes[ID_LENGTH_AT] = header.sessionId.length;
  bytes.write(header.sessionId, ID_LENGTH_AT + 1, "latin1");
  return bytes;
}

/** Returns the header, or in words why there is none. That it is the original is proven by the chain, which begins with its hash. */
export function decodeHeader(bytes: Buffer): RecordingHeader | string {
  if (bytes.length < HEADER_BYTES) return "The file is shorter than a recording's header.";
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return "The file is not a recording.";
  const version = bytes.readUInt32BE(8);
  if (version !== VERSION) return `The recording has format version ${version}; this build knows ${VERSION}.`;
  if (bytes.readUInt32BE(12) !== HEADER_BYTES) return "The header declares an impossible length.";
  const idBytes = Math.min(bytes[ID_LENGTH_AT]!, ID_BYTES_MAX);
  const sessionId = parseSessionId(bytes.toString("latin1", ID_LENGTH_AT + 1, ID_LENGTH_AT + 1 + idBytes));
  if (sessionId === undefined) return "The header holds no session id.";
  const keyId = Buffer.from(bytes.subarray(KEY_ID_AT, KEY_ID_AT + HASH_BYTES));
  return { sessionId, createdMs: bytes.readDoubleBE(CREATED_AT), keyId };
}

export function encodeBlockHead(head: BlockHead): Buffer {
  const bytes = Buffer.alloc(BLOCK_HEAD_BYTES);
  BLOCK_MAGIC.copy(bytes);
  bytes[2] = kinds.indexOf(head.kind);
  bytes[3] = head.compressed ? ZSTD : 0;
  bytes.writeUInt32BE(head.index, 4);
  bytes.writeBigUInt64BE(BigInt(head.firstSequence), 8);
  bytes.writeUInt32BE(head.records, 16);
  bytes.writeUInt32BE(head.storedBytes, 20);
  bytes.writeUInt32BE(head.plainBytes, 24);
  bytes.writeUInt32BE(head.durableBlocks, 28);
  head.previousHash.copy(bytes, PREVIOUS_AT, 0, HASH_BYTES);
  return bytes;
}

/** Returns the head of a block, or in words why these bytes are none. */
export function decodeBlockHead(bytes: Buffer): BlockHead | string {
  const kind = kinds[bytes[2]!] ?? null;
  if (kind === null || (bytes[3] !== 0 && bytes[3] !== ZSTD) || !bytes.subarray(0, BLOCK_MAGIC.length).equals(BLOCK_MAGIC))
    return "has a head of no known kind";
  const storedBytes = bytes.readUInt32BE(20);
  const plainBytes = bytes.readUInt32BE(24);
  if (storedBytes > BLOCK_PAYLOAD_BYTES_MAX || plainBytes > BLOCK_PAYLOAD_BYTES_MAX) return "declares an impossible length";
  const firstSequence = Number(bytes.readBigUInt64BE(8));
  if (!Number.isSafeInteger(firstSequence)) return "declares an impossible sequence";
  const previousHash = Buffer.from(bytes.subarray(PREVIOUS_AT, BLOCK_HEAD_BYTES));
  const compressed = bytes[3] === ZSTD;
  return {
    kind,
    compressed,
    index: bytes.readUInt32BE(4),
    firstSequence,
    records: bytes.readUInt32BE(16),
    storedBytes,
    plainBytes,
    durableBlocks: bytes.readUInt32BE(28),
    previousHash,
  };
}

/** SHA-256 over the pieces, in order. */
export function chainHash(...pieces: readonly Buffer[]): Buffer {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece);
  return hash.digest();
}
