/**
 * Which rules match one statement of one principal on one resource, and the masking that follows. Says what matches, never what
 * it amounts to: that is `decide.ts`.
 */
import type { StatementClass, StatementEffect, StatementModel } from "../sql/model.ts";
import type { CompiledRule } from "./compile.ts";
import { type ConditionFacts, type FactsInput, factsFor } from "./conditions.ts";
import type { DecideInput } from "./input.ts";
import { maskingFrom, type PrincipalMasking } from "./column-masks.ts";
import {
  type ApplicableRules,
  applicableRules,
  type MaskRule,
  type Protection,
  protectionFor,
  UNKNOWN_ORIGIN,
} from "./protection.ts";

/** Matches all rules once per input object: who decides and then asks for the masking does not pay twice. */
export function matchStatement(input: DecideInput): Matching {
  const known = matchings.get(input);
  if (known !== undefined) return known;
  const made = new Matching(input);
  matchings.set(input, made);
  return made;
}

const matchings = new WeakMap<DecideInput, Matching>();

/** Which rules match one statement: conditions are asked once per class of its effects, with facts made once per class. */
export class Matching {
  readonly rules: ApplicableRules;
  readonly protection: Protection;
  /** Every effect that must be covered. Never empty. */
  readonly effects: readonly StatementEffect[];
  /** Protected columns used outside the output, sorted. */
  readonly influences: readonly string[];
  readonly bulkExport: boolean;
  /** Mask rules that hold, and what follows for the output. */
  readonly masks: readonly MaskRule[];
  readonly masking: PrincipalMasking;
  readonly #classes: readonly StatementClass[];
  readonly #factsOf: (statementClass: StatementClass) => ConditionFacts;

  constructor(input: DecideInput) {
    const { compiled, statement, labels } = input;
    this.rules = applicableRules(compiled, input.principal, input.resource);
    this.protection = protectionFor(this.rules, labels, compiled);
    this.effects = coveredEffects(statement);
    this.influences = protectedInfluences(statement, this.protection);
    this.bulkExport =
      statement.bulkExport ||
      (statement.bulkShape && statement.bulkRelations.some((name) => labels.protectedRelations.has(name)));
    this.#classes = [...new Set(this.effects.map((effect) => effect.class))];
    this.#factsOf = rememberedFacts({ ...input, influences: this.influences, bulkExport: this.bulkExport });
    this.masks = this.rules.mask.filter((rule) => this.holds(rule));
    this.masking = maskingFrom(input, this.protection, this.masks);
  }

  /** For deny, mask, limit and approve rules: an error counts as a match. */
  holds(rule: CompiledRule): boolean {
    return this.#classes.some((statementClass) => this.holdsFor(rule, statementClass));
  }

  holdsFor(rule: CompiledRule, statementClass: StatementClass): boolean {
    return rule.matches(() => this.#factsOf(statementClass)) !== "no";
  }

  /** For allow rules: an error counts as no match. */
  allows(rule: CompiledRule, statementClass: StatementClass): boolean {
    return rule.matches(() => this.#factsOf(statementClass)) === "yes";
  }

  allowsAny(rule: CompiledRule): boolean {
    return this.#classes.some((statementClass) => this.allows(rule, statementClass));
  }
}

/** The statement's own class is asked about too: if it is graver than all its effects, something must have made it so. */
function coveredEffects({ class: own, effects }: StatementModel): readonly StatementEffect[] {
  return effects.some((effect) => effect.class === own) ? effects : [...effects, { name: own, class: own }];
}

function protectedInfluences({ influences }: StatementModel, protection: Protection): readonly string[] {
  const columns = influences.map(({ column }) => column);
  const kept = columns.filter((column) => protection.columns.has(column) || (column === UNKNOWN_ORIGIN && protection.protects));
  return [...new Set(kept)].sort();
}

/** Facts are made when the first condition asks, and once per class. */
function rememberedFacts(input: FactsInput): (statementClass: StatementClass) => ConditionFacts {
  const facts = new Map<StatementClass, ConditionFacts>();
  let make: ((statementClass: StatementClass) => ConditionFacts) | undefined;
  return (statementClass) => {
    const known = facts.get(statementClass);
    if (known !== undefined) return known;
    make ??= factsFor(input);
    const made = make(statementClass);
    facts.set(statementClass, made);
    return made;
  };
}
