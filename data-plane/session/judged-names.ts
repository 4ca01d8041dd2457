/**
 * What names mean to the statements of one session: the machine of inspect/sql with the catalog's epoch, and what names meant when a
 * portal was bound. Must never give a statement names other than those the target reads it by.
 */
import type { CatalogEpoch, DecisionId } from "@sluice/core/ids.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import type { SessionScope, StatementModel } from "@sluice/inspect/sql/model.ts";
import { meaningOf } from "@sluice/inspect/sql/scope.ts";
import { scopeOfExecution } from "@sluice/inspect/sql/postgres/temporary.ts";
import { SessionNames } from "@sluice/inspect/sql/session-names.ts";
import { unsureScope } from "@sluice/inspect/sql/unsure.ts";
import type { SessionNaming, StatementOutcome, StatementRequest } from "@sluice/inspect/wire/judgement.ts";
import type { SessionStart } from "@sluice/rpc/agent-link.ts";

interface JudgedNaming extends SessionNaming {
  readonly scope: SessionScope;
  readonly epoch: CatalogEpoch | undefined;
}

/** Withheld results have this number: whether the target counts the statement as done is not known. */
const WITHHELD = "53400";

export class JudgedNames {
  readonly machine: SessionNames;
  #epoch: CatalogEpoch | undefined;
  #naming: JudgedNaming | undefined;

  constructor(start: SessionStart | undefined) {
    this.machine = new SessionNames(start);
  }

  get naming(): SessionNaming {
    const { scope } = this.machine;
    if (this.#naming?.scope !== scope || this.#naming.epoch !== this.#epoch)
      this.#naming = { scope, epoch: this.#epoch, meaning: meaningOf(scope) };
    return this.#naming;
  }

  /** The scope that the request's text is read in. Of what was named under a former catalog nothing is certain. */
  scopeOf(request: Pick<StatementRequest, "names">, epoch: CatalogEpoch): SessionScope {
    if (this.#epoch !== undefined && this.#epoch !== epoch) this.machine.age();
    this.#epoch = epoch;
    if (!this.isOutdated(request)) return request.names === undefined ? this.machine.scope : scopeOfExecution(this.machine.scope);
    const bound = request.names as JudgedNaming; // the machine gives back what it got here
    return scopeOfExecution(bound.epoch === epoch ? bound.scope : unsureScope(bound.scope));
  }

  /** Names have come to mean something else since the portal was bound. */
  isOutdated({ names }: Pick<StatementRequest, "names">): boolean {
    return names !== undefined && names.meaning !== this.naming.meaning;
  }

  /** Only queries keep the names of their Bind; everything else looks them up when it runs, or at both times. */
  refusesOutdated(request: Pick<StatementRequest, "names">, models: readonly StatementModel[]): boolean {
    return this.isOutdated(request) && !models.every(isPlanned);
  }

  /** Code that nobody knows may change names as soon as it is sent, and even where its statement fails. */
  permitted(models: readonly StatementModel[]): void {
    for (const { scopeChanges } of models)
      for (const change of scopeChanges) if (change.kind === "lost") this.machine.lose(change.why);
  }

  /** A portal has run in part. */
  suspended(model: StatementModel | undefined): void {
    this.machine.succeeded(model?.scopeChanges ?? [], "");
  }

  /** `outlived`: DDL has begun since it was judged, so that it may have read other columns than was thought. */
  finished(model: StatementModel | undefined, outcome: StatementOutcome, outlived: boolean): void {
    const changes = model?.scopeChanges ?? [];
    if (outlived && changes.some((change) => change.kind === "temporary" && change.relation !== null))
      this.machine.lose("a temporary table filled while the database's structure changed");
    if (outcome.ok) this.machine.succeeded(changes, outcome.tag);
    else if (outcome.tag === WITHHELD) this.machine.uncertain(changes);
  }
}

/** What a portal bound under other names would run is not what can be judged now. */
export function outdatedDecision(decision: Decision, id: DecisionId): Decision {
  return {
    ...decision,
    id,
    effect: "deny",
    rule: "builtin/names-changed",
    reason: "what names mean in this session has changed since the portal was bound",
    hint: "Bind the statement again after search_path, the role or temporary tables have changed.",
  };
}

function isPlanned({ effects }: StatementModel): boolean {
  return plannedEffects.has(effects[0]?.name ?? "") && effects.every((effect) => effect.class !== "ddl");
}

const plannedEffects: ReadonlySet<string> = new Set(["select", "insert", "update", "delete", "merge"]);
