/**
 * All agents linked to this gateway, and which of them a resource's next session goes to: one whose certificate carries the labels
 * that the resource asks for, that is not draining, with the fewest sessions. What an agent says of itself never widens this.
 */
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { LinkedAgent } from "./linked-agent.ts";
import type { SessionConnection } from "./session-connection.ts";

export class LinkedAgents {
  readonly #identity: NodeIdentity;
  readonly #byName = new Map<string, LinkedAgent>();
  /** Connections that carry sessions, by agent: they outlive its link. */
  readonly #carrying = new Map<string, Set<SessionConnection>>();
  readonly #waiting = new Set<Waiting>();
  #choices = 0;

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
  }

  get all(): readonly LinkedAgent[] {
    return [...this.#byName.values()];
  }

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): LinkedAgent | undefined {
    return this.#byName.get(name);
  }

  /** A former link of the same agent ends: the agent has come back before its loss was noticed. */
  add(agent: LinkedAgent): void {
    this.#byName.get(agent.name)?.end("the agent linked again");
    this.#byName.set(agent.name, agent);
    this.changed(agent);
  }

  remove(agent: LinkedAgent): void {
    if (this.#byName.get(agent.name) === agent) this.#byName.delete(agent.name);
  }

  /** Something about this agent is such that it may be chosen now. */
  changed(agent: LinkedAgent): void {
    for (const waiting of this.#waiting) if (this.#serves(agent, waiting.resource, waiting.without)) waiting.resolve(agent);
  }

  /** Undefined when there is none. */
  choose(resource: ResourceSpec, without: ReadonlySet<LinkedAgent>): LinkedAgent | undefined {
    let best: LinkedAgent | undefined;
    for (const agent of this.#byName.values())
      if (this.#serves(agent, resource, without) && (best === undefined || this.#isBetter(agent, best))) best = agent;
    if (best !== undefined) {
      this.#choices += 1;
      best.chosenAt = this.#choices;
    }
    return best;
  }

  hasAnother(resource: ResourceSpec, without: ReadonlySet<LinkedAgent>, than: LinkedAgent): boolean {
    return this.all.some((agent) => agent !== than && !agent.suspect && this.#serves(agent, resource, without));
  }

  /** The next agent that comes, undefined after `timeoutMs`. Throws `signal`'s reason. */
  async next(
    resource: ResourceSpec,
    without: ReadonlySet<LinkedAgent>,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<LinkedAgent | undefined> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<LinkedAgent | undefined>();
    const waiting: Waiting = { resource, without, resolve };
    const aborted = (): void => reject(signal.reason);
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    signal.addEventListener("abort", aborted, { once: true });
    this.#waiting.add(waiting);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
      this.#waiting.delete(waiting);
    }
  }

  carries(connection: SessionConnection): void {
    const { name } = connection.peer;
    const carried = this.#carrying.get(name);
    if (carried === undefined) this.#carrying.set(name, new Set([connection]));
    else carried.add(connection);
  }

  /** The connection closed. */
  gone(connection: SessionConnection): void {
    const { name } = connection.peer;
    this.#byName.get(name)?.lost(connection);
    const carried = this.#carrying.get(name);
    carried?.delete(connection);
    if (carried?.size === 0) this.#carrying.delete(name);
  }

  sessionsOf(name: string): number {
    return this.#carrying.get(name)?.size ?? 0;
  }

  /** Links and connections whose certificate was withdrawn end, sessions on them too; idle ones that are old go. */
  sweep(nowMs: number): void {
    const withdrawn = new Set<string>();
    for (const agent of this.all) {
      if (this.#identity.isRevoked(agent.certificate.serial)) {
        // Sessions that began with earlier certificates too: those that ended long ago are in no list of revocations.
        withdrawn.add(agent.name);
        agent.end("its certificate was withdrawn");
      } else agent.sweep(({ peer }) => peer.notAfterMs > nowMs && !this.#identity.isRevoked(peer.serial));
    }
    for (const [name, carried] of this.#carrying)
      for (const connection of carried)
        if (withdrawn.has(name) || this.#identity.isRevoked(connection.peer.serial)) connection.destroy();
  }

  /** Ends every link and every connection. */
  close(why: string): void {
    for (const agent of this.all) agent.end(why);
    for (const carried of this.#carrying.values()) for (const connection of carried) connection.destroy();
  }

  #serves(agent: LinkedAgent, resource: ResourceSpec, without: ReadonlySet<LinkedAgent>): boolean {
    return (
      !agent.hasEnded &&
      !agent.draining &&
      !without.has(agent) &&
      carriesLabels(agent.certificate.labels, resource.agents) &&
      !this.#identity.isRevoked(agent.certificate.serial)
    );
  }

  #isBetter(a: LinkedAgent, b: LinkedAgent): boolean {
    if (a.suspect !== b.suspect) return b.suspect;
    const difference = this.#load(a) - this.#load(b);
    return difference === 0 ? a.chosenAt < b.chosenAt : difference < 0;
  }

  #load(agent: LinkedAgent): number {
    return this.sessionsOf(agent.name) + agent.opening + agent.sessionsElsewhere;
  }
}

interface Waiting {
  readonly resource: ResourceSpec;
  readonly without: ReadonlySet<LinkedAgent>;
  resolve(agent: LinkedAgent): void;
}

/** All that are asked for, with exactly these values. */
export function carriesLabels(
  labels: Readonly<Record<string, string>>,
  asked: Readonly<Record<string, string>> | undefined,
): boolean {
  return Object.entries(asked ?? {}).every(([label, value]) => Object.hasOwn(labels, label) && labels[label] === value);
}
