/** Which agents are asked to link to a gateway that has a caller and no agent. Pure; the same at every replica that knows the same. */
import { createHash } from "node:crypto";
import type { NodeStatus } from "@sluice/rpc/control-link.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { carries } from "../publish/sign.ts";

export interface AgentCandidate {
  readonly role: NodeRole;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly status: NodeStatus;
}

/** A second one, in case the first cannot reach the gateway. */
const AGENTS_ASKED = 2;

/** Agents that carry the labels, fewest links first; those that say they are linked to the gateway already come last. */
export function chooseAgents<Candidate extends AgentCandidate>(
  candidates: readonly Candidate[],
  wanted: Readonly<Record<string, string>>,
  gateway: string,
): readonly Candidate[] {
  const isLinked = ({ status }: AgentCandidate): number => (status.links.some(({ name }) => name === gateway) ? 1 : 0);
  return candidates
    .filter(({ role, labels, status }) => role === "agent" && !status.draining && carries(labels, wanted))
    .map((agent) => ({ agent, linked: isLinked(agent), links: agent.status.links.length, rank: rankOf(agent.name, gateway) }))
    .toSorted((a, b) => a.linked - b.linked || a.links - b.links || (a.rank < b.rank ? -1 : 1))
    .slice(0, AGENTS_ASKED)
    .map(({ agent }) => agent);
}

/** Spreads gateways over agents that are equal otherwise (rendezvous hashing). */
function rankOf(agent: string, gateway: string): string {
  return createHash("sha256")
    .update(JSON.stringify([agent, gateway]))
    .digest("hex");
}
