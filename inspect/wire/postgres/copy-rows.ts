/**
 * The rows of one COPY TO STDOUT as the target sends them: finds where each ends, has its cells edited, counts it. Resumable over
 * messages at every byte, since the protocol promises no row a message. What leaves is a message for each message in which a row
 * ended, laid out as the target laid it out: clients count on that. A form that does not add up ends the session.
 * Spec: PostgreSQL documentation, "COPY", "File Formats"; src/backend/commands/copyto.c.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { CopyPlan } from "../judgement.ts";
import { copyTextCells, type CopyTextCells } from "./copy-text.ts";
import { appendBytes } from "./frames.ts";
import { fromTarget } from "./messages.ts";
import type { RowEditor } from "./row-editor.ts";

/** What became of one message. */
export type CopyMessageEnd = "released" | "exceeded" | "tooLarge";

const EMPTY = Buffer.alloc(0);
const NEWLINE = 0x0a;

export class CopyRows {
  readonly #binary: boolean;
  readonly #edits: CopyPlan["edits"];
  readonly #cells: CopyTextCells;
  readonly #units: UnitFinder;
  readonly #rowBytesMax: number;
  #headerDue: boolean;
  #ended = false;
  /** The beginning of a unit that came in an earlier message. */
  #partial: Buffer = EMPTY;
  #partialBytes = 0;

  constructor(plan: CopyPlan, columns: number, rowBytesMax: number) {
    const { form, edits } = plan;
    this.#binary = form.format === "binary";
    this.#edits = edits;
    this.#cells = copyTextCells(form, columns);
    this.#units = unitFinder(plan);
    this.#rowBytesMax = rowBytesMax;
    this.#headerDue = this.#binary || form.header;
  }

  /**
   * Takes the body of a CopyData in `source[start, end)` and writes what may leave of it into `editor`. `rowsLeft`: rows that may
   * still be released; `counted` is told how many were. Throws `target_protocol`.
   */
  message(
    source: Buffer,
    start: number,
    end: number,
    rowsLeft: number,
    editor: RowEditor,
    counted: (rows: number) => void,
  ): CopyMessageEnd {
    if (this.#ended && end > start) throw copyFault("COPY data behind its end");
    const joined = this.#partialBytes > 0;
    if (joined) this.#keep(source, start, end);
    const bytes = joined ? this.#partial : source;
    const from = joined ? 0 : start;
    const to = joined ? this.#partialBytes : end;
    let at = from;
    let rows = 0;
    let exceeded = false;
    editor.begin();
    while (at < to) {
      const unitEnd = this.#units.end(bytes, at, to, this.#headerDue);
      if (unitEnd < 0) break;
      if (this.#isRow(bytes, at, unitEnd)) {
        if (rows >= rowsLeft) {
          exceeded = true;
          break;
        }
        rows += 1;
        this.#edit(bytes, at, unitEnd, editor);
      }
      at = unitEnd;
    }
    if (at > from) editor.message(fromTarget.copyData, bytes, from, at, this.#binary ? 4 : 0);
    if (rows > 0) counted(rows);
    if (exceeded) return "exceeded";
    if (to - at > this.#rowBytesMax) return "tooLarge";
    const rest = at < to ? bytes.subarray(at, to) : EMPTY;
    if (joined && at === 0) return "released"; // all of it is kept already
    this.#partial = EMPTY;
    this.#partialBytes = 0;
    if (rest.length > 0) this.#keep(rest, 0, rest.length);
    return "released";
  }

  /** The target says that this was all. Throws `target_protocol` when a row or the end is missing. */
  finish(): void {
    if (this.#partialBytes > 0 || this.#headerDue || (this.#binary && !this.#ended)) throw copyFault("COPY data cut short");
  }

  /** False for what is around the rows: the header, and binary's end. */
  #isRow(bytes: Buffer, start: number, end: number): boolean {
    if (this.#headerDue) {
      this.#headerDue = false;
      return false;
    }
    if (!this.#binary || bytes[start] !== 0xff || bytes[start + 1] !== 0xff) return true;
    this.#ended = true;
    if (end !== start + 2) throw copyFault("a COPY row of a negative number of columns");
    return false;
  }

  #edit(bytes: Buffer, start: number, end: number, editor: RowEditor): void {
    if (this.#edits === null) return;
    if (this.#binary) editor.cells(bytes, start, end, this.#edits);
    else this.#cells.edit(bytes, start, end - 1, this.#edits, editor);
  }

  #keep(source: Buffer, start: number, end: number): void {
    this.#partial = appendBytes(this.#partial, this.#partialBytes, source, start, end - start, this.#rowBytesMax);
    this.#partialBytes += end - start;
  }
}

/** Finds ends of units: rows, a header, binary's end. Keeps how far it has looked into a unit whose end has not come. */
interface UnitFinder {
  /** Where the unit that begins at `start` ends (exclusive), or -1 when more bytes are needed. The next call continues with the same unit. */
  end(bytes: Buffer, start: number, to: number, header: boolean): number;
}

function unitFinder({ form }: CopyPlan): UnitFinder {
  if (form.format === "binary") return new BinaryUnits();
  return form.format === "csv" ? new CsvUnits(form.quote.charCodeAt(0), form.escape.charCodeAt(0)) : new LineUnits();
}

/** Text: a line end within a value is written with a backslash, so that a bare one always ends the row. */
class LineUnits implements UnitFinder {
  #looked = 0;

  end(bytes: Buffer, start: number, to: number): number {
    const at = bytes.indexOf(NEWLINE, start + this.#looked);
    const found = at >= 0 && at < to;
    this.#looked = found ? 0 : to - start;
    return found ? at + 1 : -1;
  }
}

/** CSV: line ends within quotes belong to the value. */
class CsvUnits implements UnitFinder {
  readonly #quote: number;
  readonly #escape: number;
  #looked = 0;
  #quoted = false;

  constructor(quote: number, escape: number) {
    this.#quote = quote;
    this.#escape = escape;
  }

  end(bytes: Buffer, start: number, to: number): number {
    for (let at = start + this.#looked; at < to; at++) {
      const byte = bytes[at];
      if (this.#quoted && byte === this.#escape && this.#escape !== this.#quote) {
        if (at + 1 >= to) {
          this.#looked = at - start;
          return -1;
        }
        at += 1;
      } else if (byte === this.#quote) {
        // A doubled quote closes and opens again.
        this.#quoted = !this.#quoted;
      } else if (byte === NEWLINE && !this.#quoted) {
        this.#looked = 0;
        return at + 1;
      }
    }
    this.#looked = to - start;
    return -1;
  }
}

const SIGNATURE = Buffer.from("PGCOPY\n\xff\r\n\0", "latin1");
const HEADER_BYTES = SIGNATURE.length + 8;

/** Binary: a signature, flags and an extension; rows as counts and lengths; a count of -1. */
class BinaryUnits implements UnitFinder {
  /** Bytes of the row that were walked, and columns still to come; -1: the count has not come. */
  #walked = 0;
  #columnsLeft = -1;

  end(bytes: Buffer, start: number, to: number, header: boolean): number {
    return header ? headerEnd(bytes, start, to) : this.#rowEnd(bytes, start, to);
  }

  #rowEnd(bytes: Buffer, start: number, to: number): number {
    if (this.#columnsLeft < 0) {
      if (to - start < 2) return -1;
      const count = bytes.readInt16BE(start);
      if (count < -1) throw copyFault("a COPY row of a negative number of columns");
      this.#columnsLeft = Math.max(count, 0);
      this.#walked = 2;
    }
    while (this.#columnsLeft > 0) {
      const at = start + this.#walked;
      if (to - at < 4) return -1;
      const length = bytes.readInt32BE(at);
      if (length < -1) throw copyFault("a COPY value of a negative length");
      this.#walked += 4 + Math.max(length, 0);
      this.#columnsLeft -= 1;
    }
    const end = start + this.#walked;
    if (end > to) return -1;
    this.#walked = 0;
    this.#columnsLeft = -1;
    return end;
  }
}

function headerEnd(bytes: Buffer, start: number, to: number): number {
  const known = Math.min(to - start, SIGNATURE.length);
  if (!bytes.subarray(start, start + known).equals(SIGNATURE.subarray(0, known)))
    throw copyFault("binary COPY data without its signature");
  if (to - start < HEADER_BYTES) return -1;
  // The upper half says what a reader must understand; there is nothing any more that may be said there.
  if (bytes.readUInt16BE(start + SIGNATURE.length) !== 0) throw copyFault("binary COPY data of another form");
  const extension = bytes.readInt32BE(start + SIGNATURE.length + 4);
  if (extension < 0) throw copyFault("binary COPY data of another form");
  return to - start - HEADER_BYTES < extension ? -1 : start + HEADER_BYTES + extension;
}

function copyFault(what: string): GatewayError {
  return new GatewayError("target_protocol", `The database sent ${what}.`, {
    hint: "The session ends, so that nothing is released unjudged. Connect again.",
  });
}
