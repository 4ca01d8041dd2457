/**
 * Reads one segment from front to end at opening: every group, every checksum. Tells a torn tail (the last commit never finished, so
 * nothing of it was released) from damage to what was durable. Never changes the file.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { SpoolFile } from "./file-layer.ts";
import { checkRecordFrame } from "./record-codec.ts";
import {
  decodeGroupHeader,
  GROUP_HEADER_BYTES,
  GROUP_MAGIC,
  type GroupHeader,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from "./segment-format.ts";

export interface ScanResult {
  /** Position behind the last whole group. */
  readonly end: number;
  /** Positions at which groups begin, and `end`. */
  readonly boundaries: ReadonlySet<number>;
  /** Whole records at the front of a torn last group, encoded, and how many; they were never acknowledged but may be kept. */
  readonly salvaged: Buffer;
  readonly salvagedRecords: number;
  /** Bytes behind `end` that are no whole group. */
  readonly tornBytes: number;
}

/** Searching for a later group reads the rest in windows of this size. */
const WINDOW_BYTES = 1024 * 1024;

/**
 * `fileBytes` is the file's length, `last` says whether a torn tail may exist at all. Throws `recording_unavailable` when durable
 * records are damaged.
 */
export async function scanSegment(
  file: SpoolFile,
  fileBytes: number,
  header: SegmentHeader,
  options: { readonly last: boolean; readonly recordBytesMax: number; readonly name: string },
): Promise<ScanResult> {
  const boundaries = new Set<number>();
  let offset = SEGMENT_HEADER_BYTES;
  for (;;) {
    const position = header.base + offset - SEGMENT_HEADER_BYTES;
    boundaries.add(position);
    const left = fileBytes - offset;
    if (left === 0) return { end: position, boundaries, salvaged: Buffer.alloc(0), salvagedRecords: 0, tornBytes: 0 };
    const group = await readGroup(file, offset, position, header.salt, left);
    const whole = group === null ? { bytes: 0, records: 0 } : wholeRecords(group.payload, options.recordBytesMax);
    if (group !== null && whole.bytes === group.header.payloadBytes && whole.records === group.header.records) {
      offset += GROUP_HEADER_BYTES + group.header.payloadBytes;
      continue;
    }
    if (!options.last || (await laterGroupExists(file, offset + 1, fileBytes, header))) throw damaged(options.name, position);
    const salvaged = group === null ? Buffer.alloc(0) : group.payload.subarray(0, whole.bytes);
    return { end: position, boundaries, salvaged, salvagedRecords: whole.records, tornBytes: left };
  }
}

/** Reads the group at `offset`; `payload` is shorter than declared when the file ends before. Null when no header is there. */
export async function readGroup(
  file: SpoolFile,
  offset: number,
  position: number,
  salt: Buffer,
  bytesLeft: number,
  allocate: (bytes: number) => Buffer = (bytes) => Buffer.allocUnsafe(bytes),
): Promise<{ readonly header: GroupHeader; readonly payload: Buffer } | null> {
  const head = Buffer.allocUnsafe(GROUP_HEADER_BYTES);
  if ((await file.read(head, offset)) < GROUP_HEADER_BYTES) return null;
  const header = decodeGroupHeader(head, 0, position, salt);
  if (header === null) return null;
  const payload = allocate(Math.max(0, Math.min(header.payloadBytes, bytesLeft - GROUP_HEADER_BYTES)));
  const filled = await file.read(payload, offset + GROUP_HEADER_BYTES);
  return { header, payload: payload.subarray(0, filled) };
}

function wholeRecords(payload: Buffer, recordBytesMax: number): { bytes: number; records: number } {
  let bytes = 0;
  let records = 0;
  while (bytes < payload.length) {
    const frame = checkRecordFrame(payload, bytes, recordBytesMax);
    if (frame.kind !== "whole") break;
    bytes = frame.end;
    records += 1;
  }
  return { bytes, records };
}

async function laterGroupExists(file: SpoolFile, from: number, fileBytes: number, header: SegmentHeader): Promise<boolean> {
  const window = Buffer.allocUnsafe(WINDOW_BYTES + GROUP_HEADER_BYTES);
  for (let start = from; start < fileBytes; start += WINDOW_BYTES) {
    const filled = window.subarray(0, await file.read(window, start));
    for (let at = filled.indexOf(GROUP_MAGIC); at >= 0; at = filled.indexOf(GROUP_MAGIC, at + 1)) {
      const position = header.base + start + at - SEGMENT_HEADER_BYTES;
      if (decodeGroupHeader(filled, at, position, header.salt) !== null) return true;
    }
  }
  return false;
}

function damaged(name: string, position: number): GatewayError {
  return new GatewayError("recording_unavailable", `The spool file ${name} is damaged at position ${position}, before its end.`, {
    hint: "Records that were already safe on disk are unreadable. Keep the spool directory for investigation and start with an empty one.",
  });
}
