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

export class SegmentReader {
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
    let next = position;
    while (next < segmentEnd && next - position < batchBytesMax) {
      const group = await readGroup(file, SEGMENT_HEADER_BYTES + next - segment.base, next, segment.salt, segmentEnd - next);
      if (group === null || group.payload.length < group.header.payloadBytes) throw unreadable(next);
      for (let at = 0; at < group.payload.length; ) {
        const frame = checkRecordFrame(group.payload, at, this.#recordBytesMax);
        if (frame.kind !== "whole") throw unreadable(next);
        encoded.push({ head: group.payload.subarray(at, frame.end), raw: null, byteLength: frame.end - at });
        at = frame.end;
      }
      next += GROUP_HEADER_BYTES + group.payload.length;
    }
    return new ReadBatch(position, next, encoded, this.#recordBytesMax);
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
