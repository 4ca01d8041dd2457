/**
 * An agent as a process of its own: its identity, its key for sealed secrets, its link to the control planes, its own copy of the
 * resources, and the tunnel to gateways. Goes on with the last resources while no control plane answers. Listens nowhere.
 */
import { join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import type { Config, NodeConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { openControlLink } from "@sluice/rpc/control/link.ts";
import { openNodeIdentity } from "@sluice/rpc/identity/open.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { Meter } from "@sluice/telemetry/meter.ts";
import { createAgentMetrics, noAgentMetrics } from "@sluice/telemetry/plane-metrics.ts";
import type { Logger } from "pino";
import { openDeclarations } from "./declarations.ts";
import { KeptDirectory } from "./kept-directory.ts";
import { createCoLocatedAgent } from "./link.ts";
import { openSealingKey } from "./secrets/sealing-key.ts";
import { openTunnel, type Tunnel } from "./tunnel/tunnel.ts";

export interface AgentNodeOptions {
  readonly config: Config;
  /** Absolute; made when absent. */
  readonly dataDirectory: string;
  readonly environment: (name: string) => string | undefined;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Aborts a start that still waits for a control plane. */
  readonly signal?: AbortSignal;
  /** Where it declares what it counts. */
  readonly meter?: Meter;
}

export interface AgentNode {
  /** What the ready file says. */
  readonly ready: { readonly name: string };
  readonly identity: NodeIdentity;
  readonly tunnel: Tunnel;
  /** Why it cannot serve every session that it should; empty: ready. */
  notReady(): readonly string[];
  /** Tells gateways and control planes, lets sessions finish within `drainTimeoutMs`. */
  drain(): Promise<void>;
  /** Ends what is left and frees everything; call after `drain`. */
  close(): Promise<void>;
}

/** Resolves when its resources are known, from the control plane or from the last run. Throws `config_invalid` and what enrolment throws. */
export async function startAgentNode(options: AgentNodeOptions): Promise<AgentNode> {
  const { stop, ...node } = await allOrNothing(options.log, (started) => start(options, started));
  return { ...node, close: stop };
}

/** How often it is said what is waited for. Milliseconds. */
const WAITING_LOGGED_EVERY_MS = 5_000;

async function start(options: AgentNodeOptions, started: Started): Promise<Omit<AgentNode, "close">> {
  const { config, dataDirectory, environment, limits, clock, random, log } = options;
  const node = requireNode(config);
  const shared = { limits, clock, random, log };

  const identity = await openNodeIdentity({
    ...shared,
    role: "agent",
    node,
    directory: join(dataDirectory, "identity"),
    hosts: [],
    readEnvironment: environment,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  started.add("identity", () => identity.close());

  const sealingKey = await openSealingKey(join(dataDirectory, "sealing"));
  // Parts that are not there yet count nothing: the metrics may be read while it still starts.
  let facts: { readonly tunnel: Tunnel; readonly controlPlanes: () => number } | undefined;
  const links = (): ReturnType<Tunnel["status"]>["links"] => facts?.tunnel.status().links ?? [];
  const metrics =
    options.meter === undefined
      ? noAgentMetrics
      : createAgentMetrics(options.meter, {
          sessions: () => facts?.tunnel.status().sessions ?? 0,
          warmConnections: () => facts?.tunnel.warmConnections ?? 0,
          pooledConnections: () => agentLink.pooledConnections,
          controlPlanes: () => facts?.controlPlanes() ?? 0,
          roundTrips: () => links().flatMap(({ name, roundTripUs }) => (roundTripUs > 0 ? [[name, roundTripUs / 1_000]] : [])),
        });
  const agentLink = createCoLocatedAgent({
    ...shared,
    config: config.agent,
    sealingKey,
    readEnvironment: environment,
    metrics,
  });
  started.add("agent link", () => agentLink.close());

  const control = await KeptDirectory.open(join(dataDirectory, "policy", "gateways.json"), log);
  started.add("control", () => control.close());
  let link: ControlLink | undefined;
  const declarations = await openDeclarations({
    ...shared,
    identity,
    file: join(dataDirectory, "policy", "resources.bin"),
    verdict: (sequence, version, fault) => link?.verdict(sequence, version, fault),
    changed: () => tunnel.resourcesChanged(),
  });
  started.add("declarations", () => declarations.close());

  const tunnel = openTunnel({
    ...shared,
    identity,
    control,
    resources: declarations,
    agentLink,
    metrics,
    config: { nearest: config.agent.nearest, region: node.region },
  });
  started.add("tunnel", () => tunnel.close());

  const opened = openControlLink({
    ...shared,
    identity,
    addresses: node.controlPlanes,
    handlers: {
      hello: () => ({
        region: node.region,
        addresses: { control: null, sessions: null, callers: {} },
        sealingKey: sealingKey.publicJwk,
        snapshotSequence: declarations.sequence,
      }),
      status: () => ({ ...tunnel.status(), spoolBytes: 0 }),
      snapshot: (signed) => declarations.receive(signed),
      dialGateway: (name) => tunnel.dialGateway(name),
    },
  });
  link = opened;
  control.attach(opened);
  facts = { tunnel, controlPlanes: () => opened.connected };
  started.add("opened", () => opened.close());

  await untilReady(options, declarations.ready(options.signal), () => opened.connected);
  return {
    ready: { name: node.name },
    identity,
    tunnel,
    notReady: () => reasonsAgainst(tunnel, control),
    drain: () => tunnel.drain(),
  };
}

async function untilReady({ log, config }: AgentNodeOptions, ready: Promise<void>, connected: () => number): Promise<void> {
  const timer = setInterval(
    () =>
      log.info(
        { controlPlanes: config.node?.controlPlanes, connected: connected() },
        "waiting for the first word of what this agent may reach",
      ),
    WAITING_LOGGED_EVERY_MS,
  );
  try {
    await ready;
  } finally {
    clearInterval(timer);
  }
}

function reasonsAgainst(tunnel: Tunnel, control: Pick<ControlLink, "directory">): readonly string[] {
  const { draining, links } = tunnel.status();
  const reasons: string[] = [];
  if (draining) reasons.push("draining");
  if (links.length === 0) reasons.push(control.directory.length === 0 ? "no gateway is known yet" : "linked to no gateway");
  return reasons;
}

function requireNode({ node }: Config): NodeConfig {
  if (node !== null && node.controlPlanes.length > 0) return node;
  throw new GatewayError("config_invalid", "An agent of its own needs the section `node` with its control planes.", {
    hint: "node: { name: NAME, controlPlanes: [HOST:PORT], join: { tokenFile: FILE } }",
  });
}
