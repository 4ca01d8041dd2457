/**
 * Cells of COPY rows in text and csv: found, read, edited, written again. What comes out is read back by COPY FROM with the same
 * options. How a value was written (quoted, escaped, as NULL) never decides whether it is edited where a value could choose that.
 * Spec: PostgreSQL documentation, "COPY", "File Formats"; CopyAttributeOutText and CopyAttributeOutCSV in copyto.c.
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { CopyForm } from "@sluice/core/copy-form.ts";
import { misfit, type RowEditor } from "./row-editor.ts";

export interface CopyTextCells {
  /** Edits the row in `source[start, end)`, its line end left out. Throws `target_protocol` when it does not have the columns of `edits`. */
  edit(source: Buffer, start: number, end: number, edits: readonly (CellEdit | null)[], editor: RowEditor): void;
}

/** For rows of `columns` cells written like this. */
export function copyTextCells(form: CopyForm, columns: number): CopyTextCells {
  return form.format === "csv" ? new CsvCells(form, columns) : new EscapedCells(form, columns);
}

const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const EMPTY = Buffer.alloc(0);

/** Letters that stand for control characters behind a backslash. */
const CONTROLS: ReadonlyMap<number, number> = new Map([
  [0x62, 0x08], // b
  [0x66, 0x0c], // f
  [0x6e, NEWLINE], // n
  [0x72, RETURN], // r
  [0x74, 0x09], // t
  [0x76, 0x0b], // v
]);
const LETTERS: ReadonlyMap<number, number> = new Map([...CONTROLS].map(([letter, control]) => [control, letter]));

/** Text: backslashes before what has a meaning. */
class EscapedCells implements CopyTextCells {
  readonly #delimiter: number;
  readonly #null: Buffer;
  /** No value is written like NULL: the only such text that does not depend on the values. */
  readonly #nullIsSure: boolean;
  readonly #columns: number;

  constructor(form: CopyForm, columns: number) {
    this.#delimiter = form.delimiter.charCodeAt(0);
    this.#null = Buffer.from(form.nullText);
    this.#nullIsSure = form.nullText === "\\N";
    this.#columns = columns;
  }

  edit(source: Buffer, start: number, end: number, edits: readonly (CellEdit | null)[], editor: RowEditor): void {
    if (edits.length !== this.#columns) throw misfit();
    if (this.#columns === 0) {
      if (start !== end) throw misfit();
      return;
    }
    let cellStart = start;
    for (let column = 0; column < this.#columns; column++) {
      if (cellStart > end) throw misfit();
      let at = cellStart;
      let escaped = false;
      for (; at < end && source[at] !== this.#delimiter; at++) {
        if (source[at] !== BACKSLASH) continue;
        escaped = true;
        at += 1;
      }
      if (at > end) throw misfit(); // a backslash before the line's end
      const edit = edits[column] ?? null;
      if (edit !== null) this.#cell(source, cellStart, at, escaped, edit, editor);
      cellStart = at + 1;
    }
    if (cellStart !== end + 1) throw misfit();
  }

  #cell(source: Buffer, start: number, end: number, escaped: boolean, edit: CellEdit, editor: RowEditor): void {
    let value: Buffer | null | undefined;
    if (this.#nullIsSure && isSame(source, start, end, this.#null)) {
      value = edit.editsNull === true ? edit(EMPTY, 0, 0) : undefined;
    } else if (escaped) {
      const plain = unescaped(source, start, end);
      value = edit(plain, 0, plain.length);
    } else value = edit(source, start, end);
    if (value !== undefined) editor.cut(start, end, value === null ? this.#null : this.#written(value));
  }

  #written(value: Buffer): Buffer {
    const bytes: number[] = [];
    let changed = false;
    for (const byte of value) {
      const letter = LETTERS.get(byte);
      if (letter !== undefined || byte === BACKSLASH || byte === this.#delimiter) {
        bytes.push(BACKSLASH, letter ?? byte);
        changed = true;
      } else bytes.push(byte);
    }
    return changed ? Buffer.from(bytes) : value;
  }
}

function unescaped(source: Buffer, start: number, end: number): Buffer {
  const plain = Buffer.allocUnsafe(end - start); // cut below to what is written
  let to = 0;
  for (let at = start; at < end; at++) {
    let byte = source[at]!; // inside the bounds of the loop
    if (byte === BACKSLASH && at + 1 < end) {
      at += 1;
      byte = CONTROLS.get(source[at]!) ?? source[at]!; // below the end, just checked
    }
    plain[to++] = byte;
  }
  return plain.subarray(0, to);
}

/** CSV: quotes around what has a meaning, and around a value that reads like NULL; so that NULL without quotes is always NULL. */
class CsvCells implements CopyTextCells {
  readonly #delimiter: number;
  readonly #quote: number;
  readonly #escape: number;
  readonly #null: Buffer;
  readonly #columns: number;

  constructor(form: CopyForm, columns: number) {
    this.#delimiter = form.delimiter.charCodeAt(0);
    this.#quote = form.quote.charCodeAt(0);
    this.#escape = form.escape.charCodeAt(0);
    this.#null = Buffer.from(form.nullText);
    this.#columns = columns;
  }

  edit(source: Buffer, start: number, end: number, edits: readonly (CellEdit | null)[], editor: RowEditor): void {
    if (edits.length !== this.#columns) throw misfit();
    if (this.#columns === 0) {
      if (start !== end) throw misfit();
      return;
    }
    let cellStart = start;
    for (let column = 0; column < this.#columns; column++) {
      if (cellStart > end) throw misfit();
      const edit = edits[column] ?? null;
      const quoted = cellStart < end && source[cellStart] === this.#quote;
      const cellEnd = quoted ? this.#quotedEnd(source, cellStart, end) : this.#bareEnd(source, cellStart, end);
      if (edit !== null) this.#cell(source, cellStart, cellEnd, quoted, edit, editor);
      cellStart = cellEnd + 1;
    }
    if (cellStart !== end + 1) throw misfit();
  }

  #bareEnd(source: Buffer, start: number, end: number): number {
    let at = start;
    for (; at < end && source[at] !== this.#delimiter; at++) if (source[at] === this.#quote) throw misfit();
    return at;
  }

  /** Behind the closing quote, where a delimiter or the row's end must stand. */
  #quotedEnd(source: Buffer, start: number, end: number): number {
    for (let at = start + 1; at < end; at++) {
      const byte = source[at];
      const next = at + 1 < end ? source[at + 1] : undefined;
      if (byte === this.#escape && (next === this.#quote || next === this.#escape)) {
        at += 1;
      } else if (byte === this.#quote) {
        if (next !== undefined && next !== this.#delimiter) throw misfit();
        return at + 1;
      }
    }
    throw misfit();
  }

  #cell(source: Buffer, start: number, end: number, quoted: boolean, edit: CellEdit, editor: RowEditor): void {
    let value: Buffer | null | undefined;
    if (quoted) {
      const plain = this.#unquoted(source, start + 1, end - 1);
      value = edit(plain, 0, plain.length);
    } else if (isSame(source, start, end, this.#null)) {
      value = edit.editsNull === true ? edit(EMPTY, 0, 0) : undefined;
    } else value = edit(source, start, end);
    if (value !== undefined) editor.cut(start, end, value === null ? this.#null : this.#written(value));
  }

  #unquoted(source: Buffer, start: number, end: number): Buffer {
    const plain = Buffer.allocUnsafe(end - start); // cut below to what is written
    let to = 0;
    for (let at = start; at < end; at++) {
      const next = at + 1 < end ? source[at + 1] : undefined;
      if (source[at] === this.#escape && (next === this.#quote || next === this.#escape)) at += 1;
      plain[to++] = source[at]!; // below the end: only an escape with something behind it is passed over
    }
    return plain.subarray(0, to);
  }

  /** Quoted for its own sake alone: whether the value behind it was quoted tells what it held. */
  #written(value: Buffer): Buffer {
    if (!this.#needsQuotes(value)) return value;
    const bytes: number[] = [this.#quote];
    for (const byte of value) {
      if (byte === this.#quote || byte === this.#escape) bytes.push(this.#escape);
      bytes.push(byte);
    }
    bytes.push(this.#quote);
    return Buffer.from(bytes);
  }

  #needsQuotes(value: Buffer): boolean {
    if (value.equals(this.#null) || (value.length === 2 && value[0] === BACKSLASH && value[1] === 0x2e)) return true;
    return value.some((byte) => byte === this.#delimiter || byte === this.#quote || byte === NEWLINE || byte === RETURN);
  }
}

function isSame(source: Buffer, start: number, end: number, wanted: Buffer): boolean {
  return end - start === wanted.length && source.compare(wanted, 0, wanted.length, start, end) === 0;
}
