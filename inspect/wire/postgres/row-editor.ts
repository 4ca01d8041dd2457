/**
 * Rebuilds DataRow and CopyData messages of which cells are edited. They go into slabs one behind the other, so that a thousand
 * small rows leave as a few buffers. It never writes to what it received and releases whole messages only. What it releases is
 * written to again after `reuse`.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import { HEADER_BYTES } from "./frames.ts";
import { fromTarget } from "./messages.ts";

/** Slabs grow from small, for the many sessions that read one row, to the rows of one large read. */
const SLAB_BYTES_MIN = 4 * 1024;
const SLAB_BYTES_MAX = 256 * 1024;
const EMPTY = Buffer.alloc(0);
const NULL_LENGTH = 0xffffffff;
const LENGTH_BYTES = 4;

export class RowEditor {
  readonly #release: (bytes: Buffer) => void;
  #slab: Buffer = EMPTY;
  #used = 0;
  /** Up to where the slab has been released. */
  #flushed = 0;
  /** Replacements of the row at hand: start and end in the source, two entries for each of `#values`. */
  readonly #cuts: number[] = [];
  readonly #values: (Buffer | null)[] = [];
  /** By how many bytes the cuts make the message longer. */
  #grown = 0;

  constructor(release: (bytes: Buffer) => void) {
    this.#release = release;
  }

  /** Nobody looks at what was released any more: its memory is used again, since fresh memory for all rows costs more than editing them. */
  reuse(): void {
    if (this.#used !== this.#flushed) throw new Error("edited rows were not released");
    this.#used = 0;
    this.#flushed = 0;
  }

  /** A result has ended: a large slab is not kept for a session that may now be idle for hours. */
  settle(): void {
    this.flush();
    if (this.#slab.length <= SLAB_BYTES_MIN) return;
    this.#slab = EMPTY;
    this.#used = 0;
    this.#flushed = 0;
  }

  /** Edits the DataRow in `source[start, end)`; `flush` releases it. Throws `target_protocol` when it does not have the columns of `edits`. */
  row(source: Buffer, start: number, end: number, edits: readonly (CellEdit | null)[]): void {
    this.begin();
    this.cells(source, start + HEADER_BYTES, end, edits);
    this.message(fromTarget.dataRow, source, start + HEADER_BYTES, end, LENGTH_BYTES);
  }

  /** A message begins: nothing of it is replaced yet. */
  begin(): void {
    this.#cuts.length = 0;
    this.#values.length = 0;
    this.#grown = 0;
  }

  /** `source[start, end)` is to be replaced by `value`. Cuts come in order; null stands for a cell without bytes, where lengths are written. */
  cut(start: number, end: number, value: Buffer | null): void {
    this.#cuts.push(start, end);
    this.#values.push(value);
    this.#grown += (value === null ? 0 : value.length) - (end - start);
  }

  /** Finds what changes in the count and the cells of `source[start, end)`. Throws `target_protocol` when it does not have the columns of `edits`. */
  cells(source: Buffer, start: number, end: number, edits: readonly (CellEdit | null)[]): void {
    let at = start;
    if (end - at < 2 || ((source[at]! << 8) | source[at + 1]!) !== edits.length) throw misfit();
    at += 2;
    for (let column = 0; column < edits.length; column++) {
      const edit = edits[column] ?? null;
      if (end - at < LENGTH_BYTES) throw misfit();
      const length = (source[at]! << 24) | (source[at + 1]! << 16) | (source[at + 2]! << 8) | source[at + 3]!;
      at += LENGTH_BYTES;
      if (length < 0) {
        if (length !== -1) throw misfit();
        const value = edit?.editsNull === true ? edit(source, at, at) : undefined;
        if (value !== undefined && value !== null) this.cut(at, at, value);
        continue;
      }
      if (end - at < length) throw misfit();
      const value = edit === null ? undefined : edit(source, at, at + length);
      if (value !== undefined) this.cut(at, at + length, value);
      at += length;
    }
    if (at !== end) throw misfit();
  }

  /**
   * Writes the message of `type` whose body is `source[start, end)` with the cuts made since `begin`. `lengthBytes`: how many bytes
   * before a cut hold its length, to be written anew; 0 where cells have none.
   */
  message(type: number, source: Buffer, start: number, end: number, lengthBytes: 0 | typeof LENGTH_BYTES): void {
    const frameBytes = HEADER_BYTES + end - start + this.#grown;
    const target = this.#room(frameBytes);
    let at = this.#used;
    target[at] = type;
    at = writeLength(target, at + 1, frameBytes - 1);
    let copied = start;
    for (let cut = 0; cut < this.#values.length; cut++) {
      const value = this.#values[cut]!;
      at = copyBytes(source, copied, this.#cuts[cut * 2]! - lengthBytes, target, at);
      if (lengthBytes > 0) at = writeLength(target, at, value === null ? NULL_LENGTH : value.length);
      if (value !== null) at = copyBytes(value, 0, value.length, target, at);
      copied = this.#cuts[cut * 2 + 1]!;
    }
    this.#used = copyBytes(source, copied, end, target, at);
  }

  /** Releases the rows edited since the last time, as one view. */
  flush(): void {
    if (this.#used === this.#flushed) return;
    const rows = this.#slab.subarray(this.#flushed, this.#used);
    this.#flushed = this.#used;
    this.#release(rows);
  }

  /** A buffer with room for the row behind `#used`. */
  #room(rowBytes: number): Buffer {
    if (this.#slab.length - this.#used < rowBytes) {
      this.flush();
      const next = Math.min(Math.max(this.#slab.length * 2, SLAB_BYTES_MIN), SLAB_BYTES_MAX);
      this.#slab = Buffer.allocUnsafeSlow(Math.max(next, rowBytes));
      this.#used = 0;
      this.#flushed = 0;
    }
    return this.#slab;
  }
}

/** Below this a loop is faster than a call into the runtime. */
const LOOP_BYTES_MAX = 48;

function copyBytes(source: Buffer, start: number, end: number, target: Buffer, at: number): number {
  if (end - start > LOOP_BYTES_MAX) return at + source.copy(target, at, start, end);
  let to = at;
  for (let from = start; from < end; from++) target[to++] = source[from]!;
  return to;
}

function writeLength(target: Buffer, at: number, length: number): number {
  target[at] = length >>> 24;
  target[at + 1] = length >>> 16;
  target[at + 2] = length >>> 8;
  target[at + 3] = length;
  return at + 4;
}

export function misfit(): GatewayError {
  return new GatewayError("target_protocol", "A row of the database does not have the columns that were judged.", {
    hint: "The session ends, so that nothing is released unjudged. Connect again.",
  });
}
