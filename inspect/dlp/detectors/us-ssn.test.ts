import { describe, expect, it } from "vitest";
import { findUsSsn } from "./us-ssn.ts";

const found = (text: string): readonly string[] => findUsSsn(text).map(({ start, end }) => text.slice(start, end));

describe("social security numbers", () => {
  it.each([
    ["123-45-6789", ["123-45-6789"]],
    ["abc 219 05 1123 abc", ["219 05 1123"]],
    ["219.05.1123", ["219.05.1123"]],
    ["219\u201105\u20111123", ["219\u201105\u20111123"]],
    ["one 219-05-1123, two 220-05-1123", ["219-05-1123", "220-05-1123"]],
    ["号码219-05-1123。", ["219-05-1123"]],
    ["ref_219-05-1123_x", ["219-05-1123"]],
    ["2024-219-05-1123", ["219-05-1123"]],
  ])("finds %j", (text, expected) => expect(found(text)).toEqual(expected));

  it.each([
    ["an area never issued", "000-12-3456 666-12-3456 900-12-3456 987-65-4321"],
    ["a group or serial of zeros", "219-00-1123 219-05-0000"],
    ["mixed separators", "219-05.1123 219-05 1123"],
    ["a longer number", "1219-05-1123 219-05-11234"],
    ["part of a word", "A219-05-1123 219-05-1123B"],
    ["a dotted number that goes on", "1.219.05.1123 219.05.1123.7"],
    ["bare digits and postal codes", "219051123 07805-1121 219-051123"],
    ["a date and a time", "2026-01-10 12:34:56.789+00"],
  ])("passes over %s", (_, text) => expect(found(text)).toEqual([]));

  it.each([
    ["ssn 219051123", ["219051123"]],
    ['{"customerSsn": "219051123"}', ["219051123"]],
    ["ssn_number=219051123", ["219051123"]],
    ["219051123 is my Social Security number", ["219051123"]],
    ["socialSecurityNumber: 21905-1123", ["21905-1123"]],
    ["SSN219-05-1123", ["219-05-1123"]],
    ["soc. sec. 219-051123", ["219-051123"]],
  ])("takes other groupings beside a word that says so: %j", (text, expected) => expect(found(text)).toEqual(expected));

  it.each([
    ["class name 219051123"],
    ["lessn 219051123"],
    [`ssn ${"x".repeat(60)} 219051123`],
    ["ssn 000051123"],
    ["[US_SSN] 219051123"],
  ])("does not take them otherwise: %j", (text) => expect(found(text)).toEqual([]));
});
