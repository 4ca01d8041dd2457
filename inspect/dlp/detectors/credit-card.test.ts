import { describe, expect, it } from "vitest";
import { findCreditCards } from "./credit-card.ts";

const found = (text: string): readonly string[] => findCreditCards(text).map(({ start, end }) => text.slice(start, end));

/** The schemes' own published test numbers. */
const published = [
  "4111111111111111",
  "4222222222222",
  "5555555555554444",
  "2223003122003222",
  "378282246310005",
  "6011111111111117",
  "3530111333300000",
  "30569309025904",
  "6304000000000000",
  "2200000000000004",
  "5019717010103742",
  "122000000000003",
];

describe("card numbers", () => {
  it.each(published)("finds %s, bare and in a sentence", (number) => {
    expect(found(number)).toEqual([number]);
    expect(found(`pay with ${number}, please`)).toEqual([number]);
    expect(found(`{"pan":"${number}"}`)).toEqual([number]);
  });

  it.each([
    ["4111 1111 1111 1111"],
    ["4111-1111-1111-1111"],
    ["3782 822463 10005"],
    ["3056 930902 5904"],
    ["4222 2222 2222 2"],
    ["4111\u00a01111\u00a01111\u00a01111"],
    ["6304 0000 0000 0000"],
  ])("finds groups: %j", (number) => expect(found(`card ${number}.`)).toEqual([number]));

  it("finds several, also beside other numbers", () => {
    expect(found("4111111111111111 4111-1111-1111-1111")).toEqual(["4111111111111111", "4111-1111-1111-1111"]);
    expect(found("invoice 1234 4111 1111 1111 1111")).toEqual(["4111 1111 1111 1111"]);
  });

  it.each([
    ["a wrong check digit", "4111111111111112 4111-1111-1111-1112"],
    ["an issuer that does not exist", "7111111111111116 0000000000000000"],
    ["a length the issuer does not have", "41111111111111111111 378282246310005000"],
    ["a hash", "d41d8cd98f00b204e9800998ecf8427e a4111111111111111 4111111111111111f"],
    ["a longer run of digits", "94111111111111111111111"],
    ["a UUID", "41111111-1111-4111-8111-111111111111 00000000-4111-1111-1111-111100000000"],
    ["a decimal fraction", "0.4111111111111111"],
    ["two separators", "4111  1111  1111  1111"],
    ["a time in milliseconds", "1748503543012 2026-01-10 12:34:56.789012"],
  ])("passes over %s", (_, text) => expect(found(text)).toEqual([]));

  it("reads a long text of digits in linear time", () => {
    const started = performance.now();
    expect(found("1234 ".repeat(200_000))).toEqual([]);
    expect(found("4".repeat(1_000_000))).toEqual([]);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});
