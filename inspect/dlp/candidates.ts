/**
 * The look at raw bytes that decides whether a cell is worth a string: most cells hold neither an at sign nor digits in the
 * groups of a number we know. One pass, no allocation. It may say "maybe" too often, never "no" where a detector would hit:
 * every detector that names its `needs` is tested against it.
 */

/** Bits of what the bytes hold; detectors name theirs as `needs`. */
export const HAS_AT_SIGN = 1;
/** Digits grouped 3-2-4, or 9, 3-6, 5-4 with room for a word beside them. */
export const HAS_SSN_SHAPE = 2;
/** Thirteen digits or more, bare or with separators between. */
export const HAS_CARD_SHAPE = 4;
/** A backslash: JSON may spell any character as an escape. */
export const HAS_BACKSLASH = 8;
/** An ampersand: XML may spell any character as a reference. */
export const HAS_AMPERSAND = 16;
/** A byte above 0x7f: the text is not ASCII, offsets in bytes and characters differ. */
export const HAS_HIGH_BYTE = 32;

const OTHER = 0;
const DIGIT = 1;
const SEPARATOR = 2;
const HIGH = 3;
const MARK = 4;

const classOf: Uint8Array = new Uint8Array(256);
const bitOf: Uint8Array = new Uint8Array(256);
classOf.fill(DIGIT, 0x30, 0x3a);
classOf.fill(HIGH, 0x80);
for (const [character, bit] of [
  ["@", HAS_AT_SIGN],
  ["\\", HAS_BACKSLASH],
  ["&", HAS_AMPERSAND],
] as const) {
  classOf[character.charCodeAt(0)] = MARK;
  bitOf[character.charCodeAt(0)] = bit;
}
for (const character of " .-") classOf[character.charCodeAt(0)] = SEPARATOR;

/** "ssn" and a bare number cannot be shorter. */
const BARE_SSN_CHARS_MIN = 12;

/** Returns the bits of what `source[start, end)` may hold. Separators of more than one byte are runs of high bytes. */
export function findCandidates(source: Buffer, start: number, end: number): number {
  let found = 0;
  let run = 0; // digits in the group being read
  let previous = 0; // digits in the group before it, 0 when something else stood between
  let beforePrevious = 0;
  let chain = 0; // digits in the finished groups of the chain
  let separated = false; // a separator has been read since the last digit
  for (let at = start; at < end; at += 1) {
    const byte = source[at]!; // inside the bounds of the loop
    const kind = classOf[byte]!; // the table has all 256
    if (kind === DIGIT) {
      run += 1;
      separated = false;
      continue;
    }
    if (kind === OTHER && run === 0 && chain === 0) continue;
    if (run > 0) {
      found |= shapeBits(beforePrevious, previous, run, chain, end - start);
      beforePrevious = previous;
      previous = run;
      chain += run;
      run = 0;
    }
    if (kind === HIGH) {
      found |= HAS_HIGH_BYTE;
    } else if (kind === SEPARATOR && !separated) {
      separated = true;
    } else {
      if (kind === MARK) found |= bitOf[byte]!; // the table has all 256
      previous = beforePrevious = chain = 0;
      separated = false;
    }
  }
  return run > 0 ? found | shapeBits(beforePrevious, previous, run, chain, end - start) : found;
}

function shapeBits(beforePrevious: number, previous: number, run: number, chain: number, length: number): number {
  let bits = chain + run >= 13 ? HAS_CARD_SHAPE : 0;
  if (run === 4 && previous === 2 && beforePrevious === 3) return bits | HAS_SSN_SHAPE;
  const odd = run === 9 || (run === 6 && previous === 3) || (run === 4 && previous === 5);
  if (odd && length >= BARE_SSN_CHARS_MIN) bits |= HAS_SSN_SHAPE;
  return bits;
}
