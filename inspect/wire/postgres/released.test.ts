import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeError, encodeNotice } from "./errors.ts";
import { cstring, encodeMessage, int16, int32 } from "./frames.ts";
import { ReleasedDecoder, type ReleasedItem } from "./released.ts";
import { dataRow } from "./testing/scripted-server.ts";

function column(name: string, typeOid: number, format: number): Buffer {
  return Buffer.concat([cstring(name), int32(0), int16(0), int32(typeOid), int16(4), int32(-1), int16(format)]);
}

const stream = Buffer.concat([
  encodeMessage("Z", [Buffer.from("I")]),
  encodeMessage("T", [int16(2), column("name", 25, 0), column("number", 23, 1)]),
  encodeMessage("D", [int16(2), int32(3), Buffer.from("añ"), int32(4), int32(5)]),
  dataRow(null, "1234"),
  encodeMessage("C", [cstring("SELECT 2")]),
  encodeNotice({ severity: "NOTICE", sqlState: "00000", message: "careful" }),
  encodeError({ severity: "ERROR", sqlState: "42501", message: "no", detail: "{}", hint: "ask", position: 7 }),
  encodeMessage("d", [Buffer.from("1\tx\n")]),
  encodeMessage("d", [Buffer.from([0xff, 0x00])]),
  encodeMessage("T", [int16(9)]),
  encodeMessage("C", [cstring("COPY 2")]),
]);
const expected: ReleasedItem[] = [
  {
    kind: "columns",
    columns: [
      { name: "name", typeOid: 25, format: "text" },
      { name: "number", typeOid: 23, format: "binary" },
    ],
  },
  { kind: "row", values: ["añ", "\\x00000005"] },
  { kind: "row", values: [null, "\\x31323334"] },
  { kind: "complete", tag: "SELECT 2" },
  { kind: "notice", fields: { severity: "NOTICE", sqlState: "00000", message: "careful" } },
  {
    kind: "error",
    fields: { severity: "ERROR", sqlState: "42501", message: "no", detail: "{}", hint: "ask", position: "7" },
  },
  { kind: "copy", text: "1\tx\n" },
  { kind: "copy", text: "\\xff00" },
  { kind: "complete", tag: "COPY 2" },
];

describe("ReleasedDecoder", () => {
  it("reads back what was released, in any pieces", () => {
    expect(new ReleasedDecoder().push(stream)).toEqual(expected);
    for (let at = 0; at <= stream.length; at++) {
      const decoder = new ReleasedDecoder();
      expect([...decoder.push(stream.subarray(0, at)), ...decoder.push(stream.subarray(at))]).toEqual(expected);
    }
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), (size) => {
        const decoder = new ReleasedDecoder();
        const items: ReleasedItem[] = [];
        for (let at = 0; at < stream.length; at += size) items.push(...decoder.push(stream.subarray(at, at + size)));
        expect(items).toEqual(expected);
      }),
    );
  });

  it("shows a note in place of a huge row and goes on behind it", () => {
    const huge = dataRow("x".repeat(2 * 1024 * 1024));
    const items = new ReleasedDecoder().push(Buffer.concat([huge, encodeMessage("C", [cstring("SELECT 1")])]));
    expect(items).toEqual([
      { kind: "row", values: ["[row of 2097158 bytes, not shown]"] },
      { kind: "complete", tag: "SELECT 1" },
    ]);
  });

  it("shows values by their bytes when no description says what they are", () => {
    const row = encodeMessage("D", [int16(2), int32(2), Buffer.from("ok"), int32(2), Buffer.from([0, 1])]);
    expect(new ReleasedDecoder().push(row)).toEqual([{ kind: "row", values: ["ok", "\\x0001"] }]);
  });

  it("throws where bytes are no messages", () => {
    expect(() => new ReleasedDecoder().push(Buffer.from([0x44, 0, 0, 0, 1]))).toThrow(/do not hold together/);
  });
});
