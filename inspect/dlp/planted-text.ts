/** Texts for property tests: values that detectors look for, near-misses and separators, mixed with anything at all. */
import * as fc from "fast-check";

export const plantedValues = [
  "219-05-1123",
  "219 05 1123",
  "219\u201105\u20111123",
  "ssn 219051123",
  "4111111111111111",
  "4111 1111 1111 1111",
  "4111\u00a01111\u00a01111\u00a01111",
  "3782-822463-10005",
  "info@example.org",
  "jürgen@müller.example",
] as const;

const nearMisses = [
  "219-05-11234",
  "1.219.05.1123",
  "4111111111111112",
  "a@b",
  "12",
  "123",
  "4111",
  "2026-01-10",
  "ssn",
  "[US_SSN]",
];
const glue = [" ", "-", ".", ",", "@", "'", "é", "😀", "\n", "\u00a0", "x", "0", "_"];

/** Characters of any kind, without lone surrogates (they have no UTF-8). */
export const plantedText: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom(...plantedValues),
      fc.constantFrom(...nearMisses),
      fc.constantFrom(...glue),
      fc.string({ unit: "grapheme", maxLength: 6 }),
      fc.string({ unit: fc.constantFrom(...Array.from("0123456789- .@a")), maxLength: 24 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));
