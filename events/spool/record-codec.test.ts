import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SessionId } from "@sluice/core/ids.ts";
import type { SessionRecord } from "../session-events.ts";
import { decodeRecord, encodeRecord } from "./record-codec.ts";

const LIMIT = 1024 * 1024;
const ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-".split("");

const sessionIds = fc
  .array(fc.constantFrom(...ID_LETTERS), { minLength: 22, maxLength: 22 })
  .map((letters) => `s_${letters.join("")}` as SessionId); // shaped like one

const bodies = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes) => ({ kind: "released" as const, bytes: Buffer.from(bytes) })),
  fc.tuple(fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(), { minLength: 1, maxLength: 3 })).map(([bytes, rows]) => ({
    kind: "released" as const,
    bytes: Buffer.from(bytes),
    finished: rows.map((count, index) => ({ number: index + 1, ok: true, tag: `SELECT ${count}`, rows: count })),
  })),
  fc.record({ text: fc.string({ unit: "binary" }), parameter: fc.option(fc.string()) }).map(({ text, parameter }) => ({
    kind: "statement" as const,
    statement: { number: 1, phase: "query" as const, text, parameters: [parameter], decision: { effect: "allow", rules: [] } },
  })),
  fc.constant({ kind: "closed" as const, closed: { code: "ok", statements: 1, denied: 0, masked: 0 } }),
  fc.string().map((message) => ({ kind: "alert" as const, alert: { code: "c", message } })),
);

const records: fc.Arbitrary<SessionRecord> = fc
  .tuple(sessionIds, fc.nat(), fc.integer({ min: 0, max: 2 ** 45 }), bodies)
  .map(([sessionId, sequence, atMs, body]) => ({ sessionId, sequence, atMs, ...body }));

function encodedBytes(record: SessionRecord): Buffer {
  const encoded = encodeRecord(record);
  return Buffer.concat([encoded.head, encoded.raw ?? Buffer.alloc(0)]);
}

describe("record codec", () => {
  test("what is encoded is decoded, one after the other", () => {
    fc.assert(
      fc.property(fc.array(records, { maxLength: 6 }), (list) => {
        const bytes = Buffer.concat(list.map(encodedBytes));
        const decoded: SessionRecord[] = [];
        let at = 0;
        while (at < bytes.length) {
          const next = decodeRecord(bytes, at, LIMIT);
          if (next.kind !== "record") throw new Error(next.kind);
          decoded.push(next.record);
          at = next.end;
        }
        expect(decoded).toEqual(list);
      }),
    );
  });

  test("every proper prefix is incomplete", () => {
    fc.assert(
      fc.property(records, (record) => {
        const bytes = encodedBytes(record);
        for (let length = 0; length < bytes.length; length++)
          expect(decodeRecord(bytes.subarray(0, length), 0, LIMIT)).toEqual({ kind: "incomplete" });
      }),
      { numRuns: 20 },
    );
  });

  test("no flipped bit yields a record", () => {
    fc.assert(
      fc.property(records, fc.nat(), fc.nat(7), (record, where, bit) => {
        const bytes = encodedBytes(record);
        const at = where % bytes.length;
        bytes[at] = bytes[at]! ^ (1 << bit);
        expect(decodeRecord(bytes, 0, LIMIT).kind).not.toBe("record");
      }),
      { numRuns: 300 },
    );
  });

  test("released bytes are not copied", () => {
    const bytes = Buffer.from("DATA");
    const encoded = encodeRecord({
      sessionId: "s_0123456789012345678901" as SessionId, // shaped like one
      sequence: 0,
      atMs: 1,
      kind: "released",
      bytes,
    });
    expect(encoded.raw).toBe(bytes);
  });

  test("a declared length above the limit is refused before anything else is looked at", () => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32BE(0xffffffff);
    expect(decodeRecord(bytes, 0, LIMIT)).toEqual({ kind: "corrupt", reason: "a record declares an impossible length" });
  });
});
