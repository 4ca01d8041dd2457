/**
 * Opens one session through one agent: announces a ticket on the control stream, proves on an idle connection that it is the same
 * gateway, and waits for the agent's answer. The connection is then the target's, as bytes.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { MessageShape } from "@bufbuild/protobuf";
import type { SessionAnswerSchema, TargetSessionStartSchema } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { OpenTargetRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { TICKET_BYTES, ticketProof } from "@sluice/rpc/ticket.ts";
import { AgentFailure, agentFault } from "./agent-fault.ts";
import type { LinkedAgent } from "./linked-agent.ts";
import { carriesLabels, type LinkedAgents } from "./linked-agents.ts";
import type { SessionConnection } from "./session-connection.ts";

export interface OpenSessionOptions {
  readonly agents: LinkedAgents;
  readonly agent: LinkedAgent;
  readonly request: OpenTargetRequest;
  readonly signal: AbortSignal;
  /** Whether another agent could be asked instead: then one that says nothing is not waited for until the end. */
  readonly isReplaceable: () => boolean;
  readonly identity: NodeIdentity;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
}

/** Agents of this capability take Release. */
const RELEASE_CAPABILITY = 2;

/** Throws AgentFailure where another agent may do, GatewayError for the target's failures, or `signal`'s reason. */
export async function openSession(options: OpenSessionOptions): Promise<TargetConnection> {
  const { agent, agents, request, signal } = options;
  agent.opening += 1;
  try {
    const connection = await agent.take(signal, options.isReplaceable);
    try {
      requireLabels(connection, request);
      const openId = agent.nextId();
      const answer = await bind(options, connection, openId);
      const opened = openedOf(answer);
      agents.carries(connection);
      return handOver(options, connection, openId, opened);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  } finally {
    agent.opening -= 1;
  }
}

/** The certificate of this very connection: the agent may have got another since its control stream began. */
function requireLabels({ peer }: SessionConnection, { resource }: OpenTargetRequest): void {
  if (carriesLabels(peer.labels, resource.agents)) return;
  throw new AgentFailure("the certificate on the session connection does not carry the resource's labels");
}

async function bind(
  { agent, request, signal, isReplaceable, identity, random, clock, limits }: OpenSessionOptions,
  connection: SessionConnection,
  openId: bigint,
): Promise<MessageShape<typeof SessionAnswerSchema>> {
  const { sessionId, resource, database, account, startup } = request;
  const ticket = random.bytes(TICKET_BYTES);
  const claims = {
    agent: agent.name,
    gateway: identity.self.name,
    sessionId,
    resource: resource.name,
    database,
    account,
    openId,
  };
  const proof = ticketProof(ticket, connection.exporter(), claims);
  agent.send({
    case: "open",
    value: { openId, ticket, sessionId, resource: resource.name, database, account, startup: { ...startup } },
  });
  const askedMs = clock.monotonicMs();
  const binding = connection.bind(openId, proof);
  const aborted = (): void => {
    if (agent.heardMs < askedMs && clock.monotonicMs() - askedMs >= limits.agentSilenceMs) agent.suspect = true;
    binding.giveUp(signal.reason);
  };
  const silence = setInterval(() => {
    if (agent.heardMs >= askedMs || !isReplaceable()) return;
    agent.suspect = true;
    binding.giveUp(new AgentFailure("the agent said nothing since it was asked"));
  }, limits.agentSilenceMs);
  const stopWatching = agent.onEnd((failure) => binding.giveUp(failure));
  signal.addEventListener("abort", aborted, { once: true });
  if (signal.aborted) aborted();
  try {
    const answer = await binding.answer;
    agent.heard();
    return answer;
  } finally {
    clearInterval(silence);
    stopWatching();
    signal.removeEventListener("abort", aborted);
  }
}

function openedOf({ outcome }: MessageShape<typeof SessionAnswerSchema>): Pick<TargetConnection, "parameters" | "session"> {
  switch (outcome.case) {
    case "opened":
      return {
        parameters: outcome.value.parameters.map(({ name, value }) => [name, value] as const),
        ...sessionOf(outcome.value.session),
      };
    case "fault":
      throw agentFault(outcome.value);
    case undefined:
      throw new AgentFailure("the agent answered something that is not known here");
    default:
      return assertNever(outcome);
  }
}

function handOver(
  { agent, request, limits }: OpenSessionOptions,
  connection: SessionConnection,
  openId: bigint,
  opened: Pick<TargetConnection, "parameters" | "session">,
): TargetConnection {
  const { socket } = connection;
  const target = { stream: socket, ...opened, cancel: () => agent.cancel(openId) };
  if (agent.capability < RELEASE_CAPABILITY || request.resource.target.pool === undefined) return target;
  return {
    ...target,
    release: () => {
      if (agent.hasEnded || !connection.isUsable) {
        connection.destroy();
        return;
      }
      try {
        agent.send({ case: "release", value: { openId } });
      } catch {
        // Its link has just ended: the agent closes what it cannot be told about.
        connection.destroy();
        return;
      }
      // What is under way arrives first; an agent that does not close its side is not waited for.
      socket.end();
      socket.resume();
      const timer = setTimeout(() => connection.destroy(), limits.targetCancelTimeoutMs);
      socket.once("close", () => clearTimeout(timer));
    },
  };
}

function sessionOf(session: MessageShape<typeof TargetSessionStartSchema> | undefined): Pick<TargetConnection, "session"> {
  if (session === undefined) return {};
  const { searchPath, currentUser, sessionUser } = session;
  return { session: { searchPath, currentUser, sessionUser } };
}
