import type { MaskOperator } from "@sluice/core/snapshot.ts";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { applyOperator, maskPartAscii, REDACTED_TEXT } from "./operators.ts";

type Partial = Extract<MaskOperator, { readonly kind: "partial" }>;
const partial = (keepFirst: number, keepLast: number): Partial => ({ kind: "partial", keepFirst, keepLast });
const words = (text: string): number => text.match(/[\p{L}\p{N}\p{M}]/gu)?.length ?? 0;

describe("operators", () => {
  it("redact and null do not depend on the value", () => {
    expect(applyOperator({ kind: "redact" }, "219-05-1123")).toBe("****");
    expect(applyOperator({ kind: "redact" }, "")).toBe("****");
    expect(applyOperator({ kind: "null" }, "219-05-1123")).toBeNull();
  });

  it.each([
    ["219-05-1123", 0, 4, "***-**-1123"],
    ["219-05-1123", 2, 0, "21*-**-****"],
    ["4111 1111 1111 1234", 4, 4, "4111 **** **** 1234"],
    ["john.doe@example.com", 0, 4, "****.***@******e.com"],
    ["jürgen", 1, 1, "j****n"],
    ["नमस्ते दुनिया", 0, 2, "****** ****या"],
    ["a😀bcdefgh", 0, 1, "********h"],
    ["𝒜𝒷𝒸𝒹", 1, 1, "𝒜**𝒹"],
  ])("partial of %j keeping %i and %i", (value, first, last, expected) => {
    expect(applyOperator(partial(first, last), value)).toBe(expected);
  });

  it.each([
    ["1234567", 0, 4],
    ["12-34", 2, 2],
    ["", 0, 4],
    ["---", 0, 0],
    ["😀😀", 0, 0],
  ])("partial masks %j whole when it would keep %i and %i", (value, first, last) => {
    expect(applyOperator(partial(first, last), value)).toBe(REDACTED_TEXT);
  });

  it("partial never shows more letters and digits than asked, nor changes how many characters there are", () => {
    const any = fc.oneof(fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" }), fc.string());
    fc.assert(
      fc.property(any, fc.nat(6), fc.nat(6), (value, first, last) => {
        const masked = applyOperator(partial(first, last), value) ?? "";
        expect(words(masked)).toBeLessThanOrEqual(first + last);
        if (words(masked) > 0) expect(words(value)).toBeGreaterThanOrEqual(2 * (first + last));
        if (masked !== REDACTED_TEXT) expect(Array.from(masked)).toHaveLength(Array.from(value).length);
      }),
    );
  });

  it("partial on bytes is partial on text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary-ascii" }), fc.nat(6), fc.nat(6), (value, first, last) => {
        const source = Buffer.from(`x${value}y`);
        const masked = maskPartAscii(source, 1, source.length - 1, partial(first, last));
        expect(masked === null ? REDACTED_TEXT : masked?.toString()).toBe(applyOperator(partial(first, last), value));
        expect(source.toString()).toBe(`x${value}y`);
      }),
    );
    expect(maskPartAscii(Buffer.from("jürgen"), 0, 7, partial(0, 1))).toBeUndefined();
  });
});
