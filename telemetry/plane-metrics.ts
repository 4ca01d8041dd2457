/** What agent, control plane and recorder count. Names and help stand here and nowhere else. */
import type { Meter } from "./meter.ts";

export interface AgentMetrics {
  /** A target connection was asked for. `outcome`: `opened`, or a code of core/errors.ts. */
  opened(resource: string, outcome: string): void;
  /** A ticket or binding that did not fit: somebody tries, or a gateway is broken. */
  bindingRefused(reason: string): void;
  catalogRead(outcome: string): void;
}

export interface AgentFacts {
  readonly sessions: () => number;
  readonly warmConnections: () => number;
  readonly pooledConnections: () => number;
  readonly controlPlanes: () => number;
  /** Milliseconds; gateways that do not answer are left out. */
  readonly roundTrips: () => Iterable<readonly [gateway: string, ms: number]>;
}

export function createAgentMetrics(meter: Meter, facts: AgentFacts): AgentMetrics {
  const opens = meter.counter("sluice_agent_opens_total", "Target connections asked for, by resource and outcome.", [
    "resource",
    "outcome",
  ]);
  const refused = meter.counter("sluice_agent_bindings_refused_total", "Session connections that were not bound, by reason.", [
    "reason",
  ]);
  const catalogs = meter.counter("sluice_agent_catalogs_total", "Catalogs read, by outcome.", ["outcome"]);
  meter.gauge("sluice_agent_sessions_now", "Sessions that it carries now.", facts.sessions);
  meter.gauge("sluice_agent_warm_connections", "Session connections to gateways that wait for a session.", facts.warmConnections);
  meter.gauge("sluice_agent_pooled_connections", "Target connections that wait to be used again.", facts.pooledConnections);
  meter.gauge("sluice_control_planes", "Control planes that are heard of.", facts.controlPlanes);
  meter.gauges("sluice_agent_round_trip_milliseconds", "To each gateway.", "gateway", facts.roundTrips);
  return {
    opened: (resource, outcome) => opens(1, resource, outcome),
    bindingRefused: (reason) => refused(1, reason),
    catalogRead: (outcome) => catalogs(1, outcome),
  };
}

export const noAgentMetrics: AgentMetrics = { opened: () => {}, bindingRefused: () => {}, catalogRead: () => {} };

export interface ControlPlaneMetrics {
  applied(outcome: "taken" | "refused"): void;
  enrolled(role: string, outcome: string): void;
  snapshotRejected(): void;
  /** Labelled columns for which a resource had no room. */
  bindingsRefused(columns: number): void;
}

export interface ControlPlaneFacts {
  readonly snapshotSequence: () => number;
  readonly nodes: () => Iterable<readonly [role: string, connected: number]>;
}

export function createControlPlaneMetrics(meter: Meter, facts: ControlPlaneFacts): ControlPlaneMetrics {
  const applies = meter.counter("sluice_applies_total", "Applies of manifests, by outcome.", ["outcome"]);
  const enrolments = meter.counter("sluice_enrolments_total", "Enrolments and renewals, by role and outcome.", [
    "role",
    "outcome",
  ]);
  const unbound = meter.counter("sluice_bindings_refused_total", "Reports of labelled columns for which a resource had no room.");
  const rejected = meter.counter("sluice_snapshots_rejected_total", "Snapshots that a node did not take.");
  meter.gauge("sluice_policy_newest_sequence", "Sequence of the newest snapshot.", facts.snapshotSequence);
  meter.gauges("sluice_nodes_connected", "Nodes connected to this replica, by role.", "role", facts.nodes);
  return {
    applied: (outcome) => applies(1, outcome),
    enrolled: (role, outcome) => enrolments(1, role, outcome),
    snapshotRejected: () => rejected(1),
    bindingsRefused: (columns) => unbound(columns),
  };
}

export const noControlPlaneMetrics: ControlPlaneMetrics = {
  applied: () => {},
  enrolled: () => {},
  snapshotRejected: () => {},
  bindingsRefused: () => {},
};

export interface RecorderMetrics {
  /** `lagMs`: from the newest record's making to its keeping. */
  batch(records: number, bytes: number, lagMs: number): void;
  batchFailed(): void;
  receipt(): void;
}

export interface RecorderFacts {
  /** Batches that wait for one before them. */
  readonly batchesHeld: () => number;
  readonly controlPlanes: () => number;
}

/** A receipt takes some 20 ms in a rack; whoever waits for minutes fills spools. Milliseconds. */
const LAG_MS = [10, 50, 100, 500, 1_000, 5_000, 30_000, 120_000, 600_000];

export function createRecorderMetrics(meter: Meter, facts: RecorderFacts): RecorderMetrics {
  const records = meter.counter("sluice_recorder_records_total", "Records kept.");
  const bytes = meter.counter("sluice_recorder_bytes_total", "Bytes of records kept, before compression.");
  const failures = meter.counter("sluice_recorder_failures_total", "Batches that could not be kept and are offered again.");
  const lag = meter.histogram(
    "sluice_recorder_lag_milliseconds",
    "From the newest record of a batch to its keeping, by the clocks of gateway and recorder.",
    LAG_MS,
  );
  const receipts = meter.counter("sluice_recorder_receipts_total", "Receipts given to gateways.");
  meter.gauge("sluice_recorder_batches_held", "Batches that wait for one before them.", facts.batchesHeld);
  meter.gauge("sluice_control_planes", "Control planes that are heard of.", facts.controlPlanes);
  return {
    batch: (count, size, lagMs) => {
      records(count);
      bytes(size);
      lag(lagMs);
    },
    batchFailed: () => failures(1),
    receipt: () => receipts(1),
  };
}

export const noRecorderMetrics: RecorderMetrics = { batch: () => {}, batchFailed: () => {}, receipt: () => {} };
