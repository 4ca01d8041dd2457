/**
 * COPY data as PostgreSQL writes and reads it, for tests: made after copyto.c and copyfromparse.c and apart from the product's own
 * reading, so that one can judge the other. Slow and simple; columns are called c0, c1 …
 */
import type { CopyForm } from "@sluice/core/copy-form.ts";
import { int16, int32 } from "../frames.ts";

export type Table = readonly (readonly (string | null)[])[];

const letters: Readonly<Record<string, string>> = { "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v" };

/** One message for each line, the header's first. */
export function textRows(rows: Table, form: CopyForm, columns: number): readonly Buffer[] {
  const cell = (value: string | null): string =>
    value === null
      ? form.nullText
      : Array.from(value)
          .map((char) =>
            letters[char] !== undefined ? `\\${letters[char]}` : char === "\\" || char === form.delimiter ? `\\${char}` : char,
          )
          .join("");
  return lines(rows, form, columns, cell);
}

export function csvRows(rows: Table, form: CopyForm, columns: number): readonly Buffer[] {
  const special = (char: string): boolean => [form.delimiter, form.quote, "\n", "\r"].includes(char);
  const cell = (value: string | null): string => {
    if (value === null) return form.nullText;
    if (value !== form.nullText && !(columns === 1 && value === "\\.") && !Array.from(value).some(special)) return value;
    const inner = Array.from(value).map((char) => (char === form.quote || char === form.escape ? form.escape + char : char));
    return form.quote + inner.join("") + form.quote;
  };
  return lines(rows, form, columns, cell);
}

function lines(rows: Table, form: CopyForm, columns: number, cell: (value: string | null) => string): readonly Buffer[] {
  const header = form.header ? [Array.from({ length: columns }, (_, at) => `c${at}`)] : [];
  return [...header, ...rows].map((row) => Buffer.from(`${row.map(cell).join(form.delimiter)}\n`));
}

/** The header comes with what follows it, as from the server. */
export function binaryRows(rows: Table): readonly Buffer[] {
  const header = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), int32(0), int32(0)]);
  const tuples = rows.map((row) =>
    Buffer.concat([
      int16(row.length),
      ...row.map((value) => (value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]))),
    ]),
  );
  const [first, ...rest] = [...tuples, int16(-1)];
  return [Buffer.concat([header, first]), ...rest];
}

export function readText(data: Buffer, form: CopyForm, columns: number): Table {
  return readLines(data, form, columns, (text, at) => {
    const start = at;
    let value = "";
    let next = at;
    for (; text[next] !== form.delimiter && text[next] !== "\n"; next++) {
      if (text[next] === "\\") {
        next += 1;
        const letter = text[next]!;
        value += Object.keys(letters).find((control) => letters[control] === letter) ?? letter;
      } else value += text[next];
    }
    return [text.slice(start, next) === form.nullText ? null : value, next];
  });
}

export function readCsv(data: Buffer, form: CopyForm, columns: number): Table {
  return readLines(data, form, columns, (text, at) => {
    let value = "";
    let next = at;
    let inQuotes = false;
    let sawQuotes = false;
    for (; inQuotes || (text[next] !== form.delimiter && text[next] !== "\n"); next++) {
      const char = text[next];
      if (char === undefined) throw new Error("a quote is never closed");
      if (inQuotes && char === form.escape && (text[next + 1] === form.escape || text[next + 1] === form.quote)) {
        next += 1;
        value += text[next];
      } else if (char === form.quote) {
        inQuotes = !inQuotes;
        sawQuotes = true;
      } else value += char;
    }
    return [!sawQuotes && value === form.nullText ? null : value, next];
  });
}

type ReadCell = (text: string, at: number) => readonly [value: string | null, next: number];

function readLines(data: Buffer, form: CopyForm, columns: number, cell: ReadCell): Table {
  const text = data.toString("utf8");
  const rows: (string | null)[][] = [];
  for (let at = 0; at < text.length; ) {
    const row: (string | null)[] = [];
    for (let column = 0; column < columns; column++) {
      const [value, next] = cell(text, at);
      row.push(value);
      const end = column === columns - 1 ? "\n" : form.delimiter;
      if (text[next] !== end) throw new Error(`expected ${JSON.stringify(end)} behind column ${column}`);
      at = next + 1;
    }
    rows.push(row);
  }
  return form.header ? rows.slice(1) : rows;
}

export function readBinary(data: Buffer): Table {
  const rows: (string | null)[][] = [];
  let at = 19 + data.readInt32BE(15);
  for (let count = data.readInt16BE(at); count >= 0; count = data.readInt16BE(at)) {
    at += 2;
    const row: (string | null)[] = [];
    for (; count > 0; count--) {
      const length = data.readInt32BE(at);
      at += 4;
      row.push(length < 0 ? null : data.toString("utf8", at, at + length));
      at += Math.max(length, 0);
    }
    rows.push(row);
  }
  if (at + 2 !== data.length) throw new Error("bytes behind the end");
  return rows;
}
