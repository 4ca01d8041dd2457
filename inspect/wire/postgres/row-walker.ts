/**
 * Walks what the target sends. Rows and COPY data that nobody edits stay views of the received chunk, of any size, without an
 * object per row; edited rows are rebuilt into slabs; every other message is gathered whole and handed on. Sans-IO, resumable
 * at every byte. Spec: PostgreSQL documentation, "Message Formats" (DataRow, CopyData).
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ColumnPlan } from "../judgement.ts";
import type { CopyRows } from "./copy-rows.ts";
import { appendBytes, type Frame, HEADER_BYTES } from "./frames.ts";
import { fromTarget } from "./messages.ts";
import { RowEditor } from "./row-editor.ts";

/** What to do with the rows that come now, until the next control message. */
export type RowMode =
  | { readonly kind: "swallow" }
  /** Releases up to `rowsLeft` rows (Infinity for no limit), then asks `beginRows` again by way of `rowsExceeded`. */
  | { readonly kind: "release"; readonly edits: ColumnPlan; readonly rowsLeft: number }
  /** The same for COPY data of which rows are edited or counted. */
  | { readonly kind: "copy"; readonly copy: CopyRows; readonly rowsLeft: number };

export interface WalkerEvents {
  /** Every message that is neither DataRow nor CopyData, whole. */
  control(frame: Frame): void;
  /** The first row after a control message: how to treat it and its successors. Throws when none may come. */
  beginRows(type: number): RowMode;
  /** A row came beyond `rowsLeft`; it is swallowed and so are the rest. */
  rowsExceeded(): void;
  /** A row to be edited is larger than the limit; it is swallowed and so are the rest. */
  rowTooLarge(): void;
  /** Bytes for the caller, in order; theirs until the next `push`. */
  release(bytes: Buffer): void;
}

const { dataRow, copyData } = fromTarget;
const SWALLOW: RowMode = { kind: "swallow" };
const EMPTY = Buffer.alloc(0);

export class RowWalker {
  readonly #events: WalkerEvents;
  readonly #controlBytesMax: number;
  readonly #editedBytesMax: number;
  readonly #editor: RowEditor;
  /** Null: ask when a row comes. */
  #mode: RowMode | null = null;
  #rowsLeft = 0;
  #rows = 0;
  /** Bytes of the current row that are still to come and need no look. */
  #through = 0;
  #throughReleased = false;
  /** A message that came in part: its first bytes, and how long it will be (0 while the header is not whole). */
  #partial: Buffer = EMPTY;
  #partialBytes = 0;
  #wanted = 0;

  constructor(events: WalkerEvents, limits: Pick<Limits, "targetFrameBytesMax" | "editedRowBytesMax">) {
    this.#events = events;
    this.#controlBytesMax = limits.targetFrameBytesMax;
    this.#editedBytesMax = limits.editedRowBytesMax;
    this.#editor = new RowEditor((bytes) => events.release(bytes));
  }

  /** Part of a row has been released and its end has not: nothing else can be said to the caller. */
  get insideReleasedRow(): boolean {
    return this.#through > 0 && this.#throughReleased;
  }

  /** The last message has come whole. */
  get atBoundary(): boolean {
    return this.#through === 0 && this.#partialBytes === 0;
  }

  /** Rows released since this was last called. */
  takeRows(): number {
    const rows = this.#rows;
    this.#rows = 0;
    return rows;
  }

  /**
   * What is released, and the frames of control messages, may view `chunk` or memory of the walker's that the next call writes to: they
   * are to be copied before. Throws `target_protocol` on what a PostgreSQL server does not send, and what `events` throws.
   */
  push(chunk: Buffer): void {
    this.#editor.reuse();
    this.#walk(chunk);
    this.#editor.flush();
  }

  #walk(chunk: Buffer): void {
    let at = this.#continue(chunk);
    while (at < chunk.length) {
      if (chunk.length - at < HEADER_BYTES) {
        this.#keep(chunk, at, 0);
        return;
      }
      const type = chunk[at]!;
      at = type === dataRow || type === copyData ? this.#rowsAt(chunk, at) : this.#controlAt(chunk, at);
    }
  }

  /** Takes up what the last chunk left open. Returns where the next message begins. */
  #continue(chunk: Buffer): number {
    let at = 0;
    if (this.#through > 0) {
      at = Math.min(this.#through, chunk.length);
      this.#through -= at;
      if (this.#throughReleased) this.#events.release(at === chunk.length ? chunk : chunk.subarray(0, at));
    }
    if (this.#partialBytes === 0) return at;
    at = this.#gather(chunk, at, HEADER_BYTES);
    if (this.#partialBytes < HEADER_BYTES) return at;
    if (this.#wanted === 0) {
      const head = this.#partial.subarray(0, HEADER_BYTES);
      const type = head[0]!;
      const frameBytes = frameBytesAt(head, 0);
      if ((type === dataRow || type === copyData) && !this.#mustGather(type, frameBytes)) {
        this.#clearPartial();
        this.#pass(frameBytes - HEADER_BYTES, head);
        const skipped = Math.min(this.#through, chunk.length - at);
        this.#through -= skipped;
        if (this.#throughReleased && skipped > 0) this.#events.release(chunk.subarray(at, at + skipped));
        return at + skipped;
      }
      if (type !== dataRow && type !== copyData) this.#checkControl(frameBytes);
      this.#wanted = frameBytes;
    }
    at = this.#gather(chunk, at, this.#wanted);
    if (this.#partialBytes < this.#wanted) return at;
    const bytes = this.#partial.subarray(0, this.#wanted);
    this.#clearPartial();
    if (bytes[0] === dataRow || bytes[0] === copyData) this.#edit(bytes, 0, bytes.length);
    else this.#control(bytes);
    return at;
  }

  /** A run of rows that begins at `at`. Returns where it ends, at the chunk's end or at another kind of message. */
  #rowsAt(chunk: Buffer, start: number): number {
    const type = chunk[start]!;
    let at = start;
    let runStart = start;
    let released = false;
    const closeRun = (): void => {
      if (released && at > runStart) this.#events.release(chunk.subarray(runStart, at));
      runStart = at;
    };
    while (chunk.length - at >= HEADER_BYTES && chunk[at] === type) {
      const frameBytes = frameBytesAt(chunk, at);
      if (this.#mustGather(type, frameBytes)) {
        closeRun();
        released = false;
        if (chunk.length - at < frameBytes) {
          this.#keep(chunk, at, frameBytes);
          return chunk.length;
        }
        this.#edit(chunk, at, at + frameBytes);
        at += frameBytes;
        runStart = at;
        continue;
      }
      const releases = this.#count();
      if (releases !== released) {
        closeRun();
        released = releases;
      }
      if (chunk.length - at < frameBytes) {
        this.#through = frameBytes - (chunk.length - at);
        this.#throughReleased = released;
        at = chunk.length;
        break;
      }
      at += frameBytes;
    }
    closeRun();
    return at;
  }

  #controlAt(chunk: Buffer, at: number): number {
    const frameBytes = frameBytesAt(chunk, at);
    this.#checkControl(frameBytes);
    if (chunk.length - at < frameBytes) {
      this.#keep(chunk, at, frameBytes);
      return chunk.length;
    }
    this.#control(chunk.subarray(at, at + frameBytes));
    return at + frameBytes;
  }

  /** Settles how rows are treated; true when this one must be whole because it is looked into. */
  #mustGather(type: number, frameBytes: number): boolean {
    if (this.#mode === null) {
      this.#mode = this.#events.beginRows(type);
      this.#rowsLeft = this.#mode.kind === "swallow" ? 0 : this.#mode.rowsLeft;
    }
    if (this.#mode.kind === "swallow") return false;
    if (this.#mode.kind === "release" && (this.#mode.edits === null || this.#rowsLeft <= 0)) return false;
    if (frameBytes <= this.#editedBytesMax) return true;
    this.#mode = SWALLOW;
    this.#editor.flush();
    this.#events.rowTooLarge();
    return false;
  }

  /** Counts one row that is not edited; true when it is released. */
  #count(): boolean {
    if (this.#mode?.kind !== "release") return false;
    if (this.#rowsLeft <= 0) {
      this.#mode = SWALLOW;
      this.#editor.flush();
      this.#events.rowsExceeded();
      return false;
    }
    this.#rowsLeft -= 1;
    this.#rows += 1;
    return true;
  }

  /** A row whose header came in pieces: releases the header and lets the body through. */
  #pass(bodyBytes: number, header: Buffer): void {
    this.#throughReleased = this.#count();
    this.#through = bodyBytes;
    if (this.#throughReleased) this.#events.release(header);
  }

  #edit(bytes: Buffer, start: number, end: number): void {
    const mode = this.#mode;
    if (mode?.kind === "copy") return this.#editCopy(mode.copy, bytes, start, end);
    if (mode?.kind !== "release" || mode.edits === null) throw new Error("a row was gathered that is not edited");
    if (bytes[start] !== dataRow)
      throw new GatewayError("target_protocol", "The database sent COPY data where rows were expected.");
    this.#rowsLeft -= 1;
    this.#rows += 1;
    this.#editor.row(bytes, start, end, mode.edits);
  }

  #editCopy(copy: CopyRows, bytes: Buffer, start: number, end: number): void {
    if (bytes[start] !== copyData)
      throw new GatewayError("target_protocol", "The database sent a row where COPY data was expected.");
    const became = copy.message(bytes, start + HEADER_BYTES, end, this.#rowsLeft, this.#editor, this.#countCopied);
    if (became === "released") return;
    this.#mode = SWALLOW;
    this.#editor.flush();
    if (became === "exceeded") this.#events.rowsExceeded();
    else this.#events.rowTooLarge();
  }

  readonly #countCopied = (rows: number): void => {
    this.#rowsLeft -= rows;
    this.#rows += rows;
  };

  #control(bytes: Buffer): void {
    if (this.#mode !== null) {
      this.#mode = null;
      this.#editor.settle();
    }
    this.#events.control({ type: bytes[0]!, body: bytes.subarray(HEADER_BYTES), bytes });
  }

  #checkControl(frameBytes: number): void {
    if (frameBytes > this.#controlBytesMax)
      throw new GatewayError("target_protocol", "The database sent a message larger than this gateway accepts.");
  }

  /** Keeps the chunk's tail, which is not a whole message; `wanted` is the message's length, 0 while unknown. */
  #keep(chunk: Buffer, at: number, wanted: number): void {
    this.#wanted = wanted;
    this.#partial = EMPTY;
    this.#partialBytes = 0;
    this.#gather(chunk, at, wanted === 0 ? HEADER_BYTES : wanted);
  }

  #gather(chunk: Buffer, at: number, wanted: number): number {
    const take = Math.min(chunk.length - at, wanted - this.#partialBytes);
    if (take <= 0) return at;
    this.#partial = appendBytes(this.#partial, this.#partialBytes, chunk, at, take, wanted);
    this.#partialBytes += take;
    return at + take;
  }

  #clearPartial(): void {
    this.#partial = EMPTY;
    this.#partialBytes = 0;
    this.#wanted = 0;
  }
}

function frameBytesAt(bytes: Buffer, at: number): number {
  const length = bytes[at + 1]! * 0x1000000 + ((bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!);
  if (length < 4 || length > 0x7fffffff)
    throw new GatewayError("target_protocol", "The database sent a message with an impossible length.");
  return length + 1;
}
