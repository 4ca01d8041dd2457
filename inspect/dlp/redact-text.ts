/**
 * Replaces what detectors find in a text by the entity's name in brackets, for texts that are kept (statements in recordings).
 * What it returns has nothing left to find, so redacting twice changes nothing.
 */
import type { Detector } from "./detect.ts";
import { compareSpans, mergeOverlapping, type Span } from "./span.ts";

/**
 * A replacement is shorter than what it replaces, so that a context word may come near a number it was far from: look again.
 * Context reaches 48 characters, in which a few numbers fit; more rounds than that change nothing.
 */
const ROUNDS_MAX = 8;
const PLACEHOLDER = /\[[A-Z][A-Z0-9_]*\]/gu;

interface Hit extends Span {
  readonly entity: string;
}

/** Returns the text with every hit as `[ENTITY]`; of hits that overlap the first names the whole. */
export function redactText(text: string, detectors: readonly Detector[]): string {
  let redacted = text;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const hits = findHits(redacted, detectors);
    if (hits.length === 0) break;
    redacted = replaceHits(redacted, hits);
  }
  return redacted;
}

function findHits(text: string, detectors: readonly Detector[]): readonly Hit[] {
  const hits = detectors.flatMap((detector) => detector.scan(text).map((span) => ({ ...span, entity: detector.entity })));
  if (hits.length === 0) return hits;
  const placeholders = [...text.matchAll(PLACEHOLDER)].map((match) => ({
    start: match.index,
    end: match.index + match[0].length,
  }));
  // A pattern such as [A-Z]+ finds the placeholders themselves.
  return mergeOverlapping(withoutInner(hits.sort(compareSpans), placeholders), (first, second) => ({
    ...first,
    end: Math.max(first.end, second.end),
  }));
}

/** Leaves out the hits that lie within one of `outer`. Both are in order; `outer` does not overlap itself. */
function withoutInner(hits: readonly Hit[], outer: readonly Span[]): readonly Hit[] {
  let at = 0;
  return hits.filter((hit) => {
    while (at < outer.length && outer[at]!.end <= hit.start) at += 1; // inside the bounds just checked
    const around = outer[at];
    return around === undefined || around.start > hit.start || around.end < hit.end;
  });
}

function replaceHits(text: string, hits: readonly Hit[]): string {
  let replaced = "";
  let at = 0;
  for (const hit of hits) {
    replaced += `${text.slice(at, hit.start)}[${hit.entity}]`;
    at = hit.end;
  }
  return replaced + text.slice(at);
}
