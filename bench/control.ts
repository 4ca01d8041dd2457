/**
 * What many rules and many agents cost: a large policy from `apply` until ten gateways enforce it, and what it takes of each one's
 * memory; five hundred agents linked to one gateway. Gateways are real processes; agents are simulated in this one, over real links.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { pino } from "pino";
import { FakeAgent } from "../data-plane/links/fake-agent.ts";
import { openNodeIdentity } from "../rpc/identity/open.ts";
import type { NodeIdentity } from "../rpc/node-identity.ts";
import { type Fleet, startFleet } from "../test/support/fleet.ts";
import { median, type Pace, residentBytes, type Row } from "./measure.ts";

interface Size {
  readonly gateways: number;
  readonly resources: number;
  readonly rules: number;
  readonly agents: number;
}

const whole: Size = { gateways: 10, resources: 1_000, rules: 10_000, agents: 500 };
const small: Size = { gateways: 2, resources: 100, rules: 1_000, agents: 20 };
const RULES_A_POLICY = 100;
const POLL_MS = 10;
const ACTIVE_WITHIN_MS = 60_000;
/** For collectors to come round. */
const SETTLE_MS = 8_000;
/** Enrolments at a time. */
const AT_A_TIME = 8;

const log = pino({ level: "silent" });

export async function measureControl(pace: Pace, progress: (line: string) => void, keep: (row: Row) => void): Promise<void> {
  const size = pace.quick ? small : whole;
  progress(`starting Sluice with ${size.gateways} gateways`);
  const fleet = await startFleet({ controlPlanes: 1, gateways: size.gateways, agents: 0 });
  try {
    progress(`enrolling ${size.agents} agents`);
    keep(await measureAgents(fleet, size));
    progress("applying a large policy");
    for (const row of await measureSnapshots(fleet, size, pace)) keep(row);
  } finally {
    await fleet.stop();
  }
}

async function measureSnapshots(fleet: Fleet, size: Size, pace: Pace): Promise<readonly Row[]> {
  // All but the first, which agents were linked to.
  const pids = fleet.gateways.slice(1).map(({ ready }) => ready.pid);
  const resident = async (): Promise<readonly number[]> => {
    await delay(SETTLE_MS);
    return await Promise.all(pids.map(residentBytes));
  };
  const before = await resident();
  const accepted: number[] = [];
  const first: number[] = [];
  const all: number[] = [];
  let grownMB: number[] = [];
  for (let round = 0; round < pace.rounds; round++) {
    const times = await apply(fleet, size, round);
    accepted.push(times.acceptedMs);
    first.push(times.firstMs);
    all.push(times.allMs);
    if (round === 0) grownMB = (await resident()).map((bytes, at) => (bytes - before[at]!) / 1e6);
  }
  const after = await resident();
  const finallyMB = after.map((bytes, at) => (bytes - before[at]!) / 1e6);
  const what = `${size.resources} resources and ${size.rules} rules`;
  return [
    {
      name: `${what}: built, pushed, active on ${size.gateways} gateways`,
      measured: [figure("accepted by apply", "ms", accepted), figure("on the first", "ms", first), figure("on all", "ms", all)],
      verdicts: [{ of: "on all", value: median(all), better: "less", first: 2_000 }],
    },
    {
      name: `${what}: resident memory of a gateway for it, each of ${pids.length}`,
      measured: [figure("after the first", "MB", grownMB), figure(`after ${pace.rounds}`, "MB", finallyMB)],
      verdicts: [{ of: "after the first", value: median(grownMB), better: "less", first: 100 }],
    },
  ];
}

/** Milliseconds since the command: until it returns, until the first and the last gateway say that they enforce it. */
async function apply(
  fleet: Fleet,
  size: Size,
  round: number,
): Promise<{ readonly acceptedMs: number; readonly firstMs: number; readonly allMs: number }> {
  const files = [{ path: "large.yaml", text: policyText(size, round) }];
  const startedMs = performance.now();
  const { version } = (await fleet.admin("ManifestService/Apply", { files })) as { readonly version: string }; // the API's own shape
  const acceptedMs = performance.now() - startedMs;
  let firstMs = 0;
  for (const deadlineMs = startedMs + ACTIVE_WITHIN_MS; performance.now() < deadlineMs; await delay(POLL_MS)) {
    const { nodes } = (await fleet.admin("NodeService/List", {})) as { readonly nodes: readonly ListedNode[] }; // the same
    const active = nodes.filter(({ role, snapshot }) => role === "gateway" && snapshot?.version === version).length;
    if (active > 0 && firstMs === 0) firstMs = performance.now() - startedMs;
    if (active === size.gateways) return { acceptedMs, firstMs, allMs: performance.now() - startedMs };
  }
  throw new Error("the policy did not reach all gateways within a minute");
}

interface ListedNode {
  readonly role: string;
  readonly snapshot: { readonly version: string } | null;
}

/** As a platform team's: a resource each for many teams, policies by team with rules of all kinds. `round` makes it another one. */
function policyText({ resources, rules }: Size, round: number): string {
  const documents: string[] = [];
  for (let n = 0; n < resources; n++) {
    documents.push(`apiVersion: sluice/v1
kind: Resource
metadata: { name: db-${n}, labels: { env: ${n % 3 === 0 ? "prod" : "test"}, team: team-${n % (rules / RULES_A_POLICY)}, tier: t${n % 7} } }
spec:
  protocol: postgres
  target: { address: "db-${n}.example.internal:5432", database: app_${n} }
  credential: { username: { value: app_${n} }, password: { env: DB_${n} } }
`);
  }
  for (let policy = 0; policy < rules / RULES_A_POLICY; policy++) {
    const lines = Array.from({ length: RULES_A_POLICY }, (_, at) => ruleText(policy, at, round));
    documents.push(`apiVersion: sluice/v1
kind: Policy
metadata: { name: team-${policy} }
spec:
  principals: { groups: [team-${policy}, on-call] }
  resources: { labels: { team: team-${policy} } }
  rules:
${lines.join("\n")}
`);
  }
  return documents.join("---\n");
}

function ruleText(policy: number, at: number, round: number): string {
  const when = `statement.class == 'read' && principal.groups.exists(g, g == 'team-${policy}-${at}')`;
  switch (at % 4) {
    case 0:
      return `    - { name: read-${at}, effect: allow, when: "${when}" }`;
    case 1:
      return `    - { name: mask-${at}, effect: mask, entities: [US_SSN], operator: { partial: { keepLast: ${1 + (at % 4)} } }, when: "${when}" }`;
    case 2:
      return `    - { name: limit-${at}, effect: limit, rows: ${100 + at}, when: "${when}" }`;
    default:
      return `    - { name: deny-${at}, effect: deny, when: "statement.bulkExport && ${when}", reason: "not for team ${policy} in round ${round}" }`;
  }
}

async function measureAgents(fleet: Fleet, size: Size): Promise<Row> {
  const [gateway] = fleet.gateways;
  const { nodes } = (await fleet.admin("NodeService/List", {})) as {
    readonly nodes: readonly { readonly name: string; readonly addresses: { readonly control: string } }[];
  };
  const { control } = nodes.find(({ name }) => name === gateway!.name)!.addresses;
  const identities = await enrolAgents(fleet, size.agents);
  await delay(SETTLE_MS);
  const before = await residentBytes(gateway!.ready.pid);
  const startedMs = performance.now();
  const agents: FakeAgent[] = [];
  try {
    while (agents.length < identities.length) {
      const next = identities.slice(agents.length, agents.length + AT_A_TIME);
      agents.push(
        ...(await Promise.all(
          next.map((identity) => FakeAgent.link({ identity, gateway: { name: gateway!.name, control }, log })),
        )),
      );
    }
    const linkedMs = performance.now() - startedMs;
    await delay(SETTLE_MS);
    const after = await residentBytes(gateway!.ready.pid);
    const idle = agents.reduce((sum, agent) => sum + agent.idle.size, 0);
    return {
      name: `${agents.length} agents linked to one gateway, ${idle} idle session connections`,
      measured: [
        figure("gateway before", "MB", [before / 1e6]),
        figure("gateway, resident", "MB", [after / 1e6]),
        figure("each agent", "KB", [(after - before) / agents.length / 1e3]),
        figure("all linked", "ms", [linkedMs]),
      ],
      verdicts: [{ of: "gateway, resident", value: after / 1e6, better: "less", first: 300 }],
    };
  } finally {
    for (const agent of agents) agent.kill();
    for (const identity of identities) identity.close();
  }
}

/** With a join token each, as real ones. */
async function enrolAgents(fleet: Fleet, count: number): Promise<readonly NodeIdentity[]> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-bench-agents-"));
  try {
    const enrol = async (index: number): Promise<NodeIdentity> => {
      const name = `simulated-${index}`;
      const request = { role: "agent", name, labels: {}, hosts: [], ttlSeconds: 600 };
      const { token } = (await fleet.admin("NodeService/CreateJoinToken", request)) as { readonly token: string }; // the API's own shape
      return await openNodeIdentity({
        role: "agent",
        node: { name, region: "", controlPlanes: fleet.controlPlaneAddresses, join: { kind: "tokenEnv", name: "TOKEN" } },
        directory: join(directory, name),
        hosts: [],
        clock: systemClock,
        random: systemRandom,
        log,
        readEnvironment: () => token,
      });
    };
    const identities: NodeIdentity[] = [];
    while (identities.length < count) {
      const next = Array.from({ length: Math.min(AT_A_TIME, count - identities.length) }, (_, at) =>
        enrol(identities.length + at),
      );
      identities.push(...(await Promise.all(next)));
    }
    return identities;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function figure(side: string, unit: string, rounds: readonly number[]): Row["measured"][number] {
  return { side, unit, median: median(rounds), rounds: rounds.map((value) => Number(value.toFixed(1))), cpuUsPerTransaction: {} };
}
