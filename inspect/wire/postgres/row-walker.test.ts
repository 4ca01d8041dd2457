import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { ColumnPlan } from "../judgement.ts";
import { cstring, encodeMessage, int16, int32 } from "./frames.ts";
import { type RowMode, RowWalker } from "./row-walker.ts";
import { dataRow } from "./testing/scripted-server.ts";

const limits = { targetFrameBytesMax: 10_000, editedRowBytesMax: 10_000 };

/** Walks chunks; control messages are released as they are, and `mode` holds for all rows. */
function walk(chunks: readonly Buffer[], mode: RowMode): { out: Buffer; log: string[]; pieces: Buffer[] } {
  const pieces: Buffer[] = [];
  const log: string[] = [];
  let swallow = false;
  const walker: RowWalker = new RowWalker(
    {
      control: (frame) => {
        log.push(`${String.fromCharCode(frame.type)} after ${walker.takeRows()}`);
        pieces.push(frame.bytes);
      },
      beginRows: () => (swallow ? { kind: "swallow" } : mode),
      rowsExceeded: () => {
        swallow = true;
        log.push("exceeded");
      },
      rowTooLarge: () => {
        swallow = true;
        log.push("too large");
      },
      release: (bytes) => pieces.push(bytes),
    },
    limits,
  );
  for (const chunk of chunks) {
    const before = pieces.length;
    const lent = Buffer.from(chunk);
    walker.push(lent);
    for (let at = before; at < pieces.length; at++) pieces[at] = Buffer.from(pieces[at]!); // copied at once, as a session does
    lent.fill(0xee); // the memory of reads is used again
  }
  expect(walker.insideReleasedRow).toBe(false);
  return { out: Buffer.concat(pieces), log, pieces };
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const size = sizes[n % sizes.length]!;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

const edits: ColumnPlan = [
  null,
  (source, start, end) => (source[start] === 0x31 ? undefined : Buffer.from("*".repeat((end - start) % 5))),
  (_source, start, end) => (end - start > 3 ? null : undefined),
];
const rows = [
  dataRow("a", "123", "x"),
  dataRow("b", "999999", "long"),
  dataRow(null, null, null),
  dataRow("", "", ""),
  dataRow("ü", "2", "abcd"),
];
const complete = encodeMessage("C", [cstring("SELECT 5")]);
const notice = encodeMessage("N", [Buffer.from([0])]);
const stream = Buffer.concat([rows[0]!, rows[1]!, notice, rows[2]!, rows[3]!, rows[4]!, complete]);

const modes: readonly (readonly [string, RowMode])[] = [
  ["untouched", { kind: "release", edits: null, rowsLeft: Infinity }],
  ["edited", { kind: "release", edits, rowsLeft: Infinity }],
  ["swallowed", { kind: "swallow" }],
  ["untouched up to two", { kind: "release", edits: null, rowsLeft: 2 }],
  ["edited up to one", { kind: "release", edits, rowsLeft: 1 }],
];

describe("RowWalker", () => {
  it.each(modes)("gives the same at every split: %s", (_name, mode) => {
    const whole = walk([stream], mode);
    for (let at = 0; at <= stream.length; at++) {
      const split = walk([stream.subarray(0, at), stream.subarray(at)], mode);
      expect(split.out).toEqual(whole.out);
      expect(split.log).toEqual(whole.log);
    }
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 20 }), (sizes) => {
        const split = walk(cut(stream, sizes), mode);
        expect(split.out).toEqual(whole.out);
        expect(split.log).toEqual(whole.log);
      }),
      { numRuns: 100 },
    );
  });

  it("forwards rows that nobody edits as one view of the chunk", () => {
    const chunk = Buffer.concat([...rows, complete]);
    const { pieces, log } = walk([chunk], modes[0]![1]);
    expect(pieces).toHaveLength(2);
    expect(pieces[0]!.buffer).toBe(chunk.buffer);
    expect(log).toEqual(["C after 5"]);
  });

  it("rebuilds edited rows", () => {
    const { out } = walk([stream], modes[1]![1]);
    const expected = [
      dataRow("a", "123", "x"),
      dataRow("b", "*", null),
      notice,
      dataRow(null, null, null),
      dataRow("", "", ""),
      dataRow("ü", "*", null),
      complete,
    ];
    expect(out).toEqual(Buffer.concat(expected));
  });

  it("replaces NULL where the edit says so, and nowhere else", () => {
    const constant: CellEdit = Object.assign(() => Buffer.from("****"), { editsNull: true });
    const toNull: CellEdit = Object.assign(() => null, { editsNull: true });
    const mode: RowMode = { kind: "release", edits: [constant, toNull, () => Buffer.from("!")], rowsLeft: Infinity };
    const { out } = walk([Buffer.concat([dataRow(null, null, null), dataRow("a", "b", "c"), complete])], mode);
    expect(out).toEqual(Buffer.concat([dataRow("****", null, null), dataRow("****", null, "!"), complete]));
  });

  it("does not write to what it received", () => {
    const chunk = Buffer.from(stream);
    walk([chunk], modes[1]![1]);
    expect(chunk).toEqual(stream);
  });

  it("fills many slabs without touching what was released", () => {
    const many = Array.from({ length: 4000 }, (_, index) => dataRow("k", `9${index}`, "y".repeat(40)));
    const { out } = walk([Buffer.concat([...many, complete])], modes[1]![1]);
    const expected = many.map((_, index) => dataRow("k", "*".repeat(`9${index}`.length % 5), null));
    expect(out.equals(Buffer.concat([...expected, complete]))).toBe(true);
  });

  it("lets a row of any size through unless it is edited", () => {
    const large = dataRow("x".repeat(50_000), "9", "z");
    expect(walk(cut(large, [700]), modes[0]![1]).out.equals(large)).toBe(true);
    const edited = walk(cut(Buffer.concat([rows[0]!, large, rows[0]!, complete]), [700]), modes[1]![1]);
    expect(edited.log).toEqual(["too large", "C after 1"]);
    expect(edited.out).toEqual(Buffer.concat([rows[0]!, complete]));
  });

  it.each([
    ["a control message above the limit", Buffer.from([0x54, 0, 1, 0, 0])],
    ["an impossible length", Buffer.from([0x44, 0, 0, 0, 3])],
    ["a length above PostgreSQL's", Buffer.from([0x44, 0xff, 0xff, 0xff, 0xff])],
    ["fewer columns than planned", encodeMessage("D", [int16(2), int32(-1), int32(-1)])],
    ["a cell longer than its row", encodeMessage("D", [int16(3), int32(-1), int32(-1), int32(9), Buffer.from("x")])],
    ["a negative cell", encodeMessage("D", [int16(3), int32(-1), int32(-1), int32(-2)])],
    ["bytes behind the last cell", encodeMessage("D", [int16(3), int32(-1), int32(-1), int32(-1), Buffer.from("x")])],
    ["COPY data where rows are edited", encodeMessage("d", [Buffer.from("x")])],
  ])("throws at %s, whole or in pieces", (_name, bytes) => {
    for (const chunks of [[bytes], cut(bytes, [1])])
      expect(() => walk(chunks, modes[1]![1])).toThrow(expect.objectContaining({ code: "target_protocol" }));
  });
});
