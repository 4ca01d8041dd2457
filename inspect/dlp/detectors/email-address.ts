/**
 * E-mail addresses, found from the at sign outwards: a subset of RFC 5322 with the letters of RFC 6531 (any script) and the
 * quoted form of the local part. Braces and bars are left out of the local part, though the RFC has them: in practice they are
 * the syntax around an address. Every step is bounded, so the time is linear in the text.
 */
import { codeAt, isAsciiAlphanumeric, isAsciiLetter } from "../characters.ts";
import type { Span } from "../span.ts";

/** Octets in RFC 5321 4.5.3.1.1; a longer run is cut to this, not let through. */
const LOCAL_CHARS_MAX = 64;
/** RFC 5321 4.5.3.1.2, without the dot of the root. */
const DOMAIN_CHARS_MAX = 253;
const AT_SIGN = 0x40;
const DOT = 0x2e;
const QUOTE = 0x22;

/** Finds the addresses in a text. */
export function findEmailAddresses(text: string): readonly Span[] {
  const found: Span[] = [];
  let floor = 0;
  for (let at = text.indexOf("@"); at !== -1; at = text.indexOf("@", at + 1)) {
    if (at < floor) continue;
    const start = localStart(text, at, floor);
    const end = start === -1 ? -1 : domainEnd(text, at + 1);
    if (end === -1) continue;
    found.push({ start, end });
    floor = end;
  }
  return found;
}

function localStart(text: string, at: number, floor: number): number {
  if (codeAt(text, at - 1) === QUOTE) return quotedStart(text, at, floor);
  let start = at;
  while (start > floor && at - start < LOCAL_CHARS_MAX && isLocal(text.charCodeAt(start - 1))) start -= 1;
  if (start > floor && isLowSurrogate(text.charCodeAt(start))) start -= 1;
  // Quotes, dashes and slashes before an address belong to the text around it.
  let trimmed = start;
  while (trimmed < at && !isWordLike(text.charCodeAt(trimmed))) trimmed += 1;
  if (trimmed < at) return trimmed;
  return start < at ? start : -1;
}

function quotedStart(text: string, at: number, floor: number): number {
  const lowest = Math.max(floor, at - 2 - LOCAL_CHARS_MAX);
  for (let index = at - 2; index >= lowest; index -= 1) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) return index;
    if (code < 0x20) return -1;
  }
  return -1;
}

function domainEnd(text: string, start: number): number {
  if (codeAt(text, start) === 0x5b) return literalEnd(text, start);
  const limit = Math.min(text.length, start + DOMAIN_CHARS_MAX);
  let end = start;
  while (end < limit && isDomain(text, end)) end += 1;
  if (isLowSurrogate(codeAt(text, end))) end += 1;
  // What looks like a further label may be the next word ("…@example.com.2024"): step back to the last possible one.
  while (end > start) {
    while (end > start && !isWordLike(text.charCodeAt(end - 1))) end -= 1;
    let dot = end - 1; // not lastIndexOf: it would look for a dot through all of the text before
    while (dot > start && text.charCodeAt(dot) !== DOT) dot -= 1;
    if (dot <= start) return -1;
    if (mayBeTopLevel(text, dot + 1, end)) return end;
    end = dot;
  }
  return -1;
}

/** RFC 5321 4.1.3: an address in brackets. */
function literalEnd(text: string, start: number): number {
  const limit = Math.min(text.length, start + LOCAL_CHARS_MAX);
  let dividers = 0;
  for (let at = start + 1; at < limit; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 0x5d) return dividers > 0 ? at + 1 : -1;
    if (code === DOT || code === 0x3a) dividers += 1;
    else if (!isAsciiAlphanumeric(code) && code !== 0x2d) return -1;
  }
  return -1;
}

/** Two characters or more, the first a letter: versions such as package@4.17.21 are no domains. */
function mayBeTopLevel(text: string, start: number, end: number): boolean {
  const first = text.charCodeAt(start);
  return end - start >= 2 && (isAsciiLetter(first) || isForeignLetter(first));
}

function isLocal(code: number): boolean {
  if (code >= 0x80) return isForeignLetter(code);
  if (isAsciiAlphanumeric(code)) return true;
  switch (code) {
    case 0x21: // ! # $ % & ' * + - . / = ? ^ _ ` ~
    case 0x23:
    case 0x24:
    case 0x25:
    case 0x26:
    case 0x27:
    case 0x2a:
    case 0x2b:
    case 0x2d:
    case DOT:
    case 0x2f:
    case 0x3d:
    case 0x3f:
    case 0x5e:
    case 0x5f:
    case 0x60:
    case 0x7e:
      return true;
    default:
      return false;
  }
}

function isDomain(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  if (code === DOT) return text.charCodeAt(at + 1) !== DOT && codeAt(text, at - 1) !== AT_SIGN;
  return code === 0x2d || isWordLike(code);
}

function isWordLike(code: number): boolean {
  return code >= 0x80 ? isForeignLetter(code) : isAsciiAlphanumeric(code) || code === 0x5f;
}

/** Any character beyond ASCII that is neither a space nor punctuation of its block. Halves of surrogate pairs count. */
function isForeignLetter(code: number): boolean {
  if (code < 0xc0) return code >= 0xaa && code !== 0xab && code !== 0xbb && code !== 0xbf;
  if (code >= 0x2000 && code <= 0x206f) return code === 0x200c || code === 0x200d; // joiners occur inside words
  if (code >= 0x3000 && code <= 0x303f) return code >= 0x3005 && code <= 0x3007;
  return code !== 0xfeff && !(code >= 0xff00 && code <= 0xff0f) && !(code >= 0xff1a && code <= 0xff20);
}

function isLowSurrogate(code: number): boolean {
  return code >= 0xdc00 && code <= 0xdfff;
}
