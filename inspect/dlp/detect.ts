/**
 * Value detectors: text in, spans out. Built-in ones are bounded scans of their own; declared patterns run on RE2JS, whose time
 * is linear in the text, so that nobody's pattern can hold up a session. A detector never changes text and never keeps it.
 * Syntax of declared patterns: https://github.com/google/re2/wiki/Syntax
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ValueDetectorSpec } from "@sluice/core/snapshot.ts";
import { RE2JS } from "re2js";
import { HAS_AT_SIGN, HAS_CARD_SHAPE, HAS_SSN_SHAPE } from "./candidates.ts";
import { contextWords, hasContext } from "./context.ts";
import { findCreditCards } from "./detectors/credit-card.ts";
import { findEmailAddresses } from "./detectors/email-address.ts";
import { findUsSsn } from "./detectors/us-ssn.ts";
import { luhnValid } from "./luhn.ts";
import type { Span } from "./span.ts";

export type { Span } from "./span.ts";

export interface Detector {
  readonly entity: string;
  /**
   * What the bytes of a text must hold (a bit of `candidates.ts`) before a scan can hit; absent when nothing is known and
   * every text has to be scanned.
   */
  readonly needs?: number;
  /** Finds every hit: ascending, not overlapping, UTF-16 offsets. */
  scan(text: string): readonly Span[];
}

interface Builtin {
  readonly needs: number;
  readonly find: (text: string) => readonly Span[];
}

const builtins: ReadonlyMap<string, Builtin> = new Map([
  ["US_SSN", { needs: HAS_SSN_SHAPE, find: findUsSsn }],
  ["EMAIL_ADDRESS", { needs: HAS_AT_SIGN, find: findEmailAddresses }],
  ["CREDIT_CARD", { needs: HAS_CARD_SHAPE, find: findCreditCards }],
]);

/** What a manifest may name as `detector`. */
export const builtinDetectorNames: readonly string[] = [...builtins.keys()];

/**
 * Makes the detector that a classifier declares; its hits are of `entity`. Throws `config_invalid` when there is no such
 * built-in detector, or when the pattern does not compile, is too long, or matches the empty text.
 */
export function compileDetector(entity: string, spec: ValueDetectorSpec): Detector {
  if (spec.kind === "pattern") return compilePattern(entity, spec);
  const builtin = builtins.get(spec.detector);
  if (builtin === undefined) {
    throw new GatewayError("config_invalid", `There is no value detector named "${spec.detector}".`, {
      hint: `Use one of ${builtinDetectorNames.join(", ")}, or declare a pattern.`,
    });
  }
  return { entity, needs: builtin.needs, scan: builtin.find };
}

type PatternSpec = Extract<ValueDetectorSpec, { readonly kind: "pattern" }>;

function compilePattern(entity: string, spec: PatternSpec): Detector {
  const engine = compileEngine(entity, spec.pattern);
  const words = spec.context.length === 0 ? null : contextWords(spec.context);
  return {
    entity,
    scan(text) {
      if (!engine.test(text)) return [];
      const found: Span[] = [];
      const matcher = engine.matcher(text);
      while (matcher.find()) {
        const span = { start: matcher.start(), end: matcher.end() };
        if (span.start === span.end) continue; // `\b` and the like can match nothing within a text
        if (spec.validator === "luhn" && !luhnValid(text, span.start, span.end)) continue;
        if (words !== null && !hasContext(text, span, words, entity)) continue;
        found.push(span);
      }
      return found;
    },
  };
}

function compileEngine(entity: string, pattern: string): RE2JS {
  if (pattern.length > defaultLimits.detectorPatternCharsMax) {
    throw new GatewayError("config_invalid", `The value pattern of ${entity} is too long.`, {
      hint: `A pattern may have ${defaultLimits.detectorPatternCharsMax} characters; declare several classifiers instead.`,
    });
  }
  let engine: RE2JS;
  try {
    engine = RE2JS.compile(pattern);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "unknown fault";
    throw new GatewayError("config_invalid", `The value pattern of ${entity} cannot be used: ${reason}.`, {
      cause,
      hint: "Patterns use RE2 syntax: no look-around, no back-references, repeat counts up to 1000.",
    });
  }
  if (engine.test("") || pattern === "") {
    throw new GatewayError("config_invalid", `The value pattern of ${entity} matches the empty text.`, {
      hint: "Such a pattern would match everywhere: ask for at least one character.",
    });
  }
  return engine;
}
