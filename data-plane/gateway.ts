/**
 * One gateway: listeners, policies, catalogs, sessions. Decides alone; reaches targets only through the agent link and leaves
 * nothing behind but what is in the spool. The same whether the other planes are in this process or elsewhere.
 */
import type { Config } from "@sluice/core/config.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";
import type { Spool } from "@sluice/events/spool.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { BindingsSink } from "@sluice/rpc/bindings.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import { type GatewayMetrics, noGatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import { noTraces, type Traces } from "@sluice/telemetry/session-trace.ts";
import type { Logger } from "pino";
import { Analyser } from "./analysis/analyser.ts";
import { drivers } from "./drivers/table.ts";
import { createExplainer } from "./explain.ts";
import type { GatewayParts } from "./gateway-parts.ts";
import { createTokenVerifier } from "./identity/token-verifier.ts";
import { Admission } from "./listen/admission.ts";
import { type CertificateSource, openCertificate } from "./listen/certificate.ts";
import { type Listener, startListener } from "./listen/listener.ts";
import { PolicyStore } from "./policy-watch/policy-store.ts";
import { CancelKeys } from "./session/cancel-keys.ts";
import { LiveSessions } from "./session/live-sessions.ts";
import { endWithLease } from "./session/lease-end.ts";
import { Catalogs } from "./upstream/catalogs.ts";
import type { DdlAcrossGateways } from "./upstream/ddl.ts";

export interface GatewayOptions {
  readonly config: Pick<Config["dataPlane"], "listeners">;
  /** Null only with `plaintext-loopback`. */
  readonly certificate: CertificateSource | null;
  readonly snapshots: SnapshotSource;
  readonly agentLink: AgentLink;
  readonly spool: Spool;
  /** Shared with other gateways' requests; absent: this gateway is alone. */
  readonly cancelKeys?: CancelKeys;
  /** Absent: this gateway is alone. */
  readonly ddl?: DdlAcrossGateways;
  /** Who is told of columns that keep their label. Absent: nobody. */
  readonly bindings?: BindingsSink;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly metrics?: GatewayMetrics;
  readonly traces?: Traces;
}

export interface Gateway {
  readonly listeners: readonly { readonly protocol: Protocol; readonly address: string }[];
  readonly explainer: DecisionExplainer;
  /** Sessions that run or are about to. */
  readonly sessions: number;
  readonly draining: boolean;
  /** Statements that wait for an analysis. */
  readonly analysesWaiting: number;
  /** By resource, in seconds: how long ago its structure was last known to be what statements are judged by. */
  readonly catalogAges: Iterable<readonly [resource: string, seconds: number]>;
  /** Columns whose label the control plane does not keep yet. */
  readonly bindingsPending: number;
  /** Ends one session and tells its caller why. False: it is not here. */
  endSession(sessionId: string, error: GatewayError): boolean;
  /** Stops accepting, lets sessions finish within `drainTimeoutMs`, then ends them. */
  drain(): Promise<void>;
  /** Frees everything; call after `drain`. */
  close(): Promise<void>;
}

/** Starts serving. Throws GatewayError `config_invalid` for certificates, addresses or policies that cannot be used. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { limits, clock, random, log, agentLink, spool } = options;
  const certificate = options.certificate === null ? null : await openCertificate(options.certificate, log);
  const policies = new PolicyStore(options.snapshots, log);
  const analyser = new Analyser({ limits, log, ...(options.metrics === undefined ? {} : { metrics: options.metrics }) });
  const { ddl, bindings } = options;
  const shared = { ...(ddl === undefined ? {} : { ddl }), ...(bindings === undefined ? {} : { bindings }) };
  const catalogs = new Catalogs({ agentLink, analyser, policies, ...shared, limits, clock, log });
  const verifier = createTokenVerifier({ providers: () => policies.current.snapshot.identityProviders, clock, limits, log });
  const sessions = new LiveSessions();
  const stopLooking = endWithLease(options.snapshots, policies, sessions);
  const stopLosing = ddl?.onLost((session, error) => sessions.end(session, error));
  let draining = false;
  const parts: GatewayParts = {
    agentLink,
    spool,
    policies,
    catalogs,
    analyser,
    verifier,
    admission: new Admission(limits),
    cancelKeys: options.cancelKeys ?? new CancelKeys(random),
    sessions,
    certificate,
    limits,
    clock,
    random,
    log,
    draining: () => draining,
    metrics: options.metrics ?? noGatewayMetrics,
    traces: options.traces ?? noTraces,
  };
  const close = async (): Promise<void> => {
    stopLooking();
    stopLosing?.();
    catalogs.close();
    policies.close();
    certificate?.close();
    verifier.close();
    await analyser.close();
  };
  const listeners: Listener[] = [];
  try {
    for (const listener of options.config.listeners)
      listeners.push(await startListener(listener, drivers[listener.protocol], parts));
  } catch (error) {
    for (const listener of listeners) void listener.stop();
    await close();
    throw error;
  }
  return {
    listeners: listeners.map(({ protocol, address }) => ({ protocol, address })),
    explainer: createExplainer(parts),
    get sessions() {
      return sessions.size;
    },
    get draining() {
      return draining;
    },
    get analysesWaiting() {
      return analyser.waiting;
    },
    get catalogAges() {
      return catalogs.ages();
    },
    get bindingsPending() {
      return catalogs.bindingsPending;
    },
    endSession: (sessionId, error) => sessions.end(sessionId, error),
    drain: async () => {
      draining = true;
      for (const listener of listeners) void listener.stop();
      await sessions.drain(clock, limits.drainTimeoutMs);
    },
    close,
  };
}
