/**
 * The agent link over the network: chooses an agent for each session, binds one of its connections, and tries another agent where
 * this one is at fault. What is wrong with the target itself is not tried again: another agent would meet it too.
 * Holds no secret and never says to an agent what a resource is, only its name.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { WatchCatalogRequest } from "@sluice/rpc/catalog-watch.ts";
import type { AgentLink, OpenTargetRequest, ReadCatalogRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { type EncodedCatalog, encodedCatalog } from "@sluice/rpc/encoded-catalog.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { Logger } from "pino";
import { AgentFailure } from "./agent-fault.ts";
import type { LinkedAgent } from "./linked-agent.ts";
import type { LinkedAgents } from "./linked-agents.ts";
import { openSession } from "./open-session.ts";

export interface RemoteAgentLinkOptions {
  readonly agents: LinkedAgents;
  readonly identity: NodeIdentity;
  readonly control: Pick<ControlLink, "agentWanted"> | null;
  /** Of the snapshot in force; undefined: unknown. */
  readonly snapshotSequence: () => bigint | undefined;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Connections that may break under one session before no agent is tried a second time. */
const TRIES_MAX = 3;
/** The control plane is told once in this time that an agent is wanted for a resource, however many sessions wait for it. */
const WANTED_PAUSE_MS = 1_000;

/** `close` ends what is being opened or read; connections handed over belong to their holders. */
export class RemoteAgentLink implements AgentLink {
  readonly #options: RemoteAgentLinkOptions;
  readonly #closing = new AbortController();
  readonly #wantedAtMs = new Map<string, number>();
  #opening = 0;

  constructor(options: RemoteAgentLinkOptions) {
    this.#options = options;
  }

  async openTarget(request: OpenTargetRequest): Promise<TargetConnection> {
    if (this.#opening >= this.#options.limits.agentOpensMax) {
      throw new GatewayError("agent_unavailable", "Too many sessions are waiting for their database.", {
        hint: "Try again in a moment. If it stays so, the database or its agents are slow: ask the platform team.",
      });
    }
    this.#opening += 1;
    try {
      return await this.#withAnAgent(request, (agent, signal, without) =>
        openSession({ ...this.#options, agent, request, signal, isReplaceable: this.#isReplaceable(request, without, agent) }),
      );
    } finally {
      this.#opening -= 1;
    }
  }

  async readCatalog(request: ReadCatalogRequest): Promise<EncodedCatalog> {
    const { resource, database } = request;
    return await this.#withAnAgent(request, async (agent, signal) => {
      const pieces = await agent.readCatalog(resource.name, database, signal);
      return await encodedCatalog(pieces);
    });
  }

  async watchCatalog(request: WatchCatalogRequest): Promise<void> {
    const { resource, database, news } = request;
    await this.#withAnAgent(request, (agent, signal) => agent.watchCatalog(resource.name, database, news, signal));
  }

  async close(): Promise<void> {
    this.#closing.abort(new GatewayError("draining", "This gateway is shutting down.", { hint: "Connect again." }));
  }

  #isReplaceable(request: OpenTargetRequest, without: ReadonlySet<LinkedAgent>, agent: LinkedAgent): () => boolean {
    return () => this.#options.agents.hasAnother(request.resource, without, agent);
  }

  /** Runs `attempt` with one agent after the other until it says something that another would not say better. */
  async #withAnAgent<Result>(
    { resource, signal: asked }: ReadCatalogRequest,
    attempt: (agent: LinkedAgent, signal: AbortSignal, without: ReadonlySet<LinkedAgent>) => Promise<Result>,
  ): Promise<Result> {
    const { agents, clock, limits, log } = this.#options;
    const signal = AbortSignal.any([asked, this.#closing.signal]);
    const deadlineMs = clock.monotonicMs() + limits.agentWaitMs;
    const failed = new Set<LinkedAgent>();
    // Those that failed, and those to be tried again when there is no other.
    const passedOver = new Set<LinkedAgent>();
    let last: AgentFailure | undefined;
    let tries = 0;
    try {
      for (;;) {
        const agent =
          agents.choose(resource, passedOver) ??
          agents.choose(resource, failed) ??
          (await this.#nextAgent(resource, failed, deadlineMs, signal));
        if (agent === undefined) throw noAgent(resource, last);
        try {
          return await this.#tryAgain(agent, () => attempt(agent, signal, passedOver));
        } catch (error) {
          if (!(error instanceof AgentFailure)) throw error;
          passedOver.add(agent);
          tries += 1;
          if (!error.again || tries >= TRIES_MAX) failed.add(agent);
          last = error;
          log.info({ agent: agent.name, resource: resource.name, reason: error.message }, "an agent is passed over");
        }
      }
    } catch (error) {
      throw signal.aborted && !(error instanceof GatewayError) ? abandoned(signal, last) : error;
    }
  }

  /** Once more with the same agent when its declarations were older than ours and are not any longer. */
  async #tryAgain<Result>(agent: LinkedAgent, attempt: () => Promise<Result>): Promise<Result> {
    const sequence = this.#options.snapshotSequence();
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof AgentFailure) || !error.behind) throw error;
      if (sequence !== undefined && agent.snapshotSequence >= sequence) throw error;
      if (!(await agent.caughtUp(sequence))) throw error;
      return await attempt();
    }
  }

  async #nextAgent(
    resource: ResourceSpec,
    without: ReadonlySet<LinkedAgent>,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<LinkedAgent | undefined> {
    const { agents, clock } = this.#options;
    for (;;) {
      const remainingMs = deadlineMs - clock.monotonicMs();
      if (remainingMs <= 0) return undefined;
      this.#want(resource.name);
      const agent = await agents.next(resource, without, Math.min(remainingMs, WANTED_PAUSE_MS), signal);
      if (agent !== undefined) return agent;
    }
  }

  #want(resource: string): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [name, atMs] of this.#wantedAtMs) if (nowMs - atMs >= WANTED_PAUSE_MS) this.#wantedAtMs.delete(name);
    if (this.#wantedAtMs.has(resource)) return;
    this.#wantedAtMs.set(resource, nowMs);
    this.#options.control?.agentWanted(resource);
  }
}

function noAgent(resource: ResourceSpec, last: AgentFailure | undefined): GatewayError {
  if (last !== undefined) return last.error;
  const labels = Object.entries(resource.agents ?? {}).map(([label, value]) => `${label}=${value}`);
  return new GatewayError("agent_unavailable", "No agent that reaches this database is connected to this gateway.", {
    hint:
      labels.length === 0
        ? "Ask the platform team to start an agent (sluice agent), or to look why it is not linked (sluice nodes list)."
        : `Ask the platform team to start an agent with the labels ${labels.join(", ")}, or to look why it is not linked (sluice nodes list).`,
  });
}

/** The reason where it is a sentence of ours (the session was ended), otherwise that time was up. */
function abandoned({ reason }: AbortSignal, last: AgentFailure | undefined): GatewayError {
  if (reason instanceof GatewayError) return reason;
  if (last !== undefined) return last.error;
  return new GatewayError("target_unreachable", "Neither the database nor the agent that reaches it answered in time.", {
    cause: reason,
    hint: "Try again in a moment; if it stays so, ask the platform team to check the database and its agents.",
  });
}
