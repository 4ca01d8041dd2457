/**
 * Payment card numbers: 13 to 19 digits, bare or in groups with single separators, an issuer's prefix with a length it issues,
 * a valid check digit. A run of digits that goes on (letters, further digits) is no card: hashes and UUIDs stay as they are.
 * Sources: ISO/IEC 7812-1 (structure, check digit); the schemes' published ranges (table below).
 */
import { codeAt, isAsciiAlphanumeric, isDigit, isGroupSeparator } from "../characters.ts";
import { luhnValid } from "../luhn.ts";
import type { Span } from "../span.ts";

const DIGITS_MIN = 13;
const DIGITS_MAX = 19;

/** Finds the numbers in a text. Looks at each character a bounded number of times. */
export function findCreditCards(text: string): readonly Span[] {
  const found: Span[] = [];
  let at = 0;
  while (at < text.length) {
    if (!isDigit(text.charCodeAt(at))) {
      at += 1;
      continue;
    }
    const end = startsFresh(text, at) ? cardEnd(text, at) : -1;
    if (end !== -1) found.push({ start: at, end });
    at = end === -1 ? runEnd(text, at) : end;
  }
  return found;
}

/** Not the tail of a word, of a hash, or of a decimal fraction such as 0.4111111111111111. */
function startsFresh(text: string, at: number): boolean {
  const before = codeAt(text, at - 1);
  if (isAsciiAlphanumeric(before)) return false;
  return !(before === 0x2e && isDigit(codeAt(text, at - 2)));
}

/** End of the longest card that starts at `start`, -1 for none. */
function cardEnd(text: string, start: number): number {
  let best = -1;
  let digits = 0;
  let firstGroup = 0;
  let at = start;
  while (true) {
    const groupEnd = runEnd(text, at);
    const group = groupEnd - at;
    digits += group;
    if (digits > DIGITS_MAX || (firstGroup > 0 && !followsAs(firstGroup, group))) return best;
    if (digits >= DIGITS_MIN && isCard(text, start, groupEnd, digits)) best = groupEnd;
    if (firstGroup === 0) firstGroup = group;
    // Cards are printed as 4-4-4-4, 4-6-5, 4-6-4, 4-4-4-4-3, 6-13; short middle groups are dates and times.
    const mayGoOn = (firstGroup === 4 || firstGroup === 6) && (at === start || group >= 3);
    if (!mayGoOn || !isGroupSeparator(codeAt(text, groupEnd)) || !isDigit(codeAt(text, groupEnd + 1))) return best;
    at = groupEnd + 1;
  }
}

function followsAs(firstGroup: number, group: number): boolean {
  return firstGroup === 6 ? group >= 7 && group <= 13 : group <= 7;
}

function isCard(text: string, start: number, end: number, digits: number): boolean {
  if (isAsciiAlphanumeric(codeAt(text, end))) return false;
  return issues(Number(text.slice(start, start + 4)), digits) && luhnValid(text, start, end);
}

/** Which prefixes issue which lengths. The first group always has four digits or more, so a prefix of four is at hand. */
function issues(prefix: number, digits: number): boolean {
  const first = Math.floor(prefix / 1000);
  const two = Math.floor(prefix / 100);
  switch (first) {
    case 1: // UATP
      return digits === 15;
    case 2: // Mastercard 2221-2720, Mir 2200-2205
      return prefix <= 2205 ? prefix >= 2200 && digits >= 16 : prefix >= 2221 && prefix <= 2720 && digits === 16;
    case 3:
      if (two === 34 || two === 37) return digits === 15; // American Express
      if (prefix >= 3528 && prefix <= 3589) return digits >= 16; // JCB
      // Diners Club 300-305, 3095, 36, 38, 39
      return (two === 36 || two >= 38 || (prefix >= 3000 && prefix <= 3059) || prefix === 3095) && digits >= 14;
    case 4: // Visa
      return digits === 13 || digits === 16 || digits === 19;
    case 5: // Mastercard 51-55; Maestro, Dankort, Elo, Verve 50, 56-58
      return two >= 51 && two <= 55 ? digits === 16 : two !== 59;
    case 6: // Discover, UnionPay, Maestro, RuPay, InterPayment: lengths differ within a prefix
      return true;
    case 8: // RuPay 81, 82; UnionPay 81
      return (two === 81 || two === 82) && digits >= 16;
    case 9: // Troy
      return prefix === 9792 && digits === 16;
    default:
      return false;
  }
}

function runEnd(text: string, start: number): number {
  let at = start;
  while (at < text.length && isDigit(text.charCodeAt(at))) at += 1;
  return at;
}
