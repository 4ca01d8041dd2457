import type { CellEdit } from "@sluice/core/cell-edit.ts";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scanCell } from "./cell-edit.ts";
import { builtinDetectorNames, compileDetector } from "./detect.ts";
import { plantedText } from "./planted-text.ts";

const TEXT = 25;
const INT4 = 23;
const RECORD = 2249;
const TEXT_ARRAY = 1009;
const JSONB_ARRAY = 3807;
const JSONB = 3802;
const CITEXT = 16_500;

const rules = builtinDetectorNames.map((detector) => ({
  detector: compileDetector(detector, { kind: "builtin", detector }),
  operator: { kind: "redact" } as const,
}));

const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const value = (content: string | Buffer | null): Buffer =>
  content === null ? int(-1) : Buffer.concat([int(Buffer.byteLength(content)), Buffer.from(content)]);

/** One dimension, lower bound 1, as array_send writes it. */
function arrayOf(elementOid: number, elements: readonly (string | Buffer | null)[]): Buffer {
  const nulls = elements.includes(null) ? 1 : 0;
  return Buffer.concat([int(1), int(nulls), int(elementOid), int(elements.length), int(1), ...elements.map(value)]);
}

function recordOf(fields: readonly (readonly [number, string | Buffer | null])[]): Buffer {
  return Buffer.concat([int(fields.length), ...fields.flatMap(([typeOid, content]) => [int(typeOid), value(content)])]);
}

function edit(typeOid: number, bytes: Buffer): Buffer | null | undefined {
  const cellEdit: CellEdit | null = scanCell(rules, typeOid, "binary");
  if (cellEdit === null) throw new Error("this type passes untouched");
  const chunk = Buffer.concat([Buffer.from("9"), bytes, Buffer.from("9")]);
  return cellEdit(chunk, 1, 1 + bytes.length);
}

describe("arrays in binary", () => {
  it("replace the element that is hit", () => {
    const before = arrayOf(TEXT, ["a", "ssn 219-05-1123", null, ""]);
    expect(edit(TEXT_ARRAY, before)).toEqual(arrayOf(TEXT, ["a", "ssn ****", null, ""]));
    expect(edit(TEXT_ARRAY, arrayOf(TEXT, ["a", null]))).toBeUndefined();
    expect(edit(TEXT_ARRAY, Buffer.concat([int(0), int(0), int(TEXT)]))).toBeUndefined();
  });

  it("say that there are NULLs when an element becomes NULL", () => {
    const before = arrayOf(JSONB, ["\u0001[4111111111111111]", "\u0001[1]"]);
    expect(edit(JSONB_ARRAY, before)).toEqual(arrayOf(JSONB, [null, "\u0001[1]"]));
  });

  it("are rebuilt element by element for any texts", () => {
    const scan = scanCell(rules, TEXT, "binary");
    fc.assert(
      fc.property(fc.array(fc.option(plantedText), { maxLength: 5 }), (elements) => {
        const expected = elements.map((element) => {
          if (element === null) return null;
          const bytes = Buffer.from(element);
          const edited = scan?.(bytes, 0, bytes.length);
          return edited === undefined ? bytes : edited;
        });
        const before = arrayOf(TEXT, elements);
        expect(edit(TEXT_ARRAY, before) ?? before).toEqual(arrayOf(TEXT, expected));
      }),
      { numRuns: 300 },
    );
  });

  it("are NULL when they do not add up", () => {
    const whole = arrayOf(TEXT, ["a", "b"]);
    for (let length = 1; length < whole.length; length += 1) {
      const cut = edit(TEXT_ARRAY, whole.subarray(0, length));
      // Cut at the end of an element it is a shorter array to us: what is there was read.
      if (cut !== null) expect([20, 25]).toContain(length);
    }
    expect(edit(TEXT_ARRAY, Buffer.concat([int(9), int(0), int(TEXT), Buffer.alloc(40)]))).toBeNull();
    expect(edit(TEXT_ARRAY, Buffer.concat([int(1), int(0), int(TEXT), int(1), int(1), int(-2)]))).toBeNull();
    expect(edit(TEXT_ARRAY, Buffer.concat([int(1), int(0), int(TEXT), int(1), int(1), int(2 ** 31 - 1)]))).toBeNull();
  });
});

describe("records in binary", () => {
  it("replace the field that is hit, however deep", () => {
    const inner = (text: string): Buffer => recordOf([[TEXT, text]]);
    const before = recordOf([
      [INT4, int(7)],
      [TEXT, "info@example.org"],
      [RECORD, inner("219-05-1123")],
      [TEXT_ARRAY, arrayOf(TEXT, ["219-05-1123"])],
    ]);
    expect(edit(RECORD, before)).toEqual(
      recordOf([
        [INT4, int(7)],
        [TEXT, "****"],
        [RECORD, inner("****")],
        [TEXT_ARRAY, arrayOf(TEXT, ["****"])],
      ]),
    );
    expect(
      edit(
        RECORD,
        recordOf([
          [INT4, int(7)],
          [TEXT, "clean"],
        ]),
      ),
    ).toBeUndefined();
  });

  it("never pass a hit below the depth that is walked, and survive any depth", () => {
    let bytes: Buffer = recordOf([[TEXT, "219-05-1123"]]);
    let clean: Buffer = recordOf([[TEXT, "clean"]]);
    for (let depth = 0; depth < 200; depth += 1) {
      bytes = recordOf([[RECORD, bytes]]);
      clean = recordOf([[RECORD, clean]]);
    }
    const edited = edit(RECORD, bytes);
    expect(edited?.includes("219-05-1123")).toBe(false);
    expect(edit(RECORD, clean)).toBeUndefined();
  });

  it("are NULL when they do not add up", () => {
    const whole = recordOf([
      [TEXT, "a"],
      [TEXT, "b"],
    ]);
    for (let length = 1; length < whole.length; length += 1) expect(edit(RECORD, whole.subarray(0, length))).toBeNull();
    expect(edit(RECORD, Buffer.concat([whole, int(0)]))).toBeNull();
  });
});

describe("unknown types in binary", () => {
  it("are NULL when hit, untouched otherwise", () => {
    expect(edit(CITEXT, Buffer.from("info@example.org"))).toBeNull();
    expect(edit(CITEXT, Buffer.from("jürgen@müller.example"))).toBeNull();
    expect(edit(CITEXT, Buffer.from([0, 1, 2, 0xff, 0x31, 0x32]))).toBeUndefined();
  });

  it("are NULL whatever length stands before the value", () => {
    const planted = "219-05-1123 219051123 ssn 4111111111111111";
    for (const first of ["219-05-1123", "4111111111111111", "info@example.org"]) {
      for (let padding = 0; padding < 600; padding += 1) {
        const field = recordOf([[TEXT, `${first}${" ".repeat(padding)}`]]);
        expect(edit(CITEXT, field)).toBeNull();
      }
    }
    expect(edit(CITEXT, recordOf([[TEXT, planted]]))).toBeNull();
  });
});
