/**
 * Applies mask rules to what their detectors find in a piece of text. Text only: which text a cell holds, and how it goes back
 * into the cell, is said elsewhere. Where two rules hit overlapping text the whole is redacted: neither partial form was meant
 * for it.
 */
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import type { Detector } from "./detect.ts";
import { applyOperator } from "./operators.ts";
import { compareSpans, mergeOverlapping, type Span } from "./span.ts";

export interface ScanRule {
  readonly detector: Detector;
  readonly operator: MaskOperator;
}

export interface RuleHit extends Span {
  readonly operator: MaskOperator;
}

const REDACT: MaskOperator = { kind: "redact" };
const NULL: MaskOperator = { kind: "null" };

/** What the rules find in a text: in order, not overlapping. */
export function findRuleHits(rules: readonly ScanRule[], text: string): readonly RuleHit[] {
  const hits: RuleHit[] = [];
  for (const { detector, operator } of rules) {
    for (const { start, end } of detector.scan(text)) hits.push({ start, end, operator });
  }
  return hits.length < 2 ? hits : mergeRuleHits(hits);
}

/** Puts hits in order and joins those that overlap. The same stretch found twice for the same operator stays as it is. */
export function mergeRuleHits(hits: readonly RuleHit[]): readonly RuleHit[] {
  return mergeOverlapping(hits.toSorted(compareSpans), (first, second) => {
    const same = first.start === second.start && first.end === second.end && first.operator === second.operator;
    if (same) return first;
    const either = first.operator.kind === "null" || second.operator.kind === "null";
    return { start: first.start, end: Math.max(first.end, second.end), operator: either ? NULL : REDACT };
  });
}

/**
 * Replaces each hit by what its operator makes of it. Takes hits in order, without overlaps. Returns null when one of the
 * operators asks for NULL: a part of a text cannot be NULL, so the whole is.
 */
export function replaceRuleHits(text: string, hits: readonly RuleHit[]): string | null {
  let replaced = "";
  let at = 0;
  for (const hit of hits) {
    const masked = applyOperator(hit.operator, text.slice(hit.start, hit.end));
    if (masked === null) return null;
    replaced += text.slice(at, hit.start) + masked;
    at = hit.end;
  }
  return replaced + text.slice(at);
}
