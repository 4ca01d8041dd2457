/** Cells of COPY, whose types nobody names: never more than a result would show, and never a text where it may not stand. */
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { describe, expect, it } from "vitest";
import type { ScanRule } from "./cell-edit.ts";
import { maskCopied, scanCopied } from "./copied-cell.ts";
import { builtinDetectorNames, compileDetector } from "./detect.ts";

const LAST_FOUR: MaskOperator = { kind: "partial", keepFirst: 0, keepLast: 4 };
const rules: readonly ScanRule[] = builtinDetectorNames.map((detector) => ({
  detector: compileDetector(detector, { kind: "builtin", detector }),
  operator: { kind: "redact" },
}));

const TEXT = 25;
const INT4 = 23;
const JSON_TYPE = 114;
const USERS = 16_500;

describe("a protected cell of COPY", () => {
  it.each<[string, MaskOperator, number | undefined, "text" | "binary", string | null]>([
    ["text", LAST_FOUR, TEXT, "text", "***-**-1123"],
    ["text in binary", LAST_FOUR, TEXT, "binary", "***-**-1123"],
    ["text, redacted", { kind: "redact" }, TEXT, "text", "****"],
    ["json", LAST_FOUR, JSON_TYPE, "text", '"****"'],
    ["a number", LAST_FOUR, INT4, "text", null],
    ["a type of a user's", LAST_FOUR, USERS, "text", null],
    ["a derived value", LAST_FOUR, undefined, "text", null],
    ["a derived value in binary", { kind: "redact" }, undefined, "binary", null],
  ])("%s", (_name, operator, typeOid, format, expected) => {
    const value = Buffer.from("219-05-1123");
    const edited = maskCopied(operator, typeOid, format)(value, 0, value.length);
    expect(edited === null ? null : edited?.toString()).toBe(expected);
  });
});

describe("a searched cell of COPY of which no type is known", () => {
  it.each<[string, string, string | null | undefined]>([
    ["text", "mail info@example.org now", "mail **** now"],
    ["text without a hit", "nothing here 12345", undefined],
    ["JSON", '{"mail":"info@example.org","n":1}', '{"mail":"****","n":1}'],
    ["JSON with an escape", '{"mail":"info\\u0040example.org"}', '{"mail":"****"}'],
    ["JSON with a number", '{"n":4111111111111111}', null],
    ["a JSON string", '"info@example.org"', '"****"'],
    ["an array", '{info@example.org,"b c"}', '{****,"b c"}'],
    ["an array of JSON with an escape", '{"{\\"m\\":\\"info\\\\u0040example.org\\"}"}', null],
    ["a record of three", "(info@example.org,2,3)", "(****,2,3)"],
    ["a record that may be a range", "(info@example.org,zz)", null],
    ["a range", "[info@example.org,zz)", null],
    ["a multirange", "{[info@example.org,zz)}", null],
    ["a number", "4111111111111111", null],
    ["a number with decimals", "-4111111111111111.50", null],
    ["XML", "<a>info@example.org</a>", null],
    ["XML with references", "<a>info&#64;example.org</a>", null],
    ["text with references", "info&#x40;example.org", null],
  ])("%s", (_name, text, expected) => {
    const value = Buffer.from(text);
    const edited = scanCopied(rules, undefined, "text")!(value, 0, value.length);
    expect(edited === null || edited === undefined ? edited : edited.toString()).toBe(expected);
  });

  it("in binary, becomes NULL over a hit anywhere in it", () => {
    const edit = scanCopied(rules, undefined, "binary")!;
    for (const [text, expected] of [
      ["\u0000\u0001info@example.org\u0002", null],
      ["\u0000\u0001nothing\u0002", undefined],
    ] as const) {
      const value = Buffer.from(text);
      expect(edit(value, 0, value.length)).toBe(expected);
    }
  });

  it("passes where the type is known to hold no text", () => {
    expect(scanCopied(rules, INT4, "text")).toBeNull();
    expect(scanCopied([], undefined, "text")).toBeNull();
  });
});
