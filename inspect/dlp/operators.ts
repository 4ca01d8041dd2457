/**
 * Mask operators on text: what a caller sees in place of a protected value. Pure; the result of `redact` and `null` does not
 * depend on the value, not even on its length. They never look at who asks: policy has chosen by then.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";

/** Stands for a whole value. No letters or digits, so that no detector and no person takes it for data. */
export const REDACTED_TEXT = "****";

const WORD = /^[\p{L}\p{N}\p{M}]$/u;
/** What may stay beside masked letters: spaces and dashes of any script, ASCII punctuation, line ends. */
const SEPARATOR = /^[\p{Zs}\p{Pd}\p{ASCII}]$/u;

/**
 * Applies the operator to one value. Returns null for SQL NULL.
 * `partial` keeps the first and last letters and digits (code points; separators are not counted and stay), the rest becomes
 * `*`; a value with fewer than twice as many letters and digits as would stay is masked whole.
 */
export function applyOperator(operator: MaskOperator, value: string): string | null {
  switch (operator.kind) {
    case "redact":
      return REDACTED_TEXT;
    case "null":
      return null;
    case "partial":
      return maskPart(value, operator.keepFirst, operator.keepLast);
    default:
      return assertNever(operator);
  }
}

function maskPart(value: string, keepFirst: number, keepLast: number): string {
  let words = 0;
  for (const character of value) words += isWord(character) ? 1 : 0;
  if (words === 0 || words < 2 * (keepFirst + keepLast)) return REDACTED_TEXT;
  let seen = 0;
  let masked = "";
  for (const character of value) {
    if (!isWord(character)) {
      // Emoji and other symbols can carry as much as letters do.
      masked += SEPARATOR.test(character) ? character : "*";
      continue;
    }
    seen += 1;
    masked += seen <= keepFirst || seen > words - keepLast ? character : "*";
  }
  return masked;
}

function isWord(character: string): boolean {
  const code = character.charCodeAt(0);
  return code < 0x80 ? wordBytes[code] === 1 : WORD.test(character);
}

const STAR = 0x2a;
const wordBytes: Uint8Array = new Uint8Array(128);
wordBytes.fill(1, 0x30, 0x3a).fill(1, 0x41, 0x5b).fill(1, 0x61, 0x7b);

/**
 * The same as `partial` on ASCII bytes, without strings: this runs for every cell of a masked column. Returns the masked bytes,
 * null when the value is to be masked whole, undefined when a byte is not ASCII.
 */
export function maskPartAscii(
  source: Buffer,
  start: number,
  end: number,
  operator: Extract<MaskOperator, { readonly kind: "partial" }>,
): Buffer | null | undefined {
  const { keepFirst, keepLast } = operator;
  let words = 0;
  for (let at = start; at < end; at += 1) {
    const byte = source[at]!; // inside the bounds of the loop
    if (byte >= 0x80) return undefined;
    words += wordBytes[byte]!; // the table has all below 0x80
  }
  if (words === 0 || words < 2 * (keepFirst + keepLast)) return null;
  const masked = Buffer.allocUnsafe(end - start); // every byte is written below
  const lastMasked = words - keepLast;
  let seen = 0;
  for (let at = start; at < end; at += 1) {
    const byte = source[at]!; // inside the bounds of the loop
    const word = wordBytes[byte]!; // the table has all below 0x80, and the first loop saw no others
    seen += word;
    masked[at - start] = word === 1 && seen > keepFirst && seen <= lastMasked ? STAR : byte;
  }
  return masked;
}
