/** A session's judge with everything around it played by the test. For tests alone. */
import type { Catalog } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { PolicySpec, ResourceSpec, RuleSpec, Snapshot, TargetAccount } from "@sluice/core/snapshot.ts";
import { systemRandom } from "@sluice/core/system.ts";
import type { SessionRecord, StatementRecorded } from "@sluice/events/session-events.ts";
import { testSessionId } from "@sluice/events/testing.ts";
import type { Spool } from "@sluice/events/spool.ts";
import { compileDetector } from "@sluice/inspect/dlp/detect.ts";
import { compileSnapshot } from "@sluice/inspect/policy/compile.ts";
import { labelColumns } from "@sluice/inspect/policy/labels.ts";
import { catalogOf, principal, relation, session, statement } from "@sluice/inspect/policy/sample-input.ts";
import type { Analysis, SessionScope, StatementModel } from "@sluice/inspect/sql/model.ts";
import type { BoundValue, Permission, Refusal } from "@sluice/inspect/wire/judgement.ts";
import { expect } from "vitest";
import type { Analyser, AnalysisRequest } from "../analysis/analyser.ts";
import type { PolicyInForce, PolicyStore } from "../policy-watch/policy-store.ts";
import { type CatalogEntry, type CatalogState, stateOf } from "../upstream/catalogs.ts";
import { SessionJudge } from "./judge.ts";
import { SessionLog } from "./session-log.ts";

export const catalog: Catalog = catalogOf([relation(100, "public.customers", ["id", "ssn"])]);
export const resource: ResourceSpec = {
  name: "orders",
  labels: { env: "prod" },
  protocol: "postgres",
  target: { host: "127.0.0.1", port: 5432, database: "orders", databases: [], tls: { mode: "disable" } },
  credential: { username: { kind: "value", value: "app" } },
  inspection: { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [], recording: "relaxed" },
};
export const classifiers: Snapshot["classifiers"] = [
  {
    name: "ssn",
    entity: "US_SSN",
    columns: ["public.customers.ssn"],
    columnNames: [],
    values: { kind: "builtin", detector: "US_SSN" },
  },
];

export const read: StatementModel = statement({
  effects: [{ name: "read", class: "read" }],
  relations: [{ name: "public.customers", access: "read" }],
  columns: [{ name: "id", origins: ["public.customers.id"], exact: true }],
  reaches: [],
});

export function policyOf(
  version: string,
  rules: readonly RuleSpec[],
  resources: readonly ResourceSpec[] = [resource],
): PolicyInForce {
  const policies: readonly PolicySpec[] = [{ name: "agents", principals: {}, resources: {}, rules }];
  const snapshot: Snapshot = { version, resources, classifiers, policies, identityProviders: [] };
  const { compiled, faults } = compileSnapshot(snapshot);
  expect(faults).toEqual([]);
  const detectors = [compileDetector("US_SSN", { kind: "builtin", detector: "US_SSN" })];
  return { snapshot, compiled, detectors, resources: new Map(resources.map((one) => [one.name, one])), disabled: () => null };
}

export const allow: RuleSpec = { name: "all", effect: "allow", when: "true" };
export const deny: RuleSpec = { name: "none", effect: "deny", when: "true", reason: "not now" };

/** A judge over analyses that are at hand, with everything that can change within reach. */
export class Bench {
  readonly records: SessionRecord[] = [];
  readonly analyses: Map<string, Analysis> = new Map();
  /** Too large for the cache: given to those who wait for them, and forgotten. */
  readonly uncached: Map<string, Analysis> = new Map();
  readonly asked: Pick<AnalysisRequest, "text" | "settings">[] = [];
  readonly scopes: SessionScope[] = [];
  policy: PolicyInForce;
  state: CatalogState = stateOf(catalog, labelColumns(classifiers, catalog));
  nowMs: number = Date.UTC(2026, 0, 5, 12);
  /** Analyses take until this is resolved. */
  blocked: PromiseWithResolvers<void> | undefined;
  dirty = false;
  /** DDL that began so far, by whomever. */
  changes = 0;
  /** Other gateways know of this session's DDL; what telling them comes to; what the catalog was told. */
  announced = true;
  announce: () => Promise<void> = () => Promise.resolve();
  readonly ddl: string[] = [];
  readonly judge: SessionJudge;
  readonly log: SessionLog;

  constructor(rules: readonly RuleSpec[], account: TargetAccount = "readWrite") {
    this.policy = policyOf("v1", rules);
    const clock = { nowMs: () => this.nowMs, monotonicMs: () => 0 };
    const spool = { append: (record: SessionRecord) => void this.records.push(record) };
    this.log = new SessionLog(testSessionId(1), spool as Spool, clock); // no more of it is used here
    const at = (get: () => unknown): PropertyDescriptor => ({ get });
    this.judge = new SessionJudge({
      principal: principal(),
      resource,
      account,
      facts: session,
      catalog: Object.defineProperties({ key: "orders" } as CatalogEntry, {
        current: at(() => this.state),
        dirty: at(() => this.dirty),
        changes: at(() => this.changes),
        wait: { value: () => Promise.resolve(this.state) },
        announced: { value: () => this.announced },
        announce: { value: () => this.announce() },
        beginDdl: { value: () => void this.ddl.push("begin") },
        endDdl: { value: () => void this.ddl.push("end") },
      }),
      analyser: Object.assign({} as Analyser, {
        cached: ({ text, scope }: { text: string; scope: SessionScope }) => {
          this.scopes.push(scope);
          return this.analyses.get(text);
        },
        analyse: async ({ text, settings }: AnalysisRequest) => {
          this.asked.push({ text, settings });
          await this.blocked?.promise;
          return this.uncached.get(text);
        },
      }),
      policies: Object.defineProperty(
        {} as PolicyStore,
        "current",
        at(() => this.policy),
      ),
      log: this.log,
      limits: defaultLimits,
      clock,
      random: systemRandom,
    });
  }

  analysed(text: string, ...statements: readonly StatementModel[]): void {
    this.analyses.set(text, { kind: "ok", statements, epoch: "e" as CatalogEpoch }); // a test's own epoch
  }

  execute(text: string, ...values: readonly string[]): Permission | Refusal {
    const parameters = values.map((value): BoundValue => ({ typeOid: 25, format: "text", bytes: Buffer.from(value) }));
    const judgement = this.judge.judge({ phase: "execute", text, parameters });
    if (judgement === "pending") throw new Error("nothing should be pending");
    return judgement;
  }

  get statements(): readonly StatementRecorded[] {
    return this.records.flatMap((record) => (record.kind === "statement" ? [record.statement] : []));
  }
}
