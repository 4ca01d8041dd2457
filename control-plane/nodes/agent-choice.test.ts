/** Agents are chosen by labels, then by how little they carry, the same at every replica. */
import { expect, it } from "vitest";
import { type AgentCandidate, chooseAgents } from "./agent-choice.ts";

const agent = (
  name: string,
  links: readonly string[],
  labels: Record<string, string> = { zone: "e" },
  draining = false,
): AgentCandidate => ({
  role: "agent",
  name,
  labels,
  status: { sessions: 0, draining, spoolBytes: 0, links: links.map((link) => ({ name: link, sessions: 0, roundTripUs: 0 })) },
});
const names = (agents: readonly AgentCandidate[]): readonly string[] => agents.map(({ name }) => name);

it("takes those that carry the labels, fewest links first, linked ones last, never a draining one", () => {
  const candidates = [
    agent("busy", ["g2", "g3", "g4"]),
    agent("linked", ["g1"]),
    agent("idle", []),
    agent("elsewhere", [], { zone: "w" }),
    agent("leaving", [], { zone: "e" }, true),
    { ...agent("gateway", []), role: "gateway" as const },
  ];
  expect(names(chooseAgents(candidates, { zone: "e" }, "g1"))).toEqual(["idle", "busy"]);
  expect(names(chooseAgents(candidates.slice(1, 2), { zone: "e" }, "g1"))).toEqual(["linked"]);
  expect(chooseAgents(candidates, { zone: "n" }, "g1")).toEqual([]);
  expect(chooseAgents(candidates, { toString: "x" }, "g1")).toEqual([]);
});

it("spreads gateways over equal agents whatever the order of the list", () => {
  const candidates = Array.from({ length: 6 }, (_, n) => agent(`a${n}`, []));
  const firstOf = (gateway: string): string | undefined => chooseAgents(candidates, {}, gateway)[0]?.name;
  const gateways = Array.from({ length: 40 }, (_, n) => `g${n}`);
  expect(new Set(gateways.map(firstOf)).size).toBeGreaterThan(3);
  for (const gateway of gateways) expect(chooseAgents(candidates.toReversed(), {}, gateway)[0]?.name).toBe(firstOf(gateway));
});
