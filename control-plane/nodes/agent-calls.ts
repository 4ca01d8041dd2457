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
  wanted(gateway: ConnectedNode, resource: string): Promise<void>;
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
    wanted: async (gateway, resource) => {
      if (gateway.certificate.role !== "gateway" || !gateway.mayWant(resource, ASK_AGAIN_MS)) return;
      const spec = feed.newest?.snapshot.resources.find(({ name }) => name === resource);
      // Agents would not open it for this gateway: they need not even dial.
      if (spec === undefined || !carries(spec.labels, gateway.certificate.labels)) return;
      const rows = (await readNodes(db)).filter((row) => row.isKnown && row.isFresh && !row.status.left);
      const agents = chooseAgents(rows, spec.agents ?? {}, gateway.certificate.name);
      if (agents.length === 0)
        log.warn({ resource, gateway: gateway.certificate.name }, "no agent that reaches the resource is connected");
      for (const { name } of agents) {
        if (!tell(name, gateway.certificate.name)) await changes.notify(db, TOPIC, `${name} ${gateway.certificate.name}`);
      }
    },
    close: stop,
  };
}
