/**
 * Everybody finds the nearest gateways: agents link to them and move when distances change, equals share them, a gateway without a link
 * gets one when a caller asks, one that drains is left, the command line names the near one. Real processes behind proxies that are
 * as slow as a distance.
 */
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DelayProxy, startDelayProxy } from "./support/delay-proxy.ts";
import { type AdvertisedKind, type Fleet, startFleet } from "./support/fleet.ts";

const AGENTS = ["agent-1", "agent-2", "agent-3"] as const;
/** Half a minute by default. Milliseconds. */
const MEASURE_MS = 400;
/**
 * Nobody moves on one measurement. A change is followed after three pauses at the latest, each a fifth longer at most, and the
 * measurements themselves: two seconds here, the rest is for machines that are busy. With the default of half a minute, 110 seconds.
 */
const MOVED_WITHIN_MS = 10_000;
/** Among equals ten measurements go by before anybody returns to the gateway that is its own by rights. */
const SPREAD_WITHIN_MS = 30_000;
/** Five minutes by default. */
const ON_DEMAND_MS = 2_500;
/** A caller whose gateway has no link waits for an agent to be found, told, and to dial over a slow line. */
const SERVED_WITHIN_MS = 5_000;
/** A gateway that drains is said by the control plane, not measured. */
const LEFT_WITHIN_MS = 3_000;

interface ListedNode {
  readonly name: string;
  readonly role: string;
  readonly state: string;
  readonly links: readonly { readonly name: string; readonly sessions: number; readonly roundTripUs: number }[];
}

interface Choice {
  readonly gateway: string;
  readonly address: string;
  readonly measured: readonly { readonly name: string; readonly roundTripMs: number | null }[];
}

describe("three gateways at different distances, three agents", () => {
  /** Of each gateway: for control streams, session connections and callers. */
  const proxies = [0, 1, 2].map(() => new Map<AdvertisedKind, DelayProxy>());
  let fleet: Fleet;
  let token: string;

  beforeAll(async () => {
    const distances = [1, 20, 60];
    fleet = await startFleet({
      controlPlanes: 1,
      gateways: 3,
      agents: AGENTS.length,
      advertise: async (gateway, kind, port) => {
        const proxy = await startDelayProxy(port, distances[gateway]);
        proxies[gateway]!.set(kind, proxy);
        return proxy.port;
      },
      config: (role) =>
        role === "agent" ? `limits: { gatewayMeasureMs: ${MEASURE_MS}, linkOnDemandMs: ${ON_DEMAND_MS} }\n` : "",
    });
    token = await fleet.token("ada", ["agents"]);
  });
  afterAll(async () => {
    await fleet?.stop();
    await Promise.all(proxies.flatMap((ofOne) => [...ofOne.values()]).map((proxy) => proxy.stop()));
  });

  /** One way, of each gateway in turn. */
  const distancesAre = (...delaysMs: readonly [number, number, number]): void => {
    for (const [gateway, delayMs] of delaysMs.entries()) for (const proxy of proxies[gateway]!.values()) proxy.delayMs = delayMs;
  };
  const listNodes = async (): Promise<readonly ListedNode[]> => {
    const answer = await fleet.admin("NodeService/List", {});
    return (answer as { readonly nodes: readonly ListedNode[] }).nodes; // by the published shape
  };
  /** Whom each agent is linked to, as the control plane knows. */
  const linksOf = async (): Promise<Readonly<Record<string, readonly string[]>>> => {
    const agents = (await listNodes()).filter(({ role }) => role === "agent");
    return Object.fromEntries(agents.map(({ name, links }) => [name, links.map((link) => link.name).toSorted()]));
  };
  const everyAgentTo = (...gateways: readonly string[]): Readonly<Record<string, readonly string[]>> =>
    Object.fromEntries(AGENTS.map((agent) => [agent, gateways]));
  const connectCommand = async (): Promise<Choice> => {
    const { status, stdout, stderr } = await fleet.cli(["connect", "orders", "--json"]);
    expect(status, stderr).toBe(0);
    return JSON.parse(stdout) as Choice; // by the published shape
  };
  const works = async (client: pg.Client): Promise<void> => {
    const { rows } = await client.query("SELECT ssn FROM customers WHERE id = $1", [1]);
    expect(rows).toEqual([{ ssn: "***-**-9382" }]);
  };

  it("links every agent to the nearest two, and says how far they are", async () => {
    await expect.poll(linksOf, { timeout: MOVED_WITHIN_MS }).toEqual(everyAgentTo("gateway-1", "gateway-2"));
    const agents = (await listNodes()).filter(({ role }) => role === "agent");
    for (const { name, links } of agents) {
      const roundTripMs = (gateway: string): number => links.find((link) => link.name === gateway)!.roundTripUs / 1_000;
      expect(roundTripMs("gateway-1"), name).toBeGreaterThanOrEqual(2);
      expect(roundTripMs("gateway-2"), name).toBeGreaterThanOrEqual(40);
      expect(roundTripMs("gateway-1"), name).toBeLessThan(roundTripMs("gateway-2"));
    }
  });

  it("names the nearest gateway on the command line, and another one when that has become nearer", async () => {
    const callers = proxies[0]!.get("callers")!;
    const first = await connectCommand();
    expect(first.measured.map(({ name }) => name)).toEqual(["gateway-1", "gateway-2", "gateway-3"]);
    expect(first).toMatchObject({ gateway: "gateway-1", address: `127.0.0.1:${callers.port}` });
    const [host, port] = first.address.split(":") as [string, string];
    const client = await fleet.connect(fleet.gateways[0]!, token, { host, port: Number(port) });
    await works(client);
    await client.end();
    callers.delayMs = 90; // what callers see alone: agents are not moved by it
    expect(await connectCommand()).toMatchObject({ gateway: "gateway-2", measured: [{}, {}, { name: "gateway-1" }] });
    distancesAre(1, 20, 60);
  });

  it("serves a caller at a gateway without a link by an agent that is asked to dial, for as long as it is wanted", async () => {
    expect(await linksOf()).toEqual(everyAgentTo("gateway-1", "gateway-2"));
    const beganMs = performance.now();
    const client = await fleet.connect(fleet.gateways[2]!, token);
    await works(client);
    expect(performance.now() - beganMs).toBeLessThan(SERVED_WITHIN_MS);
    const dialled = (links: Readonly<Record<string, readonly string[]>>): readonly string[] =>
      AGENTS.filter((agent) => links[agent]!.includes("gateway-3"));
    await expect.poll(async () => dialled(await linksOf()).length, { timeout: 5_000 }).toBeGreaterThan(0);
    const links = await linksOf();
    for (const agent of AGENTS) expect(links[agent]).toEqual(expect.arrayContaining(["gateway-1", "gateway-2"]));
    // It stays while it is used, however long that is.
    const untilMs = performance.now() + 2 * ON_DEMAND_MS;
    while (performance.now() < untilMs) await works(client);
    expect(dialled(await linksOf())).not.toEqual([]);
    await client.end();
    await expect.poll(linksOf, { timeout: 2 * ON_DEMAND_MS + 5_000 }).toEqual(everyAgentTo("gateway-1", "gateway-2"));
  });

  it("moves agents when distances change, and lets the sessions at the former gateway end by themselves", async () => {
    const client = await fleet.connect(fleet.gateways[0]!, token);
    await client.query("BEGIN");
    await works(client);
    distancesAre(60, 20, 1);
    const moved = async (): Promise<boolean> => {
      const links = await linksOf();
      return AGENTS.every((agent) => links[agent]!.includes("gateway-3") && links[agent]!.includes("gateway-2"));
    };
    await expect.poll(moved, { timeout: MOVED_WITHIN_MS }).toBe(true);
    await works(client);
    // Two have nothing to do there any more; the one that carries the session stays until it has ended.
    const atFormer = async (): Promise<number> =>
      Object.values(await linksOf()).filter((names) => names.includes("gateway-1")).length;
    await expect.poll(atFormer, { timeout: 5_000 }).toBe(1);
    await client.query("COMMIT");
    await works(client);
    await client.end();
    await expect.poll(linksOf, { timeout: 5_000 }).toEqual(everyAgentTo("gateway-2", "gateway-3"));
    expect((await connectCommand()).gateway).toBe("gateway-3");
  });

  it("spreads agents over gateways that are equally far", async () => {
    distancesAre(40, 40, 40);
    await expect.poll(linksOf, { timeout: SPREAD_WITHIN_MS }).toEqual({
      "agent-1": ["gateway-1", "gateway-2"],
      "agent-2": ["gateway-1", "gateway-3"],
      "agent-3": ["gateway-2", "gateway-3"],
    });
    for (const gateway of fleet.gateways) {
      const client = await fleet.connect(gateway, token);
      await works(client);
      await client.end();
    }
  });

  it("leaves a gateway that drains while what runs there goes on, and comes back when it does", async () => {
    distancesAre(1, 20, 60);
    await expect.poll(linksOf, { timeout: MOVED_WITHIN_MS }).toEqual(everyAgentTo("gateway-1", "gateway-2"));
    const [first] = fleet.gateways;
    const client = await fleet.connect(first!, token);
    await client.query("BEGIN");
    await works(client);
    const stopped = first!.stop();
    // The one that carries the session keeps its link until then.
    const isLeft = async (): Promise<boolean> => {
      const links = Object.values(await linksOf());
      return (
        links.every((names) => names.includes("gateway-3")) && links.filter((names) => names.includes("gateway-1")).length <= 1
      );
    };
    await expect.poll(isLeft, { timeout: LEFT_WITHIN_MS }).toBe(true);
    expect((await listNodes()).find(({ name }) => name === "gateway-1")?.state).toBe("draining");
    expect((await connectCommand()).gateway).toBe("gateway-2");
    await works(client);
    await client.query("COMMIT");
    await client.end();
    expect(await stopped).toBe(0);
    await expect.poll(linksOf, { timeout: 5_000 }).toEqual(everyAgentTo("gateway-2", "gateway-3"));
    await first!.start();
    await expect.poll(linksOf, { timeout: MOVED_WITHIN_MS }).toEqual(everyAgentTo("gateway-1", "gateway-2"));
    const again = await fleet.connect(first!, token);
    await works(again);
    await again.end();
  });
});
