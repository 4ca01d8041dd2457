/**
 * The spool's files: opening after whatever happened, starting a new segment, forgetting old ones. Never deletes anything that was
 * durable except by `removeBefore`, and refuses to open a directory whose durable part is damaged.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Log } from "../log.ts";
import type { SpoolFile, SpoolFiles } from "./file-layer.ts";
import {
  decodeSegmentHeader,
  encodeGroupHeader,
  encodeSegmentHeader,
  GROUP_HEADER_BYTES,
  parseSegmentName,
  SALT_BYTES,
  SEGMENT_HEADER_BYTES,
  segmentName,
} from "./segment-format.ts";
import { type ScanResult, scanSegment } from "./segment-scan.ts";

const ID_NAME = "spool-id";
const SPOOL_ID_BYTES = 16;

export interface Segment {
  readonly path: string;
  /** Position of its first group. */
  readonly base: number;
  readonly salt: Buffer;
}

export interface SegmentsOptions {
  readonly directory: string;
  readonly files: SpoolFiles;
  readonly recordBytesMax: number;
  readonly createdMs: number;
  readonly log: Log;
}

/** What opening found: the segments in order, the last one open for writing, where it ends and from where records are still wanted. */
export interface OpenedSegments {
  readonly segments: Segment[];
  readonly active: SpoolFile;
  readonly end: number;
  readonly start: number;
  readonly mark: SpoolFile;
  /** Made with the first segment, and again when there is none: then positions may begin anew. */
  readonly id: string;
}

/** Opens or creates a spool directory. Throws `recording_unavailable` when durable records are damaged or missing. */
export async function openSegments(options: SegmentsOptions): Promise<OpenedSegments> {
  const { files, directory } = options;
  await files.createDirectory(directory);
  const bases = (await files.list(directory)).flatMap((name) => parseSegmentName(name) ?? []).sort((a, b) => a - b);
  const segments: Segment[] = [];
  const boundaries = new Set<number>();
  let tail: ScanResult | null = null;
  for (const [index, base] of bases.entries()) {
    const scanned = await scanOne(options, base, index === bases.length - 1);
    if (scanned === null) continue; // a segment whose creation never finished
    if (tail !== null && tail.end !== base) throw gap(directory, tail.end, base);
    segments.push(scanned.segment);
    for (const boundary of scanned.result.boundaries) boundaries.add(boundary);
    tail = scanned.result;
  }
  const mark = await files.open(join(directory, "trimmed"), "plain");
  if (tail === null) {
    const created = await createSegment(options, bases[0] ?? 0);
    const { segment, file } = created;
    return { segments: [segment], active: file, end: segment.base, start: segment.base, mark, id: await makeId(options) };
  }
  const last = segments.at(-1)!; // a scanned tail means that there is one
  const active = await files.open(last.path, "durable");
  const end = await mendTail(options, last, active, tail);
  const marked = await readMark(mark);
  const start = marked !== null && boundaries.has(marked) ? marked : segments[0]!.base;
  return { segments, active, end, start, mark, id: (await readId(options)) ?? (await makeId(options)) };
}

/** Durable before any record may be offered under it. */
async function makeId(options: SegmentsOptions): Promise<string> {
  const id = randomBytes(SPOOL_ID_BYTES).toString("hex");
  const file = await options.files.open(join(options.directory, ID_NAME), "durable");
  try {
    await file.write([Buffer.from(`${id}\n`)], 0);
  } finally {
    await file.close();
  }
  await options.files.syncDirectory(options.directory);
  return id;
}

/** Null when it was never written, or not whole: then nothing was offered under it. */
async function readId(options: SegmentsOptions): Promise<string | null> {
  const file = await options.files.open(join(options.directory, ID_NAME), "plain");
  try {
    const bytes = Buffer.alloc(2 * SPOOL_ID_BYTES);
    const text = bytes.toString("latin1", 0, await file.read(bytes, 0));
    return /^[0-9a-f]{32}$/.test(text) ? text : null;
  } finally {
    await file.close();
  }
}

/** Creates the segment that begins at `base`; when it resolves the file and its name are on disk. */
export async function createSegment(
  options: SegmentsOptions,
  base: number,
): Promise<{ readonly segment: Segment; readonly file: SpoolFile }> {
  const path = join(options.directory, segmentName(base));
  const salt = randomBytes(SALT_BYTES);
  const file = await options.files.open(path, "durable");
  await file.write([encodeSegmentHeader({ createdMs: options.createdMs, base, salt })], 0);
  await options.files.syncDirectory(options.directory);
  return { segment: { path, base, salt }, file };
}

/** Deletes segments that end at or before `position`, oldest first, never the last. Each deletion is durable before the next. */
export async function removeBefore(options: SegmentsOptions, segments: Segment[], position: number): Promise<void> {
  while (segments.length > 1 && segments[1]!.base <= position) {
    await options.files.remove(segments[0]!.path);
    segments.shift();
    await options.files.syncDirectory(options.directory);
  }
}

/** The mark says from where records are still wanted. It is a hint, so it is not synced: losing it only offers records again. */
export async function writeMark(mark: SpoolFile, position: number): Promise<void> {
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64BE(BigInt(position));
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 8)), 8);
  await mark.write([bytes], 0);
}

async function readMark(mark: SpoolFile): Promise<number | null> {
  const bytes = Buffer.alloc(12);
  if ((await mark.read(bytes, 0)) < bytes.length || crc32(bytes.subarray(0, 8)) !== bytes.readUInt32BE(8)) return null;
  return Number(bytes.readBigUInt64BE());
}

async function scanOne(
  options: SegmentsOptions,
  base: number,
  last: boolean,
): Promise<{ readonly segment: Segment; readonly result: ScanResult } | null> {
  const name = segmentName(base);
  const path = join(options.directory, name);
  const fileBytes = await options.files.sizeOf(path);
  const file = await options.files.open(path, "read");
  try {
    const head = Buffer.alloc(SEGMENT_HEADER_BYTES);
    const header = decodeSegmentHeader(head.subarray(0, await file.read(head, 0)));
    if (typeof header === "string" || header.base !== base) {
      if (last && fileBytes <= SEGMENT_HEADER_BYTES) {
        options.log.warn(
          { file: name },
          "A spool file was being created when the gateway stopped; it held nothing and is made anew.",
        );
        await options.files.remove(path);
        return null;
      }
      throw unreadable(name, typeof header === "string" ? header : "its name and its header disagree");
    }
    const result = await scanSegment(file, fileBytes, header, { last, recordBytesMax: options.recordBytesMax, name });
    return { segment: { path, base, salt: header.salt }, result };
  } finally {
    await file.close();
  }
}

/** Cuts off what a crash left behind the last whole group, keeps its whole records as a new group. Returns the new end. */
async function mendTail(options: SegmentsOptions, segment: Segment, file: SpoolFile, tail: ScanResult): Promise<number> {
  if (tail.tornBytes === 0) {
    await file.sync(); // what the scan saw may be in the cache only, when the process died between write and sync
    return tail.end;
  }
  options.log.warn(
    { file: segmentName(segment.base), tornBytes: tail.tornBytes, recordsKept: tail.salvagedRecords },
    "The spool ended in an unfinished write, as after a crash. It was cut there; nothing that was acknowledged is lost.",
  );
  const offset = SEGMENT_HEADER_BYTES + tail.end - segment.base;
  await file.truncate(offset);
  if (tail.salvagedRecords === 0) return tail.end;
  const payloadBytes = tail.salvaged.length;
  const header = encodeGroupHeader({ position: tail.end, payloadBytes, records: tail.salvagedRecords }, segment.salt);
  await file.write([header, tail.salvaged], offset);
  return tail.end + GROUP_HEADER_BYTES + payloadBytes;
}

function unreadable(name: string, reason: string): GatewayError {
  return new GatewayError("recording_unavailable", `The spool file ${name} cannot be used: ${reason}.`, {
    hint: "Keep the spool directory for investigation and start with an empty one, or use the version of Sluice that wrote it.",
  });
}

function gap(directory: string, end: number, base: number): GatewayError {
  return new GatewayError(
    "recording_unavailable",
    `The spool in ${directory} is damaged: records between positions ${end} and ${base} are missing.`,
    { hint: "A spool file was removed or cut. Keep the directory for investigation and start with an empty one." },
  );
}
