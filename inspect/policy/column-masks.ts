/**
 * How the output columns of one statement are masked for one principal. Must never show more than any matching rule would: of
 * several operators the strictest holds, and what is derived from a protected column is hidden whole, or pieces would add up.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { MaskOperator } from "@sluice/core/snapshot.ts";
import { compareText } from "./compile.ts";
import type { DecideInput } from "./input.ts";
import { type MaskRule, type Protection, UNKNOWN_ORIGIN } from "./protection.ts";

export interface ColumnMask {
  /** The entity that asks for it; `UNKNOWN` where the origin cannot be known. */
  readonly entity: string;
  readonly operator: MaskOperator;
  /** `policy/rule` that asks for it. */
  readonly rule: string;
}

export interface ValueMask {
  readonly entity: string;
  readonly operator: MaskOperator;
  readonly rule: string;
}

export interface PrincipalMasking {
  /** Some column of this resource is protected for this principal, by mask rules with or without a condition. */
  readonly protects: boolean;
  /** A column is protected for this principal on this resource, whatever the statement. */
  isProtected(column: string): boolean;
  /**
   * How an output column with these origins is masked in this statement; null: not at all. Partial operators are given only for
   * `exact` columns of one origin.
   */
  maskFor(origins: readonly string[], exact: boolean): ColumnMask | null;
  /** Entities to look for in the values of every text column that is not masked whole, and what to do with a find. */
  readonly detectors: readonly ValueMask[];
}

/** Entity of a mask over an origin that cannot be known. */
export const UNKNOWN_ENTITY = "UNKNOWN";

/** Builds the masking from the mask rules that hold for this statement, in the order of their names. */
export function maskingFrom(input: DecideInput, protection: Protection, holding: readonly MaskRule[]): PrincipalMasking {
  const { labels, compiled } = input;
  const byEntity = new Map<string, EntityMask>();
  for (const rule of holding) {
    for (const entity of rule.spec.entities) byEntity.set(entity, strictest(byEntity.get(entity), maskOf(rule, entity)));
  }
  const detectors = [...byEntity.values()].filter((mask) => compiled.valueEntities.has(mask.entity));
  return {
    protects: protection.protects,
    isProtected: (column) => protection.columns.has(column),
    detectors: detectors.sort((a, b) => compareText(a.entity, b.entity)),
    maskFor: (origins, exact) => {
      let found: EntityMask | undefined;
      for (const origin of origins) {
        for (const entity of labels.entitiesOf(origin)) {
          const mask = byEntity.get(entity);
          if (mask !== undefined) found = strictest(found, mask);
        }
      }
      if (found === undefined && protection.protects && origins.includes(UNKNOWN_ORIGIN)) {
        found = { entity: UNKNOWN_ENTITY, operator: { kind: "redact" }, rule: holding[0]?.id ?? "builtin/unknown-origin" };
      }
      if (found === undefined) return null;
      return exact && origins.length === 1 ? found : { ...found, operator: wholeOf(found.operator) };
    },
  };
}

type EntityMask = ColumnMask;

function maskOf(rule: MaskRule, entity: string): EntityMask {
  return { entity, operator: rule.spec.operator, rule: rule.id };
}

/** The stricter of two. What one of two partial operators hides stays hidden; named is who hides more, then the first by name. */
function strictest(a: EntityMask | undefined, b: EntityMask): EntityMask {
  if (a === undefined) return b;
  const [first, second] = compareMasks(a, b) <= 0 ? [a, b] : [b, a];
  return { ...first, operator: meet(first.operator, second.operator) };
}

function compareMasks(a: EntityMask, b: EntityMask): number {
  return (
    operatorRank(b.operator) - operatorRank(a.operator) ||
    keptBy(a.operator) - keptBy(b.operator) ||
    compareText(a.entity, b.entity) ||
    compareText(a.rule, b.rule)
  );
}

/** `null` tells least, then a constant, then a part of the value. */
function operatorRank(operator: MaskOperator): number {
  switch (operator.kind) {
    case "null":
      return 2;
    case "redact":
      return 1;
    case "partial":
      return 0;
    default:
      return assertNever(operator);
  }
}

function keptBy(operator: MaskOperator): number {
  return operator.kind === "partial" ? operator.keepFirst + operator.keepLast : 0;
}

function meet(a: MaskOperator, b: MaskOperator): MaskOperator {
  if (a.kind !== "partial" || b.kind !== "partial") return a; // a is the stricter kind
  const keepFirst = Math.min(a.keepFirst, b.keepFirst);
  const keepLast = Math.min(a.keepLast, b.keepLast);
  return keepFirst + keepLast === 0 ? { kind: "redact" } : { kind: "partial", keepFirst, keepLast };
}

function wholeOf(operator: MaskOperator): MaskOperator {
  return operator.kind === "null" ? operator : { kind: "redact" };
}
