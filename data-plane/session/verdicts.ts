/**
 * What one session's statements amount to: decisions, masking, and what follows for the way of their results. A verdict is given
 * again, under a new id, only while nothing it depends on can have changed: the policy in force, the catalog and its labels, the
 * analysis (and with it the exact text). Where a condition looks at the time or the session it is made afresh every time.
 */
import { newDecisionId } from "@sluice/core/ids.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { changesNothing } from "@sluice/inspect/policy/account.ts";
import type { CompiledSnapshot } from "@sluice/inspect/policy/compile.ts";
import { type DecideInput, decideBatch, mergeDecisions, type SessionFacts } from "@sluice/inspect/policy/decide.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import { maskingFor, type PrincipalMasking } from "@sluice/inspect/policy/masking.ts";
import type { Analysis, StatementModel } from "@sluice/inspect/sql/model.ts";
import type { PolicyInForce } from "../policy-watch/policy-store.ts";
import type { CatalogState } from "../upstream/catalogs.ts";
import type { ScanRule } from "./column-plans.ts";

export type ParsedAnalysis = Extract<Analysis, { readonly kind: "ok" }>;

/** One statement of a text with what was decided about it. */
export interface JudgedStatement {
  readonly model: StatementModel;
  readonly decision: Decision;
  readonly masking: PrincipalMasking;
  readonly scanRules: readonly ScanRule[];
  /** A reached limit on rows must undo what the statement wrote. */
  readonly undoWhenExceeded: boolean;
}

export interface Verdict {
  readonly statements: readonly JudgedStatement[];
  /** The decision on the whole text; null for a text without statements. Its id is that of the first time. */
  readonly decision: Decision | null;
  readonly permitted: boolean;
  /** Errors and notices may speak of protected values. */
  readonly touches: boolean;
  /** Settings or the catalog change: what follows waits. Of what names mean the judge knows more. */
  readonly settleFirst: boolean;
  /** Some statement's own class changes something: it is not forwarded before its record is durable. */
  readonly writes: boolean;
  /** Some effect of some statement needs the account that may write. */
  readonly needsWriting: boolean;
  readonly changesCatalog: boolean;
  readonly policy: PolicyInForce;
  readonly state: CatalogState;
  /** It may be given again. */
  readonly lasting: boolean;
  /** The statement record that holds this verdict in full, by number; 0: none yet. */
  recordedAs: number;
}

export interface VerdictParts {
  readonly principal: Principal;
  /** As it was when the session opened; the policy in force says what it is now. */
  readonly resource: ResourceSpec;
  readonly facts: SessionFacts;
  readonly random: Random;
}

export class Verdicts {
  readonly #parts: VerdictParts;
  /** Weak: what the shared cache of analyses forgets is forgotten here. */
  readonly #lasting = new WeakMap<ParsedAnalysis, Verdict>();

  constructor(parts: VerdictParts) {
    this.#parts = parts;
  }

  /** The verdict on `text`, of which `analysis` was made against `state`. `nowMs` is asked only where one has to be made. */
  of(analysis: ParsedAnalysis, text: string, state: CatalogState, policy: PolicyInForce, nowMs: () => number): Verdict {
    const known = this.#lasting.get(analysis);
    if (known !== undefined && known.policy === policy && known.state === state) return known;
    const made = this.#make(analysis, text, state, policy, nowMs());
    if (made.lasting) this.#lasting.set(analysis, made);
    return made;
  }

  /** The masking that holds for `statement` now. */
  maskingOf(statement: StatementModel, state: CatalogState, policy: PolicyInForce, nowMs: number): PrincipalMasking {
    return maskingFor(this.#input(statement, "", state, policy, nowMs));
  }

  #make(analysis: ParsedAnalysis, text: string, state: CatalogState, policy: PolicyInForce, nowMs: number): Verdict {
    const models = analysis.statements;
    const inputs = models.map((model) => this.#input(model, text, state, policy, nowMs));
    const decisions = decideBatch(inputs);
    const merged = decisions.length === 0 ? null : mergeDecisions(decisions);
    const decision = merged === null ? null : (limitedBatchRefusal(merged, decisions, models) ?? merged);
    const statements = models.map((model, index): JudgedStatement => {
      const masking = maskingFor(inputs[index]!);
      const writing = model.columns !== null && model.effects.some((effect) => !changesNothing(effect.class));
      return {
        model,
        decision: decisions[index]!,
        masking,
        scanRules: scanRules(masking, policy),
        undoWhenExceeded: decisions[index]!.rowsMax !== null && writing,
      };
    });
    return {
      statements,
      decision,
      permitted: decision === null || (decision.effect !== "deny" && decision.effect !== "approve"),
      touches: statements.some(({ model, masking }) => touchesProtected(model, masking, state)),
      settleFirst: models.some((model) => model.changesCatalog || model.settings.length > 0),
      writes: models.some((model) => !changesNothing(model.class)),
      needsWriting: models.some(
        (model) => !changesNothing(model.class) || model.effects.some((effect) => !changesNothing(effect.class)),
      ),
      changesCatalog: models.some((model) => model.changesCatalog),
      policy,
      state,
      lasting: decidesTheSameAlways(policy.compiled),
      recordedAs: 0,
    };
  }

  #input(statement: StatementModel, text: string, state: CatalogState, policy: PolicyInForce, nowMs: number): DecideInput {
    const { principal, resource, facts, random } = this.#parts;
    return {
      compiled: policy.compiled,
      principal,
      resource: policy.resources.get(resource.name) ?? resource,
      session: facts,
      statement,
      text,
      labels: state.labels,
      nowMs,
      decisionId: newDecisionId(random),
    };
  }
}

/** Nothing that a caller gets, or is kept from, differs. */
export function sameOutcome(a: Verdict, b: Verdict): boolean {
  return a === b || (a.permitted === b.permitted && outcomeOf(a) === outcomeOf(b));
}

/** How what is not foreseen would be masked. */
const UNKNOWN = { origins: ["*"], exact: false } as const;

function outcomeOf({ statements, touches }: Verdict): string {
  const shown = statements.map(({ decision, masking, scanRules: rules, undoWhenExceeded, model }) => ({
    rowsMax: decision.rowsMax,
    undoWhenExceeded,
    columns: [...(model.columns ?? []), UNKNOWN].map(({ origins, exact }) => masking.maskFor(origins, exact)?.operator ?? null),
    scanned: rules.map(({ detector, operator }) => [detector.entity, operator]),
  }));
  return JSON.stringify({ touches, shown });
}

const sameAlways = new WeakMap<CompiledSnapshot, boolean>();

/** No condition of any rule names the time or the session. The words anywhere in its text count: too careful is right here. */
function decidesTheSameAlways(compiled: CompiledSnapshot): boolean {
  const known = sameAlways.get(compiled);
  if (known !== undefined) return known;
  const same = compiled.policies.every(({ rules }) => rules.every(({ spec }) => !/request|session/.test(spec.when ?? "")));
  sameAlways.set(compiled, same);
  return same;
}

function scanRules(masking: PrincipalMasking, policy: PolicyInForce): readonly ScanRule[] {
  return masking.detectors.flatMap(({ entity, operator }) =>
    policy.detectors.filter((detector) => detector.entity === entity).map((detector) => ({ detector, operator })),
  );
}

/** A limit is enforced while rows flow; what follows in the same text would already have run. Null: the decision stands. */
function limitedBatchRefusal(
  merged: Decision,
  decisions: readonly Decision[],
  models: readonly StatementModel[],
): Decision | null {
  if (merged.effect === "deny" || merged.effect === "approve") return null;
  if (
    models.length < 2 ||
    decisions.every((decision) => decision.rowsMax === null) ||
    models.every((model) => changesNothing(model.class))
  )
    return null;
  return {
    ...merged,
    effect: "deny",
    rule: "builtin/limited-batch",
    reason: "a row limit applies to you, and several statements in one text of which one writes cannot be limited safely",
    hint: "Send the statements one by one.",
  };
}

/** Errors and notices of this statement may speak of protected values. */
function touchesProtected(model: StatementModel, masking: PrincipalMasking, state: CatalogState): boolean {
  if (!masking.protects) return false;
  if (!model.columnsKnown || model.undecided.length > 0 || model.escapes.length > 0) return true;
  if (model.columns?.some((column) => column.origins.includes("*")) === true || model.writeFlows.includes("*")) return true;
  return model.reaches.some((column) => column === "*" || state.labels.entitiesOf(column).length > 0);
}
