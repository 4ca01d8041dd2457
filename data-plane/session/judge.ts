/**
 * Answers a session machine's questions: analysis (cached, else pending), decision, what the caller is told, how columns are
 * edited, and the record of it. One judge a session. It never permits what was not analysed against the catalog in force.
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { newDecisionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import { redactText } from "@sluice/inspect/dlp/redact-text.ts";
import {
  type DecideInput,
  decideBatch,
  mergeDecisions,
  type SessionFacts,
  unparsedDecision,
} from "@sluice/inspect/policy/decide.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import { maskingFor, type PrincipalMasking } from "@sluice/inspect/policy/masking.ts";
import type { Analysis, SessionScope, StatementModel } from "@sluice/inspect/sql/model.ts";
import { precheck } from "@sluice/inspect/sql/precheck.ts";
import { applyScopeChange, emptyScope } from "@sluice/inspect/sql/scope.ts";
import type {
  Judge,
  Judgement,
  Permission,
  Refusal,
  StatementOutcome,
  StatementPlan,
  StatementRequest,
} from "@sluice/inspect/wire/judgement.ts";
import type { AnalysisRequest, Analyser } from "../analysis/analyser.ts";
import type { PolicyStore } from "../policy-watch/policy-store.ts";
import type { CatalogEntry, CatalogState } from "../upstream/catalogs.ts";
import { type ColumnPlanResult, planColumns, type ScanRule } from "./column-plans.ts";
import { recordedParameters } from "./recorded-parameters.ts";
import { refusalOfDecision, refusalOfError, refusalOfSyntax } from "./refusals.ts";
import type { SessionLog } from "./session-log.ts";

export interface JudgeParts {
  readonly principal: Principal;
  readonly resource: ResourceSpec;
  readonly facts: SessionFacts;
  readonly catalog: CatalogEntry;
  readonly analyser: Analyser;
  readonly policies: PolicyStore;
  readonly log: SessionLog;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
}

/** Classes that change nothing at the target: they may be forwarded before their record is durable. */
const READING = new Set(["read", "session", "transaction"]);

/** What the judge remembers of a permission it gave. */
interface Granted {
  readonly number: number;
  readonly models: readonly StatementModel[];
}

export class SessionJudge implements Judge {
  readonly #parts: JudgeParts;
  #scope: SessionScope = emptyScope;
  #pending: StatementRequest | undefined;
  #failure: { readonly request: StatementRequest; readonly error: GatewayError } | undefined;
  readonly #granted = new WeakMap<Permission, Granted>();
  #mustBeDurable = false;
  #ddlOpen = false;
  readonly counts: { statements: number; denied: number; masked: number } = { statements: 0, denied: 0, masked: 0 };

  constructor(parts: JudgeParts) {
    this.#parts = parts;
  }

  get notificationsClear(): boolean {
    const state = this.#parts.catalog.current;
    return state !== undefined && !this.#masking(state).protects;
  }

  /** True once after a statement was permitted that must be durable before it is forwarded. */
  takeMustBeDurable(): boolean {
    const must = this.#mustBeDurable;
    this.#mustBeDurable = false;
    return must;
  }

  /** Records are durable before release: set on the resource, or because a classifier matches (unknown counts as matching). */
  get strict(): boolean {
    const mode = this.#parts.resource.inspection.recording;
    if (mode !== "auto") return mode === "strict";
    return this.#parts.catalog.current?.labels.hasLabels ?? true;
  }

  judge(request: StatementRequest): Judgement | "pending" {
    if (this.#failure?.request.text === request.text && this.#failure.request.phase === request.phase) {
      const { error } = this.#failure;
      this.#failure = undefined;
      this.counts.denied += 1;
      return refusalOfError(error);
    }
    const state = this.#parts.catalog.current;
    const analysis = state === undefined ? undefined : this.#parts.analyser.cached(this.#analysisRequest(request.text, state));
    if (state === undefined || analysis === undefined) {
      // Cheap and final: what fails here waits for no catalog.
      try {
        precheck(request.text, this.#parts.limits);
      } catch (error) {
        this.counts.denied += 1;
        return refusalOfError(toGatewayError(error));
      }
      this.#pending = request;
      return "pending";
    }
    return this.#decide(request, analysis, state);
  }

  /** Fetches what the pending judgement lacks. Never rejects: a failure becomes the refusal of that statement. */
  async resolvePending(): Promise<void> {
    const request = this.#pending;
    if (request === undefined) return;
    this.#pending = undefined;
    try {
      const state = await this.#parts.catalog.wait();
      await this.#parts.analyser.analyse(this.#analysisRequest(request.text, state));
    } catch (error) {
      this.#failure = { request, error: toGatewayError(error) };
    }
  }

  finished(permission: Permission, index: number, outcome: StatementOutcome): void {
    const granted = this.#granted.get(permission);
    if (granted === undefined) return;
    const change = granted.models[index]?.scopeChange ?? null;
    if (outcome.ok && change !== null) this.#scope = applyScopeChange(this.#scope, change);
    this.#parts.log.append({ kind: "finished", finished: { number: granted.number, ...outcome } });
  }

  /** No transaction is open any more: DDL, if there was any, can be seen by others. */
  transactionEnded(): void {
    if (!this.#ddlOpen) return;
    this.#ddlOpen = false;
    this.#parts.catalog.endDdl(this.#parts.log.sessionId);
  }

  #decide(request: StatementRequest, analysis: Analysis, state: CatalogState): Judgement {
    const nowMs = this.#parts.clock.nowMs();
    const { compiled } = this.#parts.policies.current;
    if (analysis.kind === "unparsed") {
      const decision = unparsedDecision(newDecisionId(this.#parts.random), compiled);
      this.#recordStatement(request, decision, false);
      return this.#refuse(refusalOfSyntax(analysis.message, analysis.position, decision));
    }
    const inputs = analysis.statements.map((statement) => this.#decideInput(statement, request.text, state, nowMs));
    if (inputs.length === 0) return this.#permit(request, [], [], state, []);
    const decisions = decideBatch(inputs);
    const merged = mergeDecisions(decisions);
    const refused = merged.effect === "deny" || merged.effect === "approve";
    if (refused) {
      this.#recordStatement(request, merged, false);
      return this.#refuse(refusalOfDecision(merged));
    }
    const batchRefusal = limitedBatchRefusal(merged, decisions, analysis.statements);
    if (batchRefusal !== null) {
      this.#recordStatement(request, batchRefusal, false);
      return this.#refuse(refusalOfDecision(batchRefusal));
    }
    return this.#permit(request, analysis.statements, decisions, state, inputs);
  }

  #permit(
    request: StatementRequest,
    models: readonly StatementModel[],
    decisions: readonly Decision[],
    state: CatalogState,
    inputs: readonly DecideInput[],
  ): Permission {
    const maskings = inputs.map((input) => maskingFor(input));
    const touches = models.some((model, index) => touchesProtected(model, maskings[index]!, state));
    const plans = models.map((model, index): StatementPlan => {
      const rowsMax = decisions[index]!.rowsMax;
      return {
        rowsMax,
        undoWhenExceeded:
          rowsMax !== null && model.columns !== null && model.effects.some((effect) => !READING.has(effect.class)),
        copy: model.copy,
        planColumns: (fields) =>
          this.#planned(
            planColumns({
              model,
              fields,
              masking: maskings[index]!,
              scanRules: this.#scanRules(maskings[index]!),
              state,
              dirty: this.#parts.catalog.dirty,
            }),
          ),
      };
    });
    const merged = decisions.length === 0 ? null : mergeDecisions(decisions);
    const permission: Permission = {
      kind: "permit",
      statements: plans,
      scrub: touches,
      settleFirst: models.some((model) => model.scopeChange !== null || model.changesCatalog),
      ...(merged === null ? {} : { decisionId: merged.id }),
    };
    if (request.phase === "parse") return permission;
    const number = merged === null ? 0 : this.#recordStatement(request, merged, touches);
    if (number > 0) this.#granted.set(permission, { number, models });
    if (this.strict && models.some((model) => !READING.has(model.class))) this.#mustBeDurable = true;
    if (models.some((model) => model.changesCatalog)) {
      this.#ddlOpen = true;
      this.#parts.catalog.beginDdl(this.#parts.log.sessionId);
    }
    return permission;
  }

  #refuse(refusal: Refusal): Refusal {
    this.counts.denied += 1;
    return refusal;
  }

  #planned(result: ColumnPlanResult): readonly (CellEdit | null)[] | null {
    if (result.unknownRelation) this.#parts.catalog.unknownRelation();
    for (const column of result.disagreements) {
      this.#parts.log.append({
        kind: "alert",
        alert: {
          code: "origin_disagreement",
          message: `The wire named a protected origin that analysis did not find, for output column ${JSON.stringify(column)}; it was masked.`,
        },
      });
    }
    return result.plan;
  }

  #recordStatement(request: StatementRequest, decision: Decision, withholdParameters: boolean): number {
    const number = this.#parts.log.nextStatement();
    const { detectors } = this.#parts.policies.current;
    this.counts.statements += 1;
    if (decision.effect === "mask") this.counts.masked += 1;
    this.#parts.log.append({
      kind: "statement",
      statement: {
        number,
        phase: request.phase,
        text: redactText(request.text, detectors),
        parameters: recordedParameters(
          request.parameters,
          detectors,
          withholdParameters && decision.statement.influences.length > 0,
        ),
        decision: decisionJson(decision),
      },
    });
    return number;
  }

  #decideInput(statement: StatementModel, text: string, state: CatalogState, nowMs: number): DecideInput {
    return {
      compiled: this.#parts.policies.current.compiled,
      principal: this.#parts.principal,
      resource: this.#parts.resource,
      session: this.#parts.facts,
      statement,
      text,
      labels: state.labels,
      nowMs,
      decisionId: newDecisionId(this.#parts.random),
    };
  }

  /** What is protected whatever the statement: for texts that belong to none. */
  #masking(state: CatalogState): PrincipalMasking {
    return maskingFor(this.#decideInput(NO_STATEMENT, "", state, this.#parts.clock.nowMs()));
  }

  #scanRules(masking: PrincipalMasking): readonly ScanRule[] {
    const { detectors } = this.#parts.policies.current;
    return masking.detectors.flatMap(({ entity, operator }) =>
      detectors.filter((detector) => detector.entity === entity).map((detector) => ({ detector, operator })),
    );
  }

  #analysisRequest(text: string, state: CatalogState): AnalysisRequest {
    const { bulkRowsMin, bulkLimitMax, safeFunctions } = this.#parts.resource.inspection;
    return {
      catalogKey: this.#parts.catalog.key,
      epoch: state.catalog.epoch,
      text,
      scope: this.#scope,
      settings: { bulkRowsMin, bulkLimitMax, safeFunctions },
    };
  }
}

/** The decision without what is internal to the gateway. */
export function decisionJson(decision: Decision): Readonly<Record<string, unknown>> {
  const { rowsMax: _rowsMax, hint: _hint, ...shown } = decision;
  return shown;
}

/** A limit is enforced while rows flow; what follows in the same text would already have run. */
function limitedBatchRefusal(
  merged: Decision,
  decisions: readonly Decision[],
  models: readonly StatementModel[],
): Decision | null {
  if (
    models.length < 2 ||
    decisions.every((decision) => decision.rowsMax === null) ||
    models.every((model) => READING.has(model.class))
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

const NO_STATEMENT: StatementModel = {
  class: "read",
  effects: [],
  relations: [],
  influences: [],
  bulkExport: false,
  bulkShape: false,
  bulkRelations: [],
  hasWhere: false,
  limit: null,
  undecided: [],
  columns: null,
  columnsKnown: true,
  writeFlows: [],
  reaches: [],
  sensitiveCatalogs: [],
  escapes: [],
  settings: [],
  scopeChange: null,
  copy: "none",
  changesCatalog: false,
};
