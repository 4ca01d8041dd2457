/** COPY data edited in every form: at every split of bytes and of messages, and read back by a reader that is not the product's. */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { CopyForm } from "@sluice/core/copy-form.ts";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CopyRows } from "./copy-rows.ts";
import { encodeMessage, FrameReader, int16, int32 } from "./frames.ts";
import { RowWalker } from "./row-walker.ts";
import { binaryRows, csvRows, readBinary, readCsv, readText, textRows, type Table } from "./testing/copy-data.ts";

const textForm: CopyForm = { format: "text", header: false, delimiter: "\t", nullText: "\\N", quote: '"', escape: '"' };
const csvForm: CopyForm = { ...textForm, format: "csv", delimiter: ",", nullText: "" };
const binaryForm: CopyForm = { ...textForm, format: "binary" };
const limits = { targetFrameBytesMax: 100_000, editedRowBytesMax: 100_000 };

interface Walked {
  readonly messages: readonly string[];
  readonly data: Buffer;
  readonly log: readonly string[];
}

/** Lets the walker see these messages in these chunks, and CopyDone behind them. */
function walk(copy: CopyRows, chunks: readonly Buffer[], rowsLeft = Infinity, bounds: Partial<typeof limits> = {}): Walked {
  const released: Buffer[] = [];
  const log: string[] = [];
  let over = false;
  const stop = (what: string) => (): void => {
    over = true;
    log.push(what);
  };
  const walker: RowWalker = new RowWalker(
    {
      control: (frame) => {
        if (!over && frame.type === 0x63) copy.finish();
        log.push(`${String.fromCharCode(frame.type)} after ${walker.takeRows()}`);
      },
      beginRows: () => (over ? { kind: "swallow" } : { kind: "copy", copy, rowsLeft }),
      rowsExceeded: stop("exceeded"),
      rowTooLarge: stop("too large"),
      release: (bytes) => released.push(Buffer.from(bytes)),
    },
    { ...limits, ...bounds },
  );
  for (const chunk of chunks) {
    const lent = Buffer.from(chunk);
    walker.push(lent);
    lent.fill(0xee); // the memory of reads is used again
  }
  expect(walker.atBoundary).toBe(true);
  const reader = new FrameReader(1 << 30);
  reader.push(Buffer.concat(released));
  const bodies: Buffer[] = [];
  for (let frame = reader.next(); frame !== null; frame = reader.next()) {
    expect(frame.type).toBe(0x64);
    bodies.push(frame.body);
  }
  expect(reader.empty).toBe(true);
  return { messages: bodies.map((body) => body.toString("latin1")), data: Buffer.concat(bodies), log };
}

const done = encodeMessage("c", []);
const message = (body: Buffer | string): Buffer => encodeMessage("d", [Buffer.from(body)]);

/** Every value becomes its letters reversed, in brackets; a value that begins with x becomes NULL, one with y stays. */
const shuffle: CellEdit = (source, start, end) => {
  const value = source.toString("utf8", start, end);
  if (value.startsWith("x")) return null;
  return value.startsWith("y") ? undefined : Buffer.from(shuffled(value));
};
const shuffled = (value: string): string => `[${Array.from(value).reverse().join("")}]`;
const expected = (value: string | null): string | null => {
  if (value === null || value.startsWith("x")) return null;
  return value.startsWith("y") ? value : shuffled(value);
};

const cellText = fc.oneof(
  fc.string({ unit: fc.constantFrom(..."\\\t\n\r\b\f\v,;\"'|.Nxyab é*".split("")), maxLength: 8 }),
  fc.constantFrom("\\N", "\\.", "", '""', "NULL", "null", "\\n", "x", "y\n", "\\\\"),
  fc.string({ unit: "binary", maxLength: 6 }).filter((text) => text.isWellFormed() && !text.includes("\0")),
);
const table = (columns: number): fc.Arbitrary<Table> =>
  fc.array(fc.array(fc.option(cellText), { minLength: columns, maxLength: columns }), { maxLength: 5 });

const forms: readonly (readonly [string, CopyForm])[] = [
  ["text", textForm],
  ["text with a header", { ...textForm, header: true }],
  ["text with another delimiter", { ...textForm, delimiter: "|" }],
  ["csv", csvForm],
  ["csv with a header and a NULL", { ...csvForm, header: true, nullText: "NULL" }],
  ["csv with an escape", { ...csvForm, escape: "\\", delimiter: ";" }],
  ["csv with stars", { ...csvForm, delimiter: "*", quote: "'", escape: "'" }],
  ["binary", binaryForm],
];

const write = (rows: Table, form: CopyForm, columns: number): readonly Buffer[] =>
  form.format === "binary"
    ? binaryRows(rows)
    : form.format === "csv"
      ? csvRows(rows, form, columns)
      : textRows(rows, form, columns);
const read = (data: Buffer, form: CopyForm, columns: number): Table =>
  form.format === "binary"
    ? readBinary(data)
    : form.format === "csv"
      ? readCsv(data, form, columns)
      : readText(data, form, columns);

describe.each(forms)("%s", (_name, form) => {
  it("is edited so that it reads as what the edits made, however it is split", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }).chain((columns) => fc.tuple(fc.constant(columns), table(columns))),
        fc.array(fc.integer({ min: 1, max: 25 }), { minLength: 1 }),
        fc.array(fc.integer({ min: 1, max: 25 }), { minLength: 1 }),
        ([columns, rows], messageBytes, chunkBytes) => {
          const bodies = write(rows, form, columns);
          expect(read(Buffer.concat(bodies), form, columns)).toEqual(rows);
          const edits = Array.from({ length: columns }, (_, column) => (column === 1 ? null : shuffle));
          const whole = walk(new CopyRows({ form, edits }, columns, 1e5), [Buffer.concat([...bodies.map(message), done])]);
          const wanted = rows.map((row) => row.map((value, column) => (column === 1 ? value : expected(value))));
          expect(read(whole.data, form, columns)).toEqual(wanted);
          expect(whole.log).toEqual([`c after ${rows.length}`]);
          expect(whole.messages).toHaveLength(bodies.length);
          const messages = Buffer.concat([...cut(Buffer.concat(bodies), messageBytes).map(message), done]);
          const split = walk(new CopyRows({ form, edits }, columns, 1e5), cut(messages, chunkBytes));
          expect(split.data).toEqual(whole.data);
          expect(split.log).toEqual(whole.log);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is the same at every single split", () => {
    const rows: Table = [
      ["a\n", "x", null],
      ["y\\", '"', "é"],
      [null, "\t,;*", "zz"],
    ];
    const data = Buffer.concat(write(rows, form, 3));
    const edits = [shuffle, shuffle, shuffle];
    const whole = walk(new CopyRows({ form, edits }, 3, 1e5), [message(data), done]);
    for (let at = 0; at <= data.length; at++) {
      const split = walk(new CopyRows({ form, edits }, 3, 1e5), [
        message(data.subarray(0, at)),
        message(data.subarray(at)),
        done,
      ]);
      expect(split.data).toEqual(whole.data);
    }
  });

  it("counts rows, not messages, not headers, not the end", () => {
    const rows: Table = [["a\n"], ["b"], ["c"]];
    for (const edits of [null, [shuffle]]) {
      for (const bodies of [write(rows, form, 1), [Buffer.concat(write(rows, form, 1))]]) {
        const copied = walk(new CopyRows({ form, edits }, 1, 1e5), [...bodies.map(message), done], 2);
        const shown = form.format === "binary" ? Buffer.concat([copied.data, int16(-1)]) : copied.data;
        expect(read(shown, form, 1)).toEqual(edits === null ? rows.slice(0, 2) : [["[\na]"], ["[b]"]]);
        expect(copied.log).toEqual(["exceeded", "c after 2"]);
        expect(walk(new CopyRows({ form, edits }, 1, 1e5), [...bodies.map(message), done], 3).log).toEqual(["c after 3"]);
      }
    }
  });

  it("ends the session over rows of other columns and data cut short", () => {
    const bodies = write([["a", "b"]], form, 2);
    for (const columns of [1, 3]) {
      const edits = Array.from({ length: columns }, () => shuffle);
      expect(() => walk(new CopyRows({ form, edits }, columns, 1e5), [...bodies.map(message), done])).toThrow(
        "columns that were judged",
      );
    }
    const data = Buffer.concat(bodies);
    for (const short of [data.subarray(0, -1), ...(form.header || form.format === "binary" ? [Buffer.alloc(0)] : [])])
      expect(() => walk(new CopyRows({ form, edits: [null, shuffle] }, 2, 1e5), [message(short), done])).toThrow("cut short");
  });

  it("holds no row above the limit", () => {
    const data = Buffer.concat(write([["a".repeat(200)]], form, 1));
    const pieces = cut(data, [50]).map(message);
    const copied = walk(new CopyRows({ form, edits: [shuffle] }, 1, 100), [...pieces, done], Infinity, {
      editedRowBytesMax: 100,
    });
    expect(copied.log).toEqual(["too large", "c after 0"]);
  });
});

describe("text", () => {
  it("takes a value for a value where it could be written like NULL", () => {
    const ask = { ...textForm, nullText: "521-44-9382" };
    const mask: CellEdit = () => Buffer.from("****");
    const copied = walk(new CopyRows({ form: ask, edits: [mask] }, 1, 1e5), [message("521-44-9382\n"), message("a\n"), done]);
    expect(copied.messages).toEqual(["****\n", "****\n"]);
    const sure = walk(new CopyRows({ form: textForm, edits: [mask] }, 1, 1e5), [message("\\N\n"), message("\\\\N\n"), done]);
    expect(sure.messages).toEqual(["\\N\n", "****\n"]);
  });

  it("replaces NULL where the edit says so", () => {
    const mask: CellEdit = Object.assign(() => Buffer.from("*"), { editsNull: true });
    const copied = walk(new CopyRows({ form: textForm, edits: [null, mask] }, 2, 1e5), [message("\\N\t\\N\n"), done]);
    expect(copied.messages).toEqual(["\\N\t*\n"]);
  });
});

describe("csv", () => {
  it("quotes what it writes by that alone, never by how the value was written", () => {
    const mask: CellEdit = () => Buffer.from("****");
    const copied = walk(new CopyRows({ form: csvForm, edits: [mask] }, 1, 1e5), [message('"5,1"\n'), message("51\n"), done]);
    expect(copied.messages).toEqual(["****\n", "****\n"]);
  });

  it("ends the session over quotes that are not the server's", () => {
    for (const row of ['a"b\n', '"a"b\n', '"a" \n'])
      expect(() => walk(new CopyRows({ form: csvForm, edits: [shuffle] }, 1, 1e5), [message(row), done])).toThrow(
        /columns that were judged|cut short/,
      );
  });
});

describe("binary", () => {
  const header = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), int32(0), int32(0)]);
  const copy = (): CopyRows => new CopyRows({ form: binaryForm, edits: [shuffle] }, 1, 1e5);

  it("skips an extension of the header and refuses flags and other signatures", () => {
    const extended = Buffer.concat([header.subarray(0, 15), int32(3), Buffer.from("abc")]);
    const row = Buffer.concat([int16(1), int32(1), Buffer.from("a")]);
    expect(walk(copy(), [message(Buffer.concat([extended, row])), message(int16(-1)), done]).log).toEqual(["c after 1"]);
    const oids = Buffer.concat([header.subarray(0, 11), int32(1 << 16), int32(0)]);
    const negative = Buffer.concat([header.subarray(0, 15), int32(-1)]);
    for (const wrong of [oids, negative, Buffer.from("PGCOPX"), Buffer.from("a\tb\n")])
      expect(() => walk(copy(), [message(wrong), done])).toThrow(/binary COPY data/);
  });

  it("ends the session over data behind the end, lengths that do not fit, and a missing end", () => {
    const start = message(Buffer.concat([header, int16(1), int32(0)]));
    expect(() => walk(copy(), [start, message(int16(-1)), message("x"), done])).toThrow("behind its end");
    expect(() => walk(copy(), [start, message(int16(-2)), done])).toThrow("negative number");
    expect(() => walk(copy(), [start, message(Buffer.concat([int16(1), int32(-2)])), done])).toThrow("negative length");
    expect(() => walk(copy(), [start, done])).toThrow("cut short");
  });
});

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const size = sizes[n % sizes.length]!;
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}
