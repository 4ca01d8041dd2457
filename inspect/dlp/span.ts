/** A stretch of text, and how stretches are put together. Knows neither what was found nor what becomes of it. */

/** UTF-16 offsets, half-open: `text.slice(start, end)` is the stretch. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Orders by start; of two with the same start the longer one comes first. */
export function compareSpans(a: Span, b: Span): number {
  return a.start - b.start || b.end - a.end;
}

/**
 * Joins what overlaps; touching spans stay apart. Takes spans in `compareSpans` order. `join` makes the one that stands for
 * two overlapping ones, and must cover both.
 */
export function mergeOverlapping<T extends Span>(sorted: readonly T[], join: (first: T, second: T) => T): readonly T[] {
  const merged: T[] = [];
  for (const span of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && span.start < last.end) merged[merged.length - 1] = join(last, span);
    else merged.push(span);
  }
  return merged;
}
