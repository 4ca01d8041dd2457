/**
 * Answers a session machine's questions: analysis (cached, else pending), decision, what the caller is told, how columns are
 * edited, and the record of it. One judge a session. It never permits what was not analysed against the catalog in force.
 */
import type { CellEdit } from "@sluice/core/cell-edit.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { type DecisionId, newDecisionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { Random } from "@sluice/core/random.ts";
import type { InspectionSpec, ResourceSpec, TargetAccount } from "@sluice/core/snapshot.ts";
import { type SessionFacts, unparsedDecision } from "@sluice/inspect/policy/decide.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import type { Analysis, AnalysisSettings, StatementModel } from "@sluice/inspect/sql/model.ts";
import { precheck } from "@sluice/inspect/sql/precheck.ts";
import { unsureAnalysis } from "@sluice/inspect/sql/unsure.ts";
import type {
  Judge,
  Judgement,
  Permission,
  Refusal,
  SessionNaming,
  StatementOutcome,
  StatementPlan,
  StatementRequest,
} from "@sluice/inspect/wire/judgement.ts";
import type { SessionStart } from "@sluice/rpc/agent-link.ts";
import { type GatewayMetrics, noGatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import { notTraced, type SessionTrace } from "@sluice/telemetry/session-trace.ts";
import type { AnalysisRequest, Analyser } from "../analysis/analyser.ts";
import type { PolicyStore } from "../policy-watch/policy-store.ts";
import type { CatalogEntry, CatalogState } from "../upstream/catalogs.ts";
import { type ColumnPlanResult, planColumns } from "./column-plans.ts";
import { planCopy } from "./copy-plans.ts";
import { pooledForIds } from "./decision-ids.ts";
import { cancelledError, refusalOfDecision, refusalOfError, refusalOfSyntax } from "./refusals.ts";
import { JudgedNames, outdatedDecision } from "./judged-names.ts";
import { NO_STATEMENT } from "./no-statement.ts";
import { recordsStrictly } from "./resource-access.ts";
import type { SessionLog } from "./session-log.ts";
import { recordedStatement } from "./statement-records.ts";
import { StatementWatch } from "./statement-watch.ts";
import { type JudgedStatement, type ParsedAnalysis, sameOutcome, type Verdict, Verdicts } from "./verdicts.ts";

export interface JudgeParts {
  readonly principal: Principal;
  /** As it was when the session opened; what of it counts later is asked of the policy in force. */
  readonly resource: ResourceSpec;
  /** The credential that the target connection was opened with. */
  readonly account: TargetAccount;
  readonly facts: SessionFacts;
  readonly catalog: CatalogEntry;
  /** As the target said it when the connection was opened. */
  readonly start?: SessionStart;
  readonly analyser: Analyser;
  readonly policies: PolicyStore;
  readonly log: SessionLog;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics?: GatewayMetrics;
  readonly trace?: SessionTrace;
}

/** A permission with what the judge must know of it when a statement has ended. */
interface Granted extends Permission {
  /** The statement record's number; 0: nothing was recorded. */
  readonly number: number;
  readonly verdict: Verdict;
  /** What the verdict was made from, for making it again. */
  readonly analysis: ParsedAnalysis;
  readonly text: string;
}

export class SessionJudge implements Judge {
  readonly #parts: JudgeParts;
  readonly #names: JudgedNames;
  #pending: StatementRequest | undefined;
  #failure: { readonly request: StatementRequest; readonly error: GatewayError } | undefined;
  /** An answer that the shared cache did not keep, for the one question that is asked again. */
  #held: { readonly asked: AnalysisRequest; readonly analysis: Analysis } | undefined;
  readonly #random: Random;
  readonly #verdicts: Verdicts;
  readonly #watch: StatementWatch;
  #settings: AnalysisSettings;
  #inspection: InspectionSpec;
  /** Whose statements take their turns together where analyses wait. */
  readonly #asker: string;
  readonly #nowMs: () => number;
  /** Ends the wait of the pending statement; undefined while nothing is pending. */
  #cancelPending: (() => void) | undefined;
  /** Permitted and not known to have ended: what a policy change must look at once more. And how often DDL had begun by then. */
  readonly #running = new Map<Granted, number>();
  #mustBeDurable = false;
  /** Something was announced to other gateways, or begun, that must be ended. */
  #ddlOpen = false;
  /** What is pending waits for other gateways to hear of it. */
  #announces = false;
  readonly counts: { statements: number; denied: number; masked: number } = { statements: 0, denied: 0, masked: 0 };

  constructor(parts: JudgeParts) {
    const { principal, resource, facts, clock } = parts;
    this.#parts = parts;
    this.#names = new JudgedNames(parts.start);
    this.#random = pooledForIds(parts.random);
    this.#verdicts = new Verdicts({ principal, resource, facts, random: this.#random });
    this.#watch = new StatementWatch(resource.name, parts.metrics ?? noGatewayMetrics, parts.trace ?? notTraced, clock);
    this.#inspection = resource.inspection;
    this.#settings = settingsOf(resource.inspection);
    this.#nowMs = () => clock.nowMs();
    this.#asker = JSON.stringify([principal.issuer, principal.subject]);
  }

  get notificationsClear(): boolean {
    const state = this.#parts.catalog.current;
    if (state === undefined) return false;
    return !this.#verdicts.maskingOf(NO_STATEMENT, state, this.#parts.policies.current, this.#nowMs()).protects;
  }

  /** True once after a statement was permitted that must be durable before it is forwarded. */
  takeMustBeDurable(): boolean {
    const must = this.#mustBeDurable;
    this.#mustBeDurable = false;
    return must;
  }

  /** Records are durable before release, as the policy in force says. */
  get strict(): boolean {
    return recordsStrictly(this.#resource, this.#parts.catalog);
  }

  judge(request: StatementRequest): Judgement | "pending" {
    if (this.#failure?.request.text === request.text && this.#failure.request.phase === request.phase) {
      const { error } = this.#failure;
      this.#failure = undefined;
      this.counts.denied += 1;
      return refusalOfError(error);
    }
    const state = this.#parts.catalog.current;
    const asked = state === undefined ? undefined : this.#analysisRequest(request, state);
    const analysis = asked === undefined ? undefined : (this.#parts.analyser.cached(asked) ?? this.#takeHeld(asked));
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
    const cancelled = Promise.withResolvers<never>();
    const waited = this.#watch.waits();
    this.#cancelPending = () => cancelled.reject(cancelledError());
    try {
      if (this.#announces) await Promise.race([this.#announce(), cancelled.promise]);
      const { asked, analysis } = await Promise.race([this.#analyse(request), cancelled.promise]);
      if (this.#parts.analyser.cached(asked) === undefined) this.#held = { asked, analysis };
    } catch (error) {
      this.#failure = { request, error: toGatewayError(error) };
    } finally {
      this.#cancelPending = undefined;
      waited();
    }
  }

  /** The caller wishes the pending statement to end: it is refused, and the target never hears of it. False: nothing is pending. */
  cancelPending(): boolean {
    const cancel = this.#cancelPending;
    cancel?.();
    return cancel !== undefined;
  }

  /**
   * Why the session must end under the policy in force, because of what runs in it: it would be refused now, or masked or limited in
   * another way. Null: it may go on. What has not begun to run is decided when it does.
   */
  reconsider(): GatewayError | null {
    const policy = this.#parts.policies.current;
    for (const { verdict, analysis, text } of this.#running.keys()) {
      if (verdict.policy === policy) continue;
      if (sameOutcome(verdict, this.#verdicts.of(analysis, text, verdict.state, policy, this.#nowMs))) continue;
      return new GatewayError("killed", "The policy changed for a statement that was running.", {
        hint: "Connect again and repeat the statement: it is decided by the policy that holds now.",
      });
    }
    return null;
  }

  /** Before DDL goes out no gateway may trust what it knows: its callers would read what changes by what it was. */
  async #announce(): Promise<void> {
    this.#announces = false;
    this.#ddlOpen = true;
    await this.#parts.catalog.announce(this.#parts.log.sessionId);
  }

  async #analyse(request: StatementRequest): Promise<{ readonly asked: AnalysisRequest; readonly analysis: Analysis }> {
    const state = await this.#parts.catalog.wait();
    const asked = this.#analysisRequest(request, state);
    return { asked, analysis: await this.#parts.analyser.analyse(asked) };
  }

  finished(permission: Permission, index: number, outcome: StatementOutcome): void {
    const granted = permission as Granted; // the machine gives back what this judge gave
    const { number, verdict } = granted;
    const outlived = this.#running.get(granted) !== this.#parts.catalog.changes;
    if (!outcome.ok || index >= verdict.statements.length - 1) {
      this.#running.delete(granted);
      this.#watch.finished(number, outcome);
    }
    this.#names.finished(verdict.statements[index]?.model, outcome, outlived);
    if (number === 0) return;
    this.#parts.log.append({
      kind: "finished",
      finished: { number, ok: outcome.ok, tag: outcome.tag, rows: outcome.rows },
    });
  }

  suspended(permission: Permission, index: number): void {
    const { verdict } = permission as Granted; // as above
    this.#names.suspended(verdict.statements[index]?.model);
  }

  get names(): SessionNaming {
    return this.#names.naming;
  }

  get undoable(): boolean {
    return this.#names.machine.undoable;
  }

  failed(): void {
    this.#names.machine.failed();
  }

  ready(state: "I" | "T" | "E"): void {
    this.#names.machine.ready(state);
  }

  reported(name: string, value: string): void {
    this.#names.machine.reported(name, value);
  }

  nameTaken(of: "statement" | "portal", name: string): void {
    this.#names.machine.nameTaken(of, name);
  }

  /** No transaction is open any more: DDL, if there was any, can be seen by others. */
  transactionEnded(): void {
    this.#running.clear();
    this.#watch.idle();
    if (!this.#ddlOpen) return;
    this.#ddlOpen = false;
    this.#parts.catalog.endDdl(this.#parts.log.sessionId);
  }

  #decide(request: StatementRequest, analysis: Analysis, state: CatalogState): Judgement | "pending" {
    const policy = this.#parts.policies.current;
    const id = newDecisionId(this.#random);
    if (analysis.kind === "unparsed") {
      const decision = unparsedDecision(id, policy.compiled);
      this.#recordStatement(request, decision, null);
      return this.#refuse(refusalOfSyntax(analysis.message, analysis.position, decision));
    }
    // The decision too must not rest on what DDL under way may have changed: `count` or `=` may be somebody's own by now.
    const trusted = this.#parts.catalog.dirty ? unsureAnalysis(analysis) : analysis;
    const verdict = this.#verdicts.of(trusted, request.text, state, policy, this.#nowMs);
    if (verdict.permitted && verdict.needsWriting && this.#parts.account === "readOnly")
      return this.#refuseWriting(request, verdict, id);
    if (request.phase !== "parse" && verdict.permitted && this.#mustAnnounce(verdict)) {
      this.#pending = request;
      this.#announces = true;
      return "pending";
    }
    const outdated = this.#names.refusesOutdated(request, analysis.statements);
    if (outdated) return this.#refuseDecided(request, outdatedDecision(verdict.decision!, id), null); // some statement is
    if (verdict.permitted) return this.#permit(request, trusted, verdict, state, id);
    const decision: Decision = { ...verdict.decision!, id }; // nothing is refused without a decision
    return this.#refuseDecided(request, decision, verdict);
  }

  #mustAnnounce({ changesCatalog, statements }: Verdict): boolean {
    if (!changesCatalog || !statements.some(({ model }) => model.effects.some(isDdl))) return false;
    return !this.#parts.catalog.announced(this.#parts.log.sessionId);
  }

  /** The policy permits it by now, the connection does not: it was opened when nothing but reading was permitted. */
  #refuseWriting(request: StatementRequest, verdict: Verdict, id: DecisionId): Refusal {
    const decision: Decision = {
      ...verdict.decision!, // nothing that writes is permitted without one
      id,
      effect: "deny",
      rule: "builtin/read-only-account",
      reason: "this session was opened with the account that may only read, because policy permitted nothing else then",
      hint: "Connect again: a new session is opened with the account that may write.",
    };
    return this.#refuseDecided(request, decision, null);
  }

  #refuseDecided(request: StatementRequest, decision: Decision, verdict: Verdict | null): Refusal {
    this.#recordStatement(request, decision, verdict);
    return this.#refuse(refusalOfDecision(decision));
  }

  #permit(
    request: StatementRequest,
    analysis: ParsedAnalysis,
    verdict: Verdict,
    state: CatalogState,
    id: DecisionId,
  ): Permission {
    const { decision } = verdict;
    if (verdict.changesCatalog && request.phase !== "parse") {
      this.#ddlOpen = true;
      this.#parts.catalog.beginDdl(this.#parts.log.sessionId);
    }
    this.#names.permitted(analysis.statements);
    const recorded = decision !== null && request.phase !== "parse";
    const permission: Granted = {
      kind: "permit",
      statements: verdict.statements.map((statement) => this.#plan(statement, state)),
      scrub: verdict.touches,
      settleFirst: verdict.settleFirst || this.#names.machine.settles(analysis.statements),
      ...(decision === null ? {} : { decisionId: id }),
      number: recorded ? this.#recordStatement(request, { ...decision, id }, verdict) : 0,
      verdict,
      analysis,
      text: request.text,
    };
    if (request.phase === "parse") return permission;
    if (verdict.statements.length > 0) this.#running.set(permission, this.#parts.catalog.changes);
    if (verdict.writes && this.strict) this.#mustBeDurable = true;
    return permission;
  }

  /** A plan of its own for each permission: how columns are edited is asked again even where the verdict is the same. */
  #plan(statement: JudgedStatement, state: CatalogState): StatementPlan {
    const { model, masking, scanRules } = statement;
    const { catalog } = this.#parts;
    const { changes } = catalog;
    // It may wait at the target while DDL comes, is committed and read: then it was judged by what is no more.
    const outlived = (): boolean => catalog.changes !== changes;
    return {
      rowsMax: statement.decision.rowsMax,
      undoWhenExceeded: statement.undoWhenExceeded,
      // COPY says nothing of its columns: the session ends when the target begins one that was permitted for what they were.
      get copy() {
        const { copy, relations } = model;
        return copy === "out" && masking.protects && relations.length > 0 && outlived() ? "none" : copy;
      },
      planColumns: (fields) => {
        const dirty = catalog.dirty || outlived();
        return this.#planned(planColumns({ model, fields, masking, scanRules, state, dirty }));
      },
      planCopy: (columns, binary) => {
        const dirty = catalog.dirty || outlived();
        return planCopy({ model, columns, binary, masking, scanRules, state, rowsMax: statement.decision.rowsMax, dirty });
      },
    };
  }

  #refuse(refusal: Refusal): Refusal {
    this.counts.denied += 1;
    return refusal;
  }

  #planned(result: ColumnPlanResult): readonly (CellEdit | null)[] | null {
    if (result.unknownRelation) this.#parts.catalog.unknownRelation();
    for (const column of result.disagreements) {
      this.#watch.alerted("origin_disagreement");
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

  /** Returns the statement's number. */
  #recordStatement(request: StatementRequest, decision: Decision, verdict: Verdict | null): number {
    const number = this.#parts.log.nextStatement();
    const { detectors } = this.#parts.policies.current;
    this.counts.statements += 1;
    if (decision.effect === "mask") this.counts.masked += 1;
    this.#watch.decided(number, request.phase, decision, verdict?.permitted === true);
    this.#parts.log.append({
      kind: "statement",
      statement: recordedStatement({ number, request, decision, verdict, detectors }),
    });
    return number;
  }

  /** Without this, an analysis too large for the cache would be made again for ever. */
  #takeHeld({ text, epoch, scope, settings }: AnalysisRequest): Analysis | undefined {
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined) return undefined;
    const { asked, analysis } = held;
    const same =
      asked.text === text && asked.epoch === epoch && asked.scope.digest === scope.digest && asked.settings === settings;
    return same ? analysis : undefined;
  }

  /** As the policy in force declares it: labels, thresholds and recording may have changed under the session. */
  get #resource(): ResourceSpec {
    const { policies, resource } = this.#parts;
    return policies.current.resources.get(resource.name) ?? resource;
  }

  #analysisRequest(request: StatementRequest, state: CatalogState): AnalysisRequest {
    const { inspection } = this.#resource;
    if (inspection !== this.#inspection) {
      this.#inspection = inspection;
      this.#settings = settingsOf(inspection);
    }
    return {
      asker: this.#asker,
      catalogKey: this.#parts.catalog.key,
      epoch: state.catalog.epoch,
      text: request.text,
      scope: this.#names.scopeOf(request, state.catalog.epoch),
      settings: this.#settings,
    };
  }
}

/**
 * Its own text changes what others rely on, or runs code that nobody has seen. Not so a function or trigger that is called in passing:
 * what that changes, other gateways learn of at their next read.
 */
function isDdl({ class: kind }: StatementModel["effects"][number]): boolean {
  return kind === "ddl" || kind === "privilege" || kind === "call" || kind === "unknown";
}

function settingsOf({ bulkRowsMin, bulkLimitMax, safeFunctions }: InspectionSpec): AnalysisSettings {
  return { bulkRowsMin, bulkLimitMax, safeFunctions };
}
