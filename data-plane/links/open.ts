/**
 * The gateway's side of the links to its agents: the port of their control streams (shared with other gateways), the port of their
 * session connections, and the agent link that sessions open their targets through.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { LinksConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { AgentLinkService } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { ControlLink, NodeStatus } from "@sluice/rpc/control-link.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { GrpcServer, ServedService } from "@sluice/rpc/grpc.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { NodeAddresses } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";
import { linkHandlers } from "./link-service.ts";
import { LinkedAgents } from "./linked-agents.ts";
import { RemoteAgentLink } from "./remote-agent-link.ts";
import { SessionConnection } from "./session-connection.ts";
import { startSessionListener } from "./session-listener.ts";

export interface AgentLinksOptions {
  readonly config: LinksConfig;
  readonly identity: NodeIdentity;
  /** Told of links that come and go, and asked for agents that are missing. Null: there is none. */
  readonly control: Pick<ControlLink, "agentWanted" | "statusChanged"> | null;
  /** Served on the same port as agents' control streams. */
  readonly services?: readonly ServedService[];
  /** Of the snapshot in force: agents that have an older one are given a moment. */
  readonly snapshotSequence?: () => bigint;
  /** What this gateway speaks at best; this version's own unless a test says otherwise. */
  readonly capability?: number;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export interface AgentLinks {
  readonly agentLink: AgentLink;
  /** host:port as told to others. */
  readonly addresses: Pick<NodeAddresses, "control" | "sessions"> & { readonly control: string; readonly sessions: string };
  links(): readonly AgentLinkStatus[];
  /** Ends links and the sessions on them. */
  close(): Promise<void>;
}

export interface AgentLinkStatus extends NodeStatusLink {
  readonly region: string;
  readonly capability: number;
  readonly draining: boolean;
  readonly idleConnections: number;
}

type NodeStatusLink = NodeStatus["links"][number];

/** How often connections are looked at that nobody takes. */
const SWEEP_MS = 5_000;
/** Streams of agents end at once; a catalog that is on its way may still arrive. */
const CLOSE_GRACE_MS = 1_000;

/** Listens. Throws `config_invalid` when an address cannot be bound, or cannot be told to others. */
export async function openAgentLinks(options: AgentLinksOptions): Promise<AgentLinks> {
  const { config, identity, limits, clock, log } = options;
  requireReachable(config);
  const agents = new LinkedAgents(identity);
  const agentLink = new RemoteAgentLink({ ...options, agents, snapshotSequence: () => options.snapshotSequence?.() });
  const listener = await startSessionListener({
    listen: config.sessions,
    identity,
    limits,
    clock,
    log,
    accept: (socket, peer) => {
      const connection = new SessionConnection(socket, peer, clock.monotonicMs(), (gone) => agents.gone(gone));
      if (agents.get(peer.name)?.offer(connection) !== true) connection.destroy();
    },
  });
  const sessionsAddress = config.advertise.sessions ?? listener.address;
  const handlers = linkHandlers({
    ...options,
    agents,
    sessionsAddress: () => sessionsAddress,
    changed: () => options.control?.statusChanged(),
  });
  let server: GrpcServer;
  try {
    server = await serveGrpc({
      listen: config.control,
      services: [implement(AgentLinkService, handlers, ["agent"]), ...(options.services ?? [])],
      messageBytesMax: limits.linkMessageBytesMax,
      identity,
      log,
      limits,
      clock,
    });
  } catch (error) {
    listener.close();
    throw error;
  }
  const sweep = (): void => agents.sweep(clock.nowMs());
  const timer = setInterval(sweep, SWEEP_MS);
  timer.unref();
  const stopWatching = identity.onChange(sweep);
  return {
    agentLink,
    addresses: { control: config.advertise.control ?? server.address, sessions: sessionsAddress },
    links: () =>
      agents.all.map((agent) => ({
        name: agent.name,
        sessions: agents.sessionsOf(agent.name),
        roundTripUs: agent.roundTripUs,
        region: agent.region,
        capability: agent.capability,
        draining: agent.draining,
        idleConnections: agent.idleConnections,
      })),
    close: async () => {
      clearInterval(timer);
      stopWatching();
      listener.close();
      await agentLink.close();
      agents.close("this gateway is shutting down");
      await server.close(CLOSE_GRACE_MS);
    },
  };
}

function requireReachable({ control, sessions, advertise }: LinksConfig): void {
  for (const [name, listen, told] of [
    ["control", control, advertise.control],
    ["sessions", sessions, advertise.sessions],
  ] as const) {
    if (told !== null || !["0.0.0.0", "::", ""].includes(listen.host)) continue;
    throw new GatewayError(
      "config_invalid",
      `Agents cannot be told to dial ${listen.host}:${listen.port}, which is every address.`,
      {
        hint: `Set dataPlane.links.advertise.${name} to the host:port under which agents reach this gateway.`,
      },
    );
  }
}
