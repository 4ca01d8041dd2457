/**
 * AgentLinkService: agents' control streams and the catalogs that they send. Who an agent is and which labels it carries stands
 * in its certificate; what it says in messages is its state, nothing more.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  AgentLinkService,
  LinkHello,
  LinkRequest,
  LinkResponseSchema,
  SendCatalogRequest,
} from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { agreeOn, CAPABILITY, CAPABILITY_MIN } from "@sluice/rpc/capabilities.ts";
import type { CallContext, ServiceHandlers } from "@sluice/rpc/grpc.ts";
import type { NodeCertificate } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";
import { LinkedAgent } from "./linked-agent.ts";
import type { LinkedAgents } from "./linked-agents.ts";

export interface LinkServiceOptions {
  readonly agents: LinkedAgents;
  /** host:port for session connections, as agents are told. */
  readonly sessionsAddress: () => string;
  /** Links came or went. */
  readonly changed: () => void;
  /** What this gateway speaks at best. */
  readonly capability?: number;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
}

type LinkResponseInit = MessageInitShape<typeof LinkResponseSchema>;

export function linkHandlers(options: LinkServiceOptions): ServiceHandlers<typeof AgentLinkService> {
  return {
    link: (requests, context) => serveLink(options, requests, context),
    sendCatalog: (requests, context) => takeCatalog(options, requests, context),
  };
}

async function* serveLink(
  options: LinkServiceOptions,
  requests: AsyncIterable<LinkRequest>,
  context: CallContext,
): AsyncGenerator<LinkResponseInit, void, undefined> {
  const { agents, limits, clock, log, capability = CAPABILITY } = options;
  const certificate = peerOf(context);
  const incoming = requests[Symbol.asyncIterator]();
  const hello = await firstHello(incoming, limits.agentHelloTimeoutMs);
  const agreed = agreeOn(hello, capability);
  if (agents.size >= limits.agentLinksMax && agents.get(certificate.name) === undefined) {
    throw new GatewayError("too_many_connections", "This gateway has as many agents as it takes.", {
      hint: "Start more gateways, or raise limits.agentLinksMax.",
    });
  }
  const { region, snapshotSequence } = hello;
  const agent = new LinkedAgent({ certificate, capability: agreed, region, snapshotSequence, limits, clock });
  const gone = (): void => agent.end("the agent is gone");
  context.signal.addEventListener("abort", gone, { once: true });
  try {
    yield {
      message: {
        case: "welcome",
        value: {
          capability,
          capabilityMin: CAPABILITY_MIN,
          sessionsAddress: options.sessionsAddress(),
          keepWarm: limits.warmConnectionsMin,
        },
      },
    };
    log.info({ agent: agent.name, region, peer: context.peerAddress, capability: agreed }, "an agent linked");
    agents.add(agent);
    options.changed();
    void listen(options, agent, incoming);
    yield* agent.outbox;
  } finally {
    context.signal.removeEventListener("abort", gone);
    agent.end("its stream ended");
    agents.remove(agent);
    log.info({ agent: agent.name, reason: agent.endedBecause }, "an agent's link ended");
    options.changed();
  }
}

/** Until the agent ends its stream or its link has ended. Does not throw. */
async function listen(
  { agents, log }: LinkServiceOptions,
  agent: LinkedAgent,
  incoming: AsyncIterator<LinkRequest>,
): Promise<void> {
  try {
    for (let next = await incoming.next(); next.done !== true && !agent.hasEnded; next = await incoming.next()) {
      agent.heard();
      const { message } = next.value;
      switch (message.case) {
        case "health":
          agent.health(message.value, agents.sessionsOf(agent.name));
          agents.changed(agent);
          break;
        case "cancelDone":
          agent.cancelDone(message.value);
          break;
        case "catalogFailed":
          agent.catalogFailed(message.value);
          break;
        case "catalogWatched":
          agent.catalogWatched(message.value);
          break;
        case "hello":
        case undefined:
          // A newer agent may say more than this gateway knows.
          log.warn({ agent: agent.name }, "an agent said something that is not understood");
          break;
      }
    }
    agent.end("the agent ended its stream");
  } catch (error) {
    log.debug({ err: error, agent: agent.name }, "an agent's stream broke");
    agent.end("its stream broke");
  }
}

async function firstHello(incoming: AsyncIterator<LinkRequest>, timeoutMs: number): Promise<LinkHello> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new GatewayError("protocol_violation", "The agent opened a control stream and said nothing.")),
    timeoutMs,
  );
  try {
    const first = await Promise.race([incoming.next(), late]);
    if (first.done !== true && first.value.message.case === "hello") return first.value.message.value;
    throw new GatewayError("protocol_violation", "The agent's control stream did not begin with a hello.");
  } finally {
    clearTimeout(timer);
  }
}

async function takeCatalog(
  { agents }: LinkServiceOptions,
  requests: AsyncIterable<SendCatalogRequest>,
  context: CallContext,
): Promise<Record<string, never>> {
  const { name } = peerOf(context);
  for await (const { requestId, piece, last } of requests) {
    const agent = agents.get(name);
    if (agent === undefined) throw new GatewayError("not_found", "This agent has no control stream to this gateway.");
    agent.catalogPiece(requestId, piece, last);
  }
  return {};
}

function peerOf({ peer }: CallContext): NodeCertificate {
  if (peer?.role === "agent") return peer;
  throw new GatewayError("unauthorized", "Only agents may link to a gateway.");
}
