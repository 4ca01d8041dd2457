/** A gateway wants an agent for a resource: agents that reach it are told to dial that gateway, through another replica where need be. */
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { carries } from "../publish/sign.ts";
import type { SnapshotFeed } from "../publish/snapshot-feed.ts";
import type { Changes } from "../store/changes.ts";
import type { Tables } from "../store/tables.ts";
import { chooseAgents } from "./agent-choice.ts";
import type { ConnectedNode } from "./connected-node.ts";
import type { NodeHub } from "./node-hub.ts";
import { readNodes } from "./node-store.ts";

export interface AgentCalls {
  /**
   * Tells agents that are connected here, at once and without the store. Returns how to tell others, for which the store is needed; null
   * when that is not necessary.
   */
  wanted(gateway: ConnectedNode, resource: string): (() => Promise<void>) | null;
  close(): void;
}

export interface AgentCallsOptions {
  readonly db: Kysely<Tables>;
  readonly changes: Changes;
  readonly feed: SnapshotFeed;
  readonly hub: NodeHub;
  readonly log: Logger;
}

/** Topic of `store/changes.ts`; the payload is `AGENT GATEWAY`. */
const TOPIC = "dial-gateway";
/** A gateway asks again for each caller that waits; agents need a moment to dial. */
const ASK_AGAIN_MS = 500;

export function createAgentCalls({ db, changes, feed, hub, log }: AgentCallsOptions): AgentCalls {
  const tell = (agent: string, gateway: string): boolean => {
    const node = hub.nodes.get(`agent/${agent}`);
    return node?.outbox.command({ case: "dialGateway", value: { gateway } }) ?? false;
  };
  const stop = changes.onChange(TOPIC, (payload) => {
    const [agent, gateway] = payload?.split(" ") ?? []; // what was missed is asked for again by the gateway
    if (agent !== undefined && gateway !== undefined) tell(agent, gateway);
  });
  return {
    wanted: (gateway, resource) => {
      const { role, name, labels } = gateway.certificate;
      if (role !== "gateway" || !gateway.mayWant(resource, ASK_AGAIN_MS)) return null;
      const spec = feed.newest?.snapshot.resources.find((one) => one.name === resource);
      // Agents would not open it for this gateway: they need not even dial.
      if (spec === undefined || !carries(spec.labels, labels)) return null;
      const here = [...hub.nodes.values()].map(({ certificate, status }) => ({ ...certificate, status }));
      const told = chooseAgents(here, spec.agents ?? {}, name).filter((agent) => tell(agent.name, name));
      if (told.some(({ status }) => status.links.every((link) => link.name !== name))) return null;
      return async () => {
        const rows = (await readNodes(db)).filter((row) => row.isKnown && row.isFresh && !row.status.left);
        const agents = chooseAgents(rows, spec.agents ?? {}, name);
        if (agents.length === 0) log.warn({ resource, gateway: name }, "no agent that reaches the resource is connected");
        for (const agent of agents) if (!tell(agent.name, name)) await changes.notify(db, TOPIC, `${agent.name} ${name}`);
      };
    },
    close: stop,
  };
}
