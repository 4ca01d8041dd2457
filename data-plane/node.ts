/**
 * A gateway as a process of its own: its identity, its link to the control planes, the last snapshot, its agents, its spool, and the
 * gateway itself. Serves as soon as a policy is known, be it the one of the last run; before that its callers' ports are not bound.
 * Must never serve callers with a policy that nobody vouches for, nor forget records that were not shipped.
 */
import { join } from "node:path";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { Config, LinksConfig, NodeConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";
import { type FileSpool, openFileSpool } from "@sluice/events/spool/file-spool.ts";
import type { ControlHandlers } from "@sluice/rpc/control-link.ts";
import { openControlLink } from "@sluice/rpc/control/link.ts";
import { openNodeIdentity } from "@sluice/rpc/identity/open.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import {
  createGatewayMetrics,
  type GatewayFacts,
  type GatewayMetrics,
  noGatewayMetrics,
} from "@sluice/telemetry/gateway-metrics.ts";
import type { Meter } from "@sluice/telemetry/meter.ts";
import type { Traces } from "@sluice/telemetry/session-trace.ts";
import type { Logger } from "pino";
import { callerAddresses, callerHosts, hostsNotCertified } from "./caller-addresses.ts";
import { ControlClock } from "./control-clock.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { LateControlLink } from "./late-control-link.ts";
import type { CertificateSource } from "./listen/certificate.ts";
import { type AgentLinks, openAgentLinks } from "./links/open.ts";
import { CancelLimiter } from "./peers/cancel-limiter.ts";
import { createGatewayPeers } from "./peers/gateway-peers.ts";
import { openRemoteSnapshots, type RemoteSnapshots } from "./policy-watch/remote-source.ts";
import { CancelKeys } from "./session/cancel-keys.ts";
import { openSlot } from "./slot.ts";

export interface GatewayNodeOptions {
  readonly config: Config;
  /** Absolute; made when absent. */
  readonly dataDirectory: string;
  readonly environment: (name: string) => string | undefined;
  /** Begins to carry records from the spool to whoever keeps them. Must not wait for anybody to answer. */
  readonly ship: (parts: ShippingParts) => Promise<Shipping>;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Aborts a start that still waits for a control plane. */
  readonly signal?: AbortSignal;
  /** Where it declares what it counts. */
  readonly meter?: Meter;
  readonly traces?: Traces;
}

export interface ShippingParts {
  /** The gateway's name. */
  readonly name: string;
  readonly identity: NodeIdentity;
  readonly spool: FileSpool;
  readonly spoolDirectory: string;
}

export interface Shipping {
  /** Gives what is left in the spool a last, bounded chance. */
  stop(): Promise<void>;
}

export interface GatewayNode {
  /** What the ready file says. */
  readonly ready: {
    readonly listeners: Gateway["listeners"];
    readonly links: { readonly control: string; readonly sessions: string };
    /** What callers verify this gateway with, unless its certificate comes from files. */
    readonly caFile: string;
  };
  readonly gateway: Gateway;
  readonly identity: NodeIdentity;
  /** Why new sessions would be refused or should go elsewhere; empty: ready. */
  notReady(): readonly string[];
  /** Stops accepting, tells the control planes, lets sessions finish within `drainTimeoutMs`, then ends them. */
  drain(): Promise<void>;
  /** Frees everything, last things first; call after `drain`. */
  close(): Promise<void>;
}

/** How often it is said what is waited for. Milliseconds. */
const WAITING_LOGGED_EVERY_MS = 5_000;

/** Resolves when callers are served. Throws `config_invalid` and what enrolment throws; what had started is then stopped again. */
export async function startGatewayNode(options: GatewayNodeOptions): Promise<GatewayNode> {
  const { stop, ...node } = await allOrNothing(options.log, (started) => start(options, started));
  return { ...node, close: stop };
}

async function start(options: GatewayNodeOptions, started: Started): Promise<Omit<GatewayNode, "close">> {
  const { config, dataDirectory, environment, limits, clock, random, log } = options;
  const { node, links: linksConfig } = requiredSections(config);
  const shared = { limits, clock, random, log };

  const identityDirectory = join(dataDirectory, "identity");
  const identity = await openNodeIdentity({
    ...shared,
    role: "gateway",
    node,
    directory: identityDirectory,
    hosts: callerHosts(config.dataPlane),
    readEnvironment: environment,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  started.add("identity", () => identity.close());
  const hosts = hostsNotCertified(config.dataPlane, identity.material.certificateChain);
  if (hosts.length > 0) {
    log.warn(
      {
        hosts,
        hint: "Remove identity/ and enrol with a join token made with --host for each of them, or set dataPlane.tls.certFile.",
      },
      "callers cannot verify this gateway by all its names: its certificate lacks some",
    );
  }

  const control = new LateControlLink();
  const snapshots = await openRemoteSnapshots({
    ...shared,
    identity,
    directory: join(dataDirectory, "policy"),
    verdict: (sequence, version, fault) => control.verdict(sequence, version, fault),
  });
  started.add("snapshots", () => snapshots.close());

  const spoolDirectory = join(dataDirectory, "spool");
  const spool = await openFileSpool({ directory: spoolDirectory, ...shared });
  started.add("spool", () => spool.close());
  const shipping = await options.ship({ name: node.name, identity, spool, spoolDirectory });
  started.add("shipping", () => shipping.stop());

  const slot = await openSlot(dataDirectory, log);
  const cancelKeys = new CancelKeys(random, {
    slot: slot.number,
    limiter: new CancelLimiter(limits.cancelsPerAddressMax, clock),
  });
  let metrics: GatewayMetrics = noGatewayMetrics;
  const onForward: GatewayMetrics["cancelForwarded"] = (outcome) => metrics.cancelForwarded(outcome);
  const peers = createGatewayPeers({ ...shared, identity, control, cancelKeys, onForward });
  started.add("peers", () => peers.close());
  const agentLinks = await openAgentLinks({
    ...shared,
    config: linksConfig,
    identity,
    control,
    services: [peers.service],
    snapshotSequence: () => snapshots.sequence,
  });
  started.add("agent links", () => agentLinks.close());

  const controlClock = new ControlClock(clock, limits.nodeClockToleranceMs);
  const parts: NodeParts = { options, node, snapshots, agentLinks, spool, controlClock, gateway: () => serving };
  let serving: Gateway | undefined;
  const handlers = controlHandlers(parts, (number) => {
    cancelKeys.slot = number;
    slot.keep(number);
  });
  const link = openControlLink({ ...shared, identity, addresses: node.controlPlanes, handlers });
  control.attach(link);
  started.add("link", () => link.close());
  if (options.meter !== undefined)
    metrics = createGatewayMetrics(
      options.meter,
      factsOf(parts, () => link.connected),
    );

  await untilReady(parts, () => link.connected);
  await peers.ready();
  const gateway = await startGateway({
    ...shared,
    config: config.dataPlane,
    certificate: certificateOf(config, identity),
    snapshots,
    agentLink: agentLinks.agentLink,
    spool,
    cancelKeys,
    ddl: peers.ddl,
    bindings: { report: (report) => control.boundColumns(report) },
    metrics,
    ...(options.traces === undefined ? {} : { traces: options.traces }),
  });
  serving = gateway;
  started.add("gateway", () => gateway.close());
  link.statusChanged();
  return {
    ready: {
      listeners: gateway.listeners,
      links: { control: agentLinks.addresses.control, sessions: agentLinks.addresses.sessions },
      caFile: join(identityDirectory, "authorities.pem"),
    },
    gateway,
    identity,
    notReady: () => reasonsAgainst(parts),
    drain: async () => {
      const drained = gateway.drain();
      link.statusChanged();
      await drained;
    },
  };
}

interface NodeParts {
  readonly options: GatewayNodeOptions;
  readonly node: NodeConfig;
  readonly snapshots: RemoteSnapshots;
  readonly agentLinks: AgentLinks;
  readonly spool: FileSpool;
  readonly controlClock: ControlClock;
  /** Undefined until a policy is known. */
  readonly gateway: () => Gateway | undefined;
}

function controlHandlers(parts: NodeParts, takeSlot: (slot: number) => void): ControlHandlers {
  const { options, node, snapshots, agentLinks, spool, gateway, controlClock } = parts;
  return {
    hello: () => ({
      region: node.region,
      addresses: { ...agentLinks.addresses, callers: callerAddresses(options.config.dataPlane, gateway()?.listeners ?? []) },
      sealingKey: "",
      snapshotSequence: snapshots.sequence,
    }),
    status: () => ({
      sessions: gateway()?.sessions ?? 0,
      draining: gateway()?.draining ?? false,
      links: agentLinks.links().map(({ name, sessions, roundTripUs }) => ({ name, sessions, roundTripUs })),
      spoolBytes: spool.end - spool.start,
    }),
    welcomed: ({ slot, nowMs }) => {
      takeSlot(slot);
      controlClock.told(nowMs);
    },
    snapshot: (signed) => snapshots.receive(signed),
    heartbeat: (sequence) => snapshots.heartbeat(sequence),
    endSessions: ({ commandId, sessionId, reason }) => {
      const text = reason === "" ? "An administrator ended this session." : reason;
      const ended = gateway()?.endSession(sessionId, new GatewayError("killed", text, { hint: "Ask the platform team." }));
      if (ended === true) options.log.info({ commandId, sessionId }, "a session is ended by the control plane");
    },
    explain: async (json) => {
      const serving = gateway();
      if (serving === undefined) throw new GatewayError("policy_stale", "No policy has reached this gateway yet.");
      // From an authenticated control plane, which has checked its shape.
      return JSON.stringify(await serving.explainer.explain(JSON.parse(json) as Parameters<typeof serving.explainer.explain>[0]));
    },
  };
}

async function untilReady({ options, node, snapshots }: NodeParts, connected: () => number): Promise<void> {
  const say = (): void =>
    options.log.info(
      { controlPlanes: node.controlPlanes, connected: connected() },
      "waiting for the first policy snapshot: callers are not served before it",
    );
  const timer = setInterval(say, WAITING_LOGGED_EVERY_MS);
  try {
    await snapshots.ready(options.signal);
  } finally {
    clearInterval(timer);
  }
}

function factsOf({ snapshots, agentLinks, spool, gateway }: NodeParts, controlPlanes: () => number): GatewayFacts {
  return {
    sessions: () => gateway()?.sessions ?? 0,
    spoolBytes: () => spool.end - spool.start,
    leaseSeconds: (strict) => Math.max(snapshots.lease.remainingMs(strict), 0) / 1_000,
    snapshotSequence: () => Number(snapshots.sequence),
    controlPlanes,
    agentSessions: () => agentLinks.links().map(({ name, sessions }) => [name, sessions] as const),
    draining: () => gateway()?.draining ?? false,
    catalogAges: () => gateway()?.catalogAges ?? [],
    bindingsPending: () => gateway()?.bindingsPending ?? 0,
    analysesWaiting: () => gateway()?.analysesWaiting ?? 0,
  };
}

function reasonsAgainst({ snapshots, spool, gateway, controlClock }: NodeParts): readonly string[] {
  const reasons: string[] = [];
  const serving = gateway();
  if (serving === undefined) reasons.push("no policy has come yet");
  else if (serving.draining) reasons.push("draining");
  if (snapshots.lease.remainingMs(false) <= 0) reasons.push("the policy's lease is over");
  if (spool.failure !== null) reasons.push("the spool has failed");
  // Tokens that have ended would be taken, or those that have not refused: callers are better served elsewhere.
  if (controlClock.fault !== null) reasons.push(controlClock.fault);
  return reasons;
}

function certificateOf({ dataPlane }: Config, identity: NodeIdentity): CertificateSource | null {
  const { tls } = dataPlane;
  switch (tls.mode) {
    case "self-signed":
      return identity;
    case "files":
      return { certFile: tls.certFile, keyFile: tls.keyFile };
    case "plaintext-loopback":
      return null;
    default:
      return assertNever(tls);
  }
}

function requiredSections({ node, dataPlane }: Config): { readonly node: NodeConfig; readonly links: LinksConfig } {
  if (node === null || node.controlPlanes.length === 0) {
    throw new GatewayError("config_invalid", "A gateway of its own needs the section `node` with its control planes.", {
      hint: "node: { name: NAME, controlPlanes: [HOST:PORT], join: { tokenFile: FILE } }",
    });
  }
  if (dataPlane.links === null) {
    throw new GatewayError("config_invalid", "A gateway of its own needs the section `dataPlane.links`: agents connect there.", {
      hint: "dataPlane: { links: { control: HOST:PORT, sessions: HOST:PORT } }",
    });
  }
  return { node, links: dataPlane.links };
}
