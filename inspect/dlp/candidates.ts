/**
 * The look at raw bytes that decides whether a cell is worth a string: most cells hold neither an at sign nor digits in the
 * groups of a number we know. One pass, no allocation. It may say "maybe" too often, never "no" where a detector would hit:
 * every detector that names its `needs` is tested against it.
 */
import { isDigit } from "./characters.ts";

/** Bits of what the bytes hold; detectors name theirs as `needs`. */
export const HAS_AT_SIGN = 1;
/** Digits grouped 3-2-4, or 9, 3-6, 5-4 with room for a word beside them. */
export const HAS_SSN_SHAPE = 2;
/** Thirteen digits or more, bare or with separators between. */
export const HAS_CARD_SHAPE = 4;
/** A byte above 0x7f: the text is not ASCII, offsets in bytes and characters differ. */
export const HAS_HIGH_BYTE = 128;

/** Nothing above fits into fewer bytes: a@b.cc. */
export const CANDIDATE_BYTES_MIN = 6;
/** "ssn" and a bare number cannot be shorter. */
const BARE_SSN_BYTES_MIN = 12;
const NUMBER_BYTES_MIN = 9;

const ZERO = 0x30;
const NINE = 0x39;
const AT_SIGN = 0x40;
/** Room for the bits in a number that also holds a length. */
const BITS = 8;
const BITS_MASK = 255;
/** What fits above them in a 32-bit integer. */
const CHAIN_BYTES_MAX = 2 ** 22;
const SPACE = 0x20;
const HYPHEN = 0x2d;
const DOT = 0x2e;

/** Returns the bits of what `source[start, end)` may hold. Separators of more than one byte are runs of high bytes. */
export function findCandidates(source: Buffer, start: number, end: number): number {
  const numberStartMax = end - NUMBER_BYTES_MIN;
  let found = 0;
  let at = start;
  while (true) {
    let every = 0;
    let byte = 0;
    for (; at < end; at += 1) {
      byte = source[at]!; // inside the bounds of the loop
      every |= byte;
      // One comparison sorts out nearly everything: digits to at sign are neighbours in ASCII.
      if ((byte - ZERO) >>> 0 <= AT_SIGN - ZERO) break;
    }
    found |= every & HAS_HIGH_BYTE;
    if (at >= end) return found;
    if (byte === AT_SIGN) found |= HAS_AT_SIGN;
    // Every number we know begins with a group of three digits or more; hashes and times mostly do not have that.
    if (byte <= NINE && at <= numberStartMax && isDigit(source[at + 1]!) && isDigit(source[at + 2]!)) {
      const chain = followChain(source, at, end, end - start);
      found |= chain & BITS_MASK;
      at = (at + (chain >> BITS)) | 0; // an integer to the compiler, too
    } else at += 1;
  }
}

/**
 * Follows groups of digits with single separators between. Returns the bits found and, above them, the bytes read: one number,
 * since an object for two would be an allocation per number. Of a longer chain a part is read again, which finds nothing new.
 */
function followChain(source: Buffer, start: number, end: number, length: number): number {
  let found = 0;
  let at = start;
  let beforePrevious = 0; // digits in the group two before the one being read
  let previous = 0; // digits in the one before it
  let digits = 0; // digits in the chain
  while (true) {
    const groupStart = at;
    while (at < end && isDigit(source[at]!)) at += 1; // below the end
    const run = at - groupStart;
    if (run === 0) break;
    digits += run;
    found |= shapeBits(beforePrevious, previous, run, digits, length);
    if (at >= end) break;
    const byte = source[at]!; // below the end, just checked
    if (byte >= 0x80) {
      found |= HAS_HIGH_BYTE;
      while (at < end && source[at]! >= 0x80) at += 1;
    } else if (byte === SPACE || byte === HYPHEN || byte === DOT) at += 1;
    else break;
    beforePrevious = previous;
    previous = run;
  }
  return (Math.min(at - start, CHAIN_BYTES_MAX) << BITS) | found;
}

function shapeBits(beforePrevious: number, previous: number, run: number, digits: number, length: number): number {
  const card = digits >= 13 ? HAS_CARD_SHAPE : 0;
  if (run === 4 && previous === 2 && beforePrevious === 3) return card | HAS_SSN_SHAPE;
  const odd = run === 9 || (run === 6 && previous === 3) || (run === 4 && previous === 5);
  return odd && length >= BARE_SSN_BYTES_MIN ? card | HAS_SSN_SHAPE : card;
}
