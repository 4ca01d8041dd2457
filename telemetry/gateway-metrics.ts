/** What a gateway counts. Names and help stand here and nowhere else; the gateway calls with words of its own domain. */
import type { Meter } from "./meter.ts";

export interface GatewayMetrics {
  connectionRefused(code: string): void;
  sessionBegan(resource: string): void;
  /** `code`: `closed` for an ordinary end, else a code of core/errors.ts. */
  sessionEnded(resource: string, code: string): void;
  /** One decision on one statement. `effect` and `statementClass` as the contract names them. */
  decided(resource: string, effect: string, statementClass: string): void;
  /** From the statement's arrival to its decision, when that had to wait for an analysis. Milliseconds. */
  analysed(waitedMs: number): void;
  /** The worker was late or broken. */
  analysisWorkerReplaced(reason: string): void;
  /** A statement that could not be analysed, by code: too many wait, too late, too deep … */
  analysisRefused(code: string): void;
  released(bytes: number): void;
  alerted(code: string): void;
  /** From the caller's authentication to a target connection that is ready. Milliseconds. */
  targetOpened(tookMs: number): void;
  targetFailed(code: string): void;
  cancelForwarded(outcome: "sent" | "limited" | "unknown"): void;
}

/** Read when somebody asks for the metrics. */
export interface GatewayFacts {
  readonly sessions: () => number;
  readonly spoolBytes: () => number;
  /** Seconds; Infinity where there is none. */
  readonly leaseSeconds: (strict: boolean) => number;
  readonly snapshotSequence: () => number;
  readonly controlPlanes: () => number;
  readonly agentSessions: () => Iterable<readonly [agent: string, sessions: number]>;
  readonly draining: () => boolean;
  /** Seconds since each resource's structure was last known to be what statements are judged by; Infinity before it is known. */
  readonly catalogAges: () => Iterable<readonly [resource: string, seconds: number]>;
  /** Labelled columns that the control plane does not keep yet. */
  readonly bindingsPending: () => number;
  /** Statements that wait for an analysis. */
  readonly analysesWaiting: () => number;
}

/** Ordinary analyses take under 1 ms, the deadline is five seconds. Milliseconds. */
const ANALYSIS_MS = [0.5, 1, 2, 5, 10, 50, 200, 1_000, 5_000];
/** One hop in a rack to a far database with TLS and SCRAM. Milliseconds. */
const OPEN_MS = [2, 5, 10, 20, 50, 100, 250, 500, 1_000, 5_000, 10_000];

export function createGatewayMetrics(meter: Meter, facts: GatewayFacts): GatewayMetrics {
  const refused = meter.counter("sluice_connections_refused_total", "Connections that did not become a session, by code.", [
    "code",
  ]);
  const began = meter.counter("sluice_sessions_begun_total", "Sessions that began, by resource.", ["resource"]);
  const ended = meter.counter("sluice_sessions_ended_total", "Sessions that ended, by resource and code.", ["resource", "code"]);
  const statements = meter.counter("sluice_statements_total", "Statements decided, by resource, effect and class.", [
    "resource",
    "effect",
    "class",
  ]);
  const bytes = meter.counter("sluice_released_bytes_total", "Bytes released to callers.");
  const alerts = meter.counter("sluice_alerts_total", "Alerts raised in sessions, by code.", ["code"]);
  const opens = meter.counter("sluice_target_failures_total", "Target connections that could not be had, by code.", ["code"]);
  const cancels = meter.counter("sluice_cancels_forwarded_total", "Cancel requests for sessions of other gateways.", ["outcome"]);
  meter.gauge("sluice_sessions", "Sessions that run now.", facts.sessions);
  meter.gauge("sluice_spool_bytes", "Records that the recorder has not confirmed yet.", facts.spoolBytes);
  meter.gauge("sluice_policy_lease_seconds", "How long the snapshot in force may still be used unheard.", () =>
    facts.leaseSeconds(false),
  );
  meter.gauge("sluice_policy_strict_lease_seconds", "The same for resources that are recorded strictly.", () =>
    facts.leaseSeconds(true),
  );
  meter.gauge("sluice_policy_sequence", "Sequence of the snapshot in force.", facts.snapshotSequence);
  meter.gauge("sluice_control_planes", "Control planes that are heard of.", facts.controlPlanes);
  meter.gauges("sluice_agent_sessions", "Sessions by agent.", "agent", facts.agentSessions);
  const replaced = meter.counter("sluice_analysis_workers_replaced_total", "Analysis workers that were late or broken.", [
    "reason",
  ]);
  const unanalysed = meter.counter("sluice_analyses_refused_total", "Statements that could not be analysed, by code.", ["code"]);
  meter.gauge("sluice_analyses_waiting", "Statements that wait for an analysis.", facts.analysesWaiting);
  meter.gauges(
    "sluice_catalog_age_seconds",
    "Since a resource's structure was last known to be what statements are judged by.",
    "resource",
    facts.catalogAges,
  );
  meter.gauge("sluice_bindings_pending", "Labelled columns that the control plane does not keep yet.", facts.bindingsPending);
  meter.gauge("sluice_draining", "1 while it takes no new sessions.", () => (facts.draining() ? 1 : 0));
  return {
    connectionRefused: (code) => refused(1, code),
    sessionBegan: (resource) => began(1, resource),
    sessionEnded: (resource, code) => ended(1, resource, code),
    decided: (resource, effect, statementClass) => statements(1, resource, effect, statementClass),
    analysed: meter.histogram("sluice_analysis_wait_milliseconds", "Waits for an analysis that was not cached.", ANALYSIS_MS),
    analysisWorkerReplaced: (reason) => replaced(1, reason),
    analysisRefused: (code) => unanalysed(1, code),
    released: (count) => bytes(count),
    alerted: (code) => alerts(1, code),
    targetOpened: meter.histogram(
      "sluice_target_open_milliseconds",
      "From authentication to a ready target connection.",
      OPEN_MS,
    ),
    targetFailed: (code) => opens(1, code),
    cancelForwarded: (outcome) => cancels(1, outcome),
  };
}

/** For where nobody reads metrics. */
export const noGatewayMetrics: GatewayMetrics = {
  connectionRefused: () => {},
  sessionBegan: () => {},
  sessionEnded: () => {},
  decided: () => {},
  analysed: () => {},
  analysisWorkerReplaced: () => {},
  analysisRefused: () => {},
  released: () => {},
  alerted: () => {},
  targetOpened: () => {},
  targetFailed: () => {},
  cancelForwarded: () => {},
};
