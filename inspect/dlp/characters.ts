/**
 * Character tests on UTF-16 code units that several detectors share. Tables and comparisons only: they run for every
 * character of a candidate, so they never build strings.
 */

export function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** ASCII letter or digit. Other scripts do not count: in text without spaces a number stands right beside a letter. */
export function isAsciiAlphanumeric(code: number): boolean {
  return isDigit(code) || isAsciiLetter(code);
}

export function isAsciiLetter(code: number): boolean {
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x7a;
}

/** What people and word processors put between groups of digits: spaces (also no-break) and hyphens (also typographic). */
export function isGroupSeparator(code: number): boolean {
  if (code < 0x80) return code === 0x20 || code === 0x2d;
  if (code === 0xa0 || code === 0x2007 || code === 0x202f || code === 0x2212) return true;
  return code >= 0x2010 && code <= 0x2015;
}

/** Code unit at an offset, -1 outside the text: no offset check is needed at the edges. */
export function codeAt(text: string, index: number): number {
  return index >= 0 && index < text.length ? text.charCodeAt(index) : -1;
}
