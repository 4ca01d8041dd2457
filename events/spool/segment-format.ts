/**
 * Layout of a spool segment: a header, then groups; a group is one commit. Pure. Big-endian throughout.
 *
 *   segment header, 64 bytes: "SLUICESP" | u32 version | u32 header length | f64 created, ms since the epoch (0: not known)
 *                             | u64 base position | 16 bytes salt | 12 zero bytes | u32 CRC-32 of the 60 bytes before
 *   group header, 24 bytes:   "SLGR" | u32 payload length | u64 own position | u32 records | u32 CRC-32 of salt and the 20 bytes before
 *
 * A position is the base plus the offset behind the segment header. A group is written only after the one before it is on disk. So a
 * whole group header behind a damaged place proves that the place was once durable: that is corruption, not a torn tail. The salt
 * keeps released bytes from imitating a group header.
 */
import { crc32 } from "node:zlib";

export interface SegmentHeader {
  readonly createdMs: number;
  /** Position of the first group. */
  readonly base: number;
  readonly salt: Buffer;
}

export interface GroupHeader {
  readonly position: number;
  readonly payloadBytes: number;
  readonly records: number;
}

export const SEGMENT_HEADER_BYTES = 64;
export const GROUP_HEADER_BYTES = 24;
export const SALT_BYTES = 16;
export const GROUP_MAGIC: Buffer = Buffer.from("SLGR", "latin1");

const SEGMENT_MAGIC = Buffer.from("SLUICESP", "latin1");
const SEGMENT_VERSION = 1;
const CREATED_AT = 16;
const BASE_AT = 24;
const SALT_AT = 32;
const SEGMENT_CRC_AT = SEGMENT_HEADER_BYTES - 4;
const GROUP_CRC_AT = GROUP_HEADER_BYTES - 4;

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  SEGMENT_MAGIC.copy(bytes);
  bytes.writeUInt32BE(SEGMENT_VERSION, 8);
  bytes.writeUInt32BE(SEGMENT_HEADER_BYTES, 12);
  bytes.writeDoubleBE(header.createdMs, CREATED_AT);
  bytes.writeBigUInt64BE(BigInt(header.base), BASE_AT);
  header.salt.copy(bytes, SALT_AT, 0, SALT_BYTES);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, SEGMENT_CRC_AT)), SEGMENT_CRC_AT);
  return bytes;
}

/** Returns the header, or in words why there is none. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | string {
  if (bytes.length < SEGMENT_HEADER_BYTES) return "the file is shorter than its header";
  if (!bytes.subarray(0, SEGMENT_MAGIC.length).equals(SEGMENT_MAGIC)) return "the file is not a spool segment";
  const version = bytes.readUInt32BE(8);
  if (version !== SEGMENT_VERSION) return `the file has format version ${version}; this build knows ${SEGMENT_VERSION}`;
  if (crc32(bytes.subarray(0, SEGMENT_CRC_AT)) !== bytes.readUInt32BE(SEGMENT_CRC_AT)) return "the header's checksum is wrong";
  const base = Number(bytes.readBigUInt64BE(BASE_AT));
  if (!Number.isSafeInteger(base)) return "the header holds an impossible position";
  const salt = Buffer.from(bytes.subarray(SALT_AT, SALT_AT + SALT_BYTES));
  return { createdMs: bytes.readDoubleBE(CREATED_AT), base, salt };
}

export function encodeGroupHeader(header: GroupHeader, salt: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(GROUP_HEADER_BYTES);
  GROUP_MAGIC.copy(bytes);
  bytes.writeUInt32BE(header.payloadBytes, 4);
  bytes.writeBigUInt64BE(BigInt(header.position), 8);
  bytes.writeUInt32BE(header.records, 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, GROUP_CRC_AT), crc32(salt)), GROUP_CRC_AT);
  return bytes;
}

/** Returns the header at `at`, or null when there is none that was written for exactly this position of this segment. */
export function decodeGroupHeader(bytes: Buffer, at: number, position: number, salt: Buffer): GroupHeader | null {
  if (bytes.length - at < GROUP_HEADER_BYTES) return null;
  const view = bytes.subarray(at, at + GROUP_HEADER_BYTES);
  if (!view.subarray(0, GROUP_MAGIC.length).equals(GROUP_MAGIC)) return null;
  if (crc32(view.subarray(0, GROUP_CRC_AT), crc32(salt)) !== view.readUInt32BE(GROUP_CRC_AT)) return null;
  if (Number(view.readBigUInt64BE(8)) !== position) return null;
  return { position, payloadBytes: view.readUInt32BE(4), records: view.readUInt32BE(16) };
}

const NAME = /^([0-9]{16})\.spool$/;

/** File name of the segment that begins at `base`: decimal, so that names sort as positions do. */
export function segmentName(base: number): string {
  return `${String(base).padStart(16, "0")}.spool`;
}

/** The base position in a file name; undefined for a file that is no segment. */
export function parseSegmentName(name: string): number | undefined {
  const digits = NAME.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
