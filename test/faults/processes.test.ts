/**
 * Each process of an installation killed (SIGKILL) while sessions are in every state: opening, idle, in a transaction, mid result, in a
 * COPY, waiting for their recording, being cancelled. Sessions that do not run through it go on; the others end with a sentence, leave
 * nothing at the target, and the next ones are served. Real processes, in order, on one fleet.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DelayProxy, startDelayProxy } from "../support/delay-proxy.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import type { FleetNode } from "../support/fleet-node.ts";
import { contractManifests } from "../support/orders.ts";
import { Logins, MASKED, masked, openSession, SessionStates, unrecorded } from "./session-states.ts";

/** After this time everything is as before. */
const HEALED_MS = 30_000;

let fleet: Fleet;
let target: DelayProxy;
let agentToken: string;
let mark = 700_000;

beforeAll(async () => {
  fleet = await startFleet({
    gateways: 2,
    prepare: async ({ port }) => {
      target = await startDelayProxy(port);
    },
    manifests: (text) => text.replace(/address: 127\.0\.0\.1:\d+/, `address: 127.0.0.1:${target.port}`),
  });
  agentToken = await fleet.token("ada", ["agents"]);
});
afterAll(async () => {
  await fleet?.stop();
  await target?.stop();
});

const states = (gateway: FleetNode): Promise<SessionStates> => SessionStates.open(fleet, gateway, (mark += 100));
const [first, second] = [() => fleet.gateways[0]!, () => fleet.gateways[1]!];

async function isServed(gateway: FleetNode): Promise<void> {
  const { client } = await openSession(gateway, agentToken);
  expect(await masked(client)).toBe(MASKED);
  client.vanish();
}

async function everybodyIsBack(): Promise<void> {
  await fleet.untilConnected("gateway", 2);
  await fleet.untilConnected("agent", 2);
}

describe("killed", { timeout: 60_000 }, () => {
  it("the recorder: sessions go on, and what they did is recorded when it is back", async () => {
    const open = await states(first());
    await fleet.recorder.kill();
    await isServed(first());
    const { id } = open.working;
    const before = open.received.length;
    await expect.poll(() => open.received.length).toBeGreaterThan(before);
    await open.goOn();
    await fleet.recorder.start();
    const received = [...open.received];
    await expect.poll(() => unrecorded(fleet, id, received), { timeout: HEALED_MS, interval: 300 }).toEqual([]);
  });

  it("NATS: sessions go on", async () => {
    const open = await states(first());
    await fleet.nats.kill();
    await isServed(first());
    await open.goOn();
    await fleet.nats.start();
  });

  it("both control planes: sessions go on, new ones are served, and everybody comes back", async () => {
    const open = await states(second());
    await Promise.all(fleet.controlPlanes.map((node) => node.kill()));
    await isServed(second());
    await open.goOn();
    await Promise.all(fleet.controlPlanes.map((node) => node.start()));
    await everybodyIsBack();
  });

  it("the store while manifests are applied: an answer either way, all gateways agree afterwards", async () => {
    const open = await states(first());
    const text = await contractManifests(target.port);
    const policy = (count: number): string =>
      `${text}---\napiVersion: sluice/v1\nkind: Policy\nmetadata: { name: filler }\nspec:\n  principals: { groups: [nobody] }\n  resources: { labels: { env: prod } }\n  rules:\n${Array.from({ length: count }, (_, at) => `    - { name: filler-${at}, effect: deny, when: "false" }\n`).join("")}`;
    const applied: Promise<string>[] = [];
    for (let count = 1; count <= 6; count++) {
      const controlPlane = fleet.controlPlanes[count % 2]!;
      const body = { files: [{ path: "manifests/orders.yaml", text: policy(count * 100) }] };
      applied.push(
        fleet.admin("ManifestService/Apply", body, controlPlane).then(
          () => "applied",
          (error: unknown) => (error instanceof Error ? error.message : "unknown"),
        ),
      );
    }
    await Promise.race(applied);
    await fleet.store.crash();
    const outcomes = await Promise.all(applied);
    for (const outcome of outcomes) expect(outcome).toMatch(/^applied$|store does not answer/);
    await isServed(first());
    await fleet.store.start();
    const again = async (): Promise<string> =>
      await fleet.admin("ManifestService/Apply", { files: [{ path: "manifests/orders.yaml", text }] }).then(
        () => "applied",
        (error: unknown) => String(error),
      );
    await expect.poll(again, { timeout: HEALED_MS }).toBe("applied");
    await open.goOn();
    const inForce = async (): Promise<readonly unknown[]> => {
      const { nodes } = (await fleet.admin("NodeService/List", {})) as {
        readonly nodes: readonly { readonly role: string; readonly snapshot: { readonly sequence: number } | null }[];
      };
      const sequences = nodes.filter(({ role }) => role === "gateway").map(({ snapshot }) => snapshot?.sequence);
      return sequences.filter((sequence) => sequence !== sequences[0]);
    };
    await expect.poll(inForce, { timeout: HEALED_MS }).toEqual([]);
    await everybodyIsBack();
  });

  it("an agent while it opens: the other one opens", async () => {
    target.deaf = true;
    const before = target.connections;
    const opening = openSession(first(), agentToken);
    await expect.poll(() => target.connections, { timeout: 5_000 }).toBeGreaterThan(before);
    target.deaf = false;
    const [agent] = fleet.agents;
    await agent!.kill();
    const { client } = await opening;
    expect(await masked(client)).toBe(MASKED);
    client.vanish();
    await agent!.start();
    await everybodyIsBack();
  });

  it("both agents: their sessions end, logins are told why they wait in vain, and are served when one is back", async () => {
    const open = await states(first());
    const logins = new Logins(second(), agentToken);
    await expect.poll(() => logins.served, { timeout: 10_000 }).toBeGreaterThan(0);
    await Promise.all(fleet.agents.map((node) => node.kill()));
    await open.haveEnded();
    await expect.poll(() => logins.refused.length, { timeout: 20_000 }).toBeGreaterThan(0);
    await fleet.agents[1]!.start();
    const { served } = logins;
    try {
      await expect.poll(() => logins.served, { timeout: 20_000 }).toBeGreaterThan(served);
    } finally {
      await logins.stop();
    }
    expect(logins.slowestMs).toBeLessThan(20_000);
    for (const sentence of logins.refused) expect(sentence).toMatch(/agent|connection ended/);
    await fleet.agents[0]!.start();
    await everybodyIsBack();
  });

  it("a gateway: its sessions end, nothing of them stays at the target, the other gateway and the next start serve", async () => {
    const elsewhere = await states(second());
    const open = await states(first());
    const { id } = open.working;
    await first().kill();
    await open.haveEnded();
    await isServed(second());
    await elsewhere.goOn();
    await first().start();
    await isServed(first());
    const received = [...open.received];
    expect(received.length).toBeGreaterThan(0);
    await expect.poll(() => unrecorded(fleet, id, received), { timeout: HEALED_MS, interval: 300 }).toEqual([]);
    await everybodyIsBack();
  });
});
