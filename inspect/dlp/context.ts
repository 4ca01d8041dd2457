/**
 * Context words: what must stand near a weak match before it counts. Text only, no scores: a match counts or it does not.
 * A placeholder that `redactText` has written is never context, or one redaction would cause the next.
 */
import type { Span } from "./span.ts";

/** Characters looked at before a match. A field name with a short phrase after it fits. */
const BEFORE_CHARS = 48;
/** Characters looked at after a match: less, since names stand before values. */
const AFTER_CHARS = 24;

/** Says whether `words` matches close before or after the span. `entity` is the one whose placeholder is not to count. */
export function hasContext(text: string, span: Span, words: RegExp, entity: string): boolean {
  const placeholder = `[${entity}]`;
  const before = text.slice(Math.max(0, span.start - BEFORE_CHARS), span.start);
  if (words.test(before.replaceAll(placeholder, " "))) return true;
  const after = text.slice(span.end, span.end + AFTER_CHARS);
  return words.test(after.replaceAll(placeholder, " "));
}

/** A test for any of the words, case folded, not inside a longer run of letters. Words are taken literally. */
export function contextWords(words: readonly string[]): RegExp {
  const alternatives = words.map((word) => word.replaceAll(/[\\^$.*+?()[\]{}|/]/gu, "\\$&")).join("|");
  return new RegExp(`(?<!\\p{L})(?:${alternatives})(?!\\p{L})`, "iu");
}
