/**
 * Reads durable groups back from segment files, one file open at a time. Never reads beyond the position the spool calls durable.
 * Throws `recording_unavailable` when a group that was durable cannot be read: such a record must not be skipped silently.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionRecord } from "../session-events.ts";
import type { SpoolBatch, SpoolPosition } from "../spool.ts";
import type { SpoolFile, SpoolFiles } from "./file-layer.ts";
import { checkRecordFrame, decodeRecord, type EncodedRecord } from "./record-codec.ts";
import { GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES } from "./segment-format.ts";
import { readGroup } from "./segment-scan.ts";
import type { Segment } from "./segments.ts";

/** Memory for groups is made in sizes of at least this, so that it fits others too. */
const MEMORY_BYTES_MIN = 1024 * 1024;
/** Memory that is kept to be used again. */
const FREE_BYTES_MAX = 8 * 1024 * 1024;

export class SegmentReader {
  /** Memory of batches that were handed out, by where each ends, and memory that may be used again. */
  #lent: { readonly next: SpoolPosition; readonly memory: Buffer }[] = [];
  readonly #free: Buffer[] = [];
  #freeBytes = 0;
  readonly #files: SpoolFiles;
  readonly #recordBytesMax: number;
  #open: { readonly path: string; readonly file: SpoolFile } | null = null;

  constructor(files: SpoolFiles, recordBytesMax: number) {
    this.#files = files;
    this.#recordBytesMax = recordBytesMax;
  }

  /** About `batchBytesMax` of records from `position`, which begins a group before `end`; at most to the end of its segment. */
  async read(
    segments: readonly Segment[],
    position: SpoolPosition,
    end: SpoolPosition,
    batchBytesMax: number,
  ): Promise<SpoolBatch> {
    const index = segments.findLastIndex((segment) => segment.base <= position);
    const segment = segments[index];
    if (segment === undefined) throw unreadable(position);
    const segmentEnd = segments[index + 1]?.base ?? end;
    const file = await this.#fileOf(segment);
    const encoded: EncodedRecord[] = [];
    const used: Buffer[] = [];
    const allocate = (bytes: number): Buffer => {
      const memory = this.#allocate(bytes);
      used.push(memory);
      return memory.subarray(0, bytes);
    };
    let next = position;
    while (next < segmentEnd && next - position < batchBytesMax) {
      const group = await readGroup(
        file,
        SEGMENT_HEADER_BYTES + next - segment.base,
        next,
        segment.salt,
        segmentEnd - next,
        allocate,
      );
      if (group === null || group.payload.length < group.header.payloadBytes) throw unreadable(next);
      for (let at = 0; at < group.payload.length; ) {
        const frame = checkRecordFrame(group.payload, at, this.#recordBytesMax);
        if (frame.kind !== "whole") throw unreadable(next);
        encoded.push({ head: group.payload.subarray(at, frame.end), raw: null, byteLength: frame.end - at });
        at = frame.end;
      }
      next += GROUP_HEADER_BYTES + group.payload.length;
    }
    for (const memory of used) this.#lent.push({ next, memory });
    return new ReadBatch(position, next, encoded, this.#recordBytesMax);
  }

  /** Nobody looks at batches that end at or before `position` any more: their memory is used again. */
  forgetBefore(position: SpoolPosition): void {
    for (const { next, memory } of this.#lent) if (next <= position) this.#keep(memory);
    this.#lent = this.#lent.filter(({ next }) => next > position);
  }

  #allocate(bytes: number): Buffer {
    const fitting = this.#free.findIndex(({ length }) => length >= bytes);
    if (fitting < 0) return Buffer.allocUnsafeSlow(Math.ceil(bytes / MEMORY_BYTES_MIN) * MEMORY_BYTES_MIN);
    const [memory] = this.#free.splice(fitting, 1);
    this.#freeBytes -= memory!.length; // it was found there
    return memory!;
  }

  #keep(memory: Buffer): void {
    if (this.#freeBytes + memory.length > FREE_BYTES_MAX) return;
    this.#free.push(memory);
    this.#freeBytes += memory.length;
  }

  async close(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    await open?.file.close();
  }

  async #fileOf(segment: Segment): Promise<SpoolFile> {
    if (this.#open?.path === segment.path) return this.#open.file;
    await this.close();
    this.#open = { path: segment.path, file: await this.#files.open(segment.path, "read") };
    return this.#open.file;
  }
}

/** Records as they were read; most ways onwards need no more than their bytes. */
class ReadBatch implements SpoolBatch {
  readonly from: SpoolPosition;
  readonly next: SpoolPosition;
  readonly encoded: readonly EncodedRecord[];
  readonly #recordBytesMax: number;
  #records: readonly SessionRecord[] | null = null;

  constructor(from: SpoolPosition, next: SpoolPosition, encoded: readonly EncodedRecord[], recordBytesMax: number) {
    this.from = from;
    this.next = next;
    this.encoded = encoded;
    this.#recordBytesMax = recordBytesMax;
  }

  get records(): readonly SessionRecord[] {
    this.#records ??= this.encoded.map(({ head }) => {
      const decoded = decodeRecord(head, 0, this.#recordBytesMax);
      if (decoded.kind !== "record") throw unreadable(this.from);
      return decoded.record;
    });
    return this.#records;
  }
}

function unreadable(position: number): GatewayError {
  return new GatewayError("recording_unavailable", `The spool cannot be read back at position ${position}.`, {
    hint: "Records that were safe on disk are unreadable. Keep the spool directory for investigation.",
  });
}
