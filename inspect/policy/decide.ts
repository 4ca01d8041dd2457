/**
 * The decision on one statement: (snapshot, principal, resource, session, statement, now) -> decision. Pure and total: no rule
 * means no, an error of a condition means no, and the order of policies, rules and documents never matters.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { DecisionId } from "@sluice/core/ids.ts";
import { statementClasses, type StatementClass, type StatementEffect } from "../sql/model.ts";
import { builtinDenials, type Denial } from "./builtin.ts";
import type { CompiledRule, CompiledSnapshot } from "./compile.ts";
import { type Decision, type DecisionColumn, type DecisionEffect, decisionEffects } from "./decision.ts";
import type { DecideInput } from "./input.ts";
import type { ColumnMask, PrincipalMasking } from "./column-masks.ts";
import { matchStatement, type Matching } from "./matching.ts";
import type { ApplicableRules } from "./protection.ts";

export type { SessionFacts } from "./conditions.ts";
export type { DecideInput } from "./input.ts";

/** Decides one statement. Never throws for anything a policy, a statement or a principal holds. */
export function decide(input: DecideInput): Decision {
  const { compiled, statement } = input;
  const matching = matchStatement(input);
  const { masking } = matching;
  const columns = maskColumns(input, masking);
  const outcome = compose(
    input,
    matching,
    columns.flatMap(({ mask }) => mask ?? []),
  );
  return {
    id: input.decisionId,
    ...outcome,
    policyVersion: compiled.version,
    statement: {
      class: statement.class,
      effects: unique(statement.effects.map(({ name }) => name)),
      relations: statement.relations,
      influences: matching.influences,
      bulkExport: matching.bulkExport,
      hasWhere: statement.hasWhere,
      limit: statement.limit,
      undecided: statement.undecided,
    },
    columns: columns.map(({ column }) => column),
  };
}

/** Decides a batch statement by statement. It is for the caller to refuse the whole when any of them is refused. */
export function decideBatch(inputs: readonly DecideInput[]): readonly Decision[] {
  return inputs.map(decide);
}

/**
 * One decision for a whole text: the gravest effect and its rule, everything the statements do, the columns of the last.
 * Throws GatewayError `statement_invalid` for a text without statements.
 */
export function mergeDecisions(decisions: readonly Decision[]): Decision {
  const last = decisions.at(-1);
  if (last === undefined)
    throw new GatewayError("statement_invalid", "The text holds no statement, so there is nothing to decide.");
  if (decisions.length === 1) return last;
  const gravest = decisions.reduce((worst, next) => (gravity(next.effect) < gravity(worst.effect) ? next : worst));
  const statements = decisions.map(({ statement }) => statement);
  const limits = decisions.flatMap(({ rowsMax }) => rowsMax ?? []);
  return {
    ...gravest,
    id: last.id,
    rules: unique(decisions.flatMap(({ rules }) => rules)),
    statement: {
      class: gravestClass(statements.map((statement) => statement.class)),
      effects: unique(statements.flatMap(({ effects }) => effects)),
      relations: uniqueBy(
        statements.flatMap(({ relations }) => relations),
        ({ name, access }) => `${access} ${name}`,
      ),
      influences: unique(statements.flatMap(({ influences }) => influences)).sort(),
      bulkExport: statements.some(({ bulkExport }) => bulkExport),
      hasWhere: statements.every(({ hasWhere }) => hasWhere),
      limit: last.statement.limit,
      undecided: unique(statements.flatMap(({ undecided }) => undecided)),
    },
    columns: last.columns,
    rowsMax: limits.length === 0 ? null : Math.min(...limits),
  };
}

/** The decision on a text that the grammar does not accept: what cannot be read cannot be allowed. */
export function unparsedDecision(decisionId: DecisionId, compiled: CompiledSnapshot): Decision {
  return {
    id: decisionId,
    effect: "deny",
    rule: "builtin/unparsed",
    rules: ["builtin/unparsed"],
    reason: "The statement cannot be parsed, so it cannot be known what it would do.",
    hint: "Check the syntax at the position given.",
    policyVersion: compiled.version,
    statement: {
      class: "unknown",
      effects: [],
      relations: [],
      influences: [],
      bulkExport: false,
      hasWhere: false,
      limit: null,
      undecided: [],
    },
    columns: [],
    rowsMax: null,
  };
}

type Outcome = Pick<Decision, "effect" | "rule" | "rules" | "reason" | "hint" | "rowsMax">;

function compose(input: DecideInput, matching: Matching, masks: readonly ColumnMask[]): Outcome {
  const { rules } = matching;
  const denying = rules.deny.filter((rule) => matching.holds(rule));
  const limiting = rules.limit.filter((rule) => matching.holds(rule));
  const allowing = rules.allow.filter((rule) => matching.allowsAny(rule));
  const approving = rules.approve.filter((rule) => matching.holds(rule));
  const lowest = limiting.toSorted((a, b) => a.spec.rows - b.spec.rows)[0];
  const coverage = cover(rules, matching);
  const denials = [
    ...denying.map(ruleDenial),
    ...builtinDenials(input, matching.protection),
    ...defaultDenial(coverage.uncovered, rules, input),
  ];
  const matched = [...denying, ...approving, ...matching.masks, ...limiting, ...allowing].map(({ id }) => id);
  const builtin = denials.map(({ rule }) => rule).filter((rule) => rule.startsWith("builtin/"));
  const common = { rules: [...unique(matched).sort(), ...builtin], rowsMax: lowest?.spec.rows ?? null };

  const { allow } = coverage;
  const denial = denials[0];
  if (denial !== undefined) return { effect: "deny", ...common, ...denial };
  if (coverage.approval !== undefined) return { effect: "approve", ...common, ...approvalNeeded(coverage.approval) };
  // Without an allow rule something above has refused already; should that ever change, the answer is still no.
  if (allow === undefined) return { effect: "deny", ...common, ...nobodyAllows(input) };
  const mask = masks[0];
  if (mask !== undefined) {
    return { effect: "mask", ...common, rule: mask.rule, reason: reasonOf(mask.rule, rules, maskReason(masks.length)) };
  }
  if (lowest !== undefined) {
    const reason = lowest.spec.reason ?? `At most ${lowest.spec.rows} rows are released.`;
    return { effect: "limit", ...common, rule: lowest.id, reason };
  }
  return { effect: "allow", ...common, rule: allow.id, reason: allow.spec.reason ?? `Allowed by rule ${allow.id}.` };
}

interface Coverage {
  readonly uncovered: readonly StatementEffect[];
  readonly approval: ApplicableRules["approve"][number] | undefined;
  readonly allow: CompiledRule | undefined;
}

/** Finds for every effect, gravest first, what permits it: an allow rule, else an approve rule, else nothing. */
function cover(rules: ApplicableRules, matching: Matching): Coverage {
  const uncovered: StatementEffect[] = [];
  let approval: Coverage["approval"];
  let allow: CompiledRule | undefined;
  const gravestFirst = matching.effects.toSorted((a, b) => classRank(a.class) - classRank(b.class));
  for (const effect of gravestFirst) {
    const allowedBy = rules.allow.find((rule) => matching.allows(rule, effect.class));
    if (allowedBy !== undefined) {
      allow ??= allowedBy;
      continue;
    }
    const approvedBy = rules.approve.find((rule) => matching.holdsFor(rule, effect.class));
    if (approvedBy === undefined) uncovered.push(effect);
    else approval ??= approvedBy;
  }
  return { uncovered, approval, allow };
}

function defaultDenial(uncovered: readonly StatementEffect[], rules: ApplicableRules, input: DecideInput): readonly Denial[] {
  const gravest = uncovered[0];
  if (gravest === undefined) return [];
  if (rules.policies === 0) return [nobodyAllows(input)];
  const what = gravest.name === gravest.class ? `'${gravest.class}'` : `'${gravest.name}' (class ${gravest.class})`;
  return [
    {
      rule: "builtin/default-deny",
      reason: `No rule allows the effect ${what} for you on resource ${input.resource.name}.`,
      hint: `Ask the platform team for a rule that allows statements of class ${gravest.class}.`,
    },
  ];
}

function nobodyAllows(input: DecideInput): Denial {
  return {
    rule: "builtin/default-deny",
    reason: `No policy speaks of you on resource ${input.resource.name}, and what nobody allows is refused.`,
    hint: "Ask the platform team for access; groups and claims come from your token.",
  };
}

function ruleDenial(rule: CompiledRule): Denial {
  return {
    rule: rule.id,
    reason: rule.spec.reason ?? `Rule ${rule.id} refuses this statement.`,
    hint: `Rule ${rule.id} decided this; the platform team can say why.`,
  };
}

function approvalNeeded(rule: ApplicableRules["approve"][number]): Pick<Outcome, "rule" | "reason" | "hint"> {
  const { groups, count } = rule.spec.reviewers;
  const people = count === 1 ? "one reviewer" : `${count} reviewers`;
  return {
    rule: rule.id,
    reason: rule.spec.reason ?? `${people} of ${groups.join(", ")} must agree.`,
    hint: `Ask ${people} of ${groups.join(", ")} to approve it.`,
  };
}

function maskReason(count: number): string {
  return `${count} output ${count === 1 ? "column is" : "columns are"} masked.`;
}

function reasonOf(id: string, rules: ApplicableRules, otherwise: string): string {
  return rules.mask.find((rule) => rule.id === id)?.spec.reason ?? otherwise;
}

function maskColumns(
  { statement }: DecideInput,
  masking: PrincipalMasking,
): readonly { readonly column: DecisionColumn; readonly mask: ColumnMask | null }[] {
  return (statement.columns ?? []).map(({ name, origins, exact }) => {
    const mask = masking.maskFor(origins, exact);
    const column: DecisionColumn = { name, origins, exact };
    if (mask === null) return { column, mask };
    return { column: { ...column, mask: { entity: mask.entity, operator: mask.operator.kind } }, mask };
  });
}

function gravity(effect: DecisionEffect): number {
  return decisionEffects.indexOf(effect);
}

function classRank(statementClass: StatementClass): number {
  return statementClasses.indexOf(statementClass);
}

function gravestClass(classes: readonly StatementClass[]): StatementClass {
  return classes.reduce((worst, next) => (classRank(next) < classRank(worst) ? next : worst));
}

function unique<Item>(items: readonly Item[]): Item[] {
  return [...new Set(items)];
}

function uniqueBy<Item>(items: readonly Item[], key: (item: Item) => string): Item[] {
  return [...new Map(items.map((item) => [key(item), item])).values()];
}
