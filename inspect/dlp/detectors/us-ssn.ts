/**
 * United States Social Security numbers: AAA-GG-SSSS with one kind of separator throughout. Other groupings (nine bare digits,
 * 3-6, 5-4 as in ZIP+4) are ordinary numbers, so they count only beside words that say what they are.
 * Issuing rules: https://www.ssa.gov/employer/randomization.html (area never 000, 666, 9xx; group never 00; serial never 0000).
 */
import { codeAt, isAsciiAlphanumeric, isDigit } from "../characters.ts";
import { hasContext } from "../context.ts";
import type { Span } from "../span.ts";

/** The separator class: space, full stop, hyphen, and their no-break and typographic forms. */
const SEPARATOR = "[ .\\-\\u00a0\\u2007\\u202f\\u2010-\\u2015\\u2212]";
const SHAPES: RegExp = new RegExp(
  `(?<!\\d)(?:\\d{3}(${SEPARATOR})\\d{2}\\1\\d{4}|\\d{9}|\\d{3}-\\d{6}|\\d{5}-\\d{4})(?!\\d)`,
  "gu",
);
/** Not within a longer word in small letters ("class name" has ssn in it), but `customerSsn` and `ssn_number` are meant. */
const ABBREVIATION = /(?:(?<![A-Za-z])[Ss][Ss][Nn]|(?<![A-Z])S[Ss][Nn])[Ss]?(?![a-z])/u;
const WORDS = /soc(?:ial)?[\s_.-]{0,2}sec(?:urity)?/iu;

/** Finds the numbers in a text. */
export function findUsSsn(text: string): readonly Span[] {
  const found: Span[] = [];
  for (const match of text.matchAll(SHAPES)) {
    const span = { start: match.index, end: match.index + match[0].length };
    if (mayBeIssued(match[0]) && standsAlone(text, span, match[1])) found.push(span);
  }
  return found;
}

function mayBeIssued(shape: string): boolean {
  const digits = shape.replaceAll(/\D/gu, "");
  const area = digits.slice(0, 3);
  return area !== "000" && area !== "666" && area < "900" && digits.slice(3, 5) !== "00" && digits.slice(5) !== "0000";
}

function standsAlone(text: string, span: Span, separator: string | undefined): boolean {
  const before = codeAt(text, span.start - 1);
  const after = codeAt(text, span.end);
  const glued = isAsciiAlphanumeric(before) || isAsciiAlphanumeric(after);
  // An object identifier or a version in dots goes on in dots.
  const dotted = separator === "." && (continuesDotted(text, span.start - 1, -1) || continuesDotted(text, span.end, 1));
  if (separator !== undefined && !glued && !dotted) return true;
  return !isAsciiAlphanumeric(after) && saysSocialSecurity(text, span);
}

function continuesDotted(text: string, at: number, step: number): boolean {
  return codeAt(text, at) === 0x2e && isDigit(codeAt(text, at + step));
}

function saysSocialSecurity(text: string, span: Span): boolean {
  return hasContext(text, span, ABBREVIATION, "US_SSN") || hasContext(text, span, WORDS, "US_SSN");
}
