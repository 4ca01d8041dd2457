/**
 * Each process of an installation killed (SIGKILL) while sessions are in every state: opening, idle, in a transaction, mid result, in a
 * COPY, waiting for their recording, being cancelled. Sessions that do not run through it go on; the others end with a sentence, leave
 * nothing at the target, and the next ones are served. Real processes, in order, on one fleet.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { openNodeIdentity } from "@sluice/rpc/identity/open.ts";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DelayProxy, startDelayProxy } from "../support/delay-proxy.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import type { FleetNode } from "../support/fleet-node.ts";
import { contractManifests } from "../support/orders.ts";
import { Logins, MASKED, masked, openSession, SessionStates, unrecorded } from "./session-states.ts";

/** From the command to the end of sessions, on machines that do much else besides. */
const REVOKED_MS = 3_000;
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
    // Each in turn, since one of them opens and nobody outside knows which. Slow, not deaf: what the other one sends must arrive.
    for (const agent of fleet.agents) {
      target.delayMs = 400;
      const before = target.connections;
      const opening = openSession(first(), agentToken);
      await expect.poll(() => target.connections, { timeout: 5_000 }).toBeGreaterThan(before);
      await agent.kill();
      target.delayMs = 0;
      const { client } = await opening;
      expect(await masked(client)).toBe(MASKED);
      client.vanish();
      await agent.start();
      await everybodyIsBack();
    }
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

  it("a control plane while nodes enrol: each is enrolled once, with the token that it has", async () => {
    const [controlPlane] = fleet.controlPlanes;
    const directory = mkdtempSync(join(tmpdir(), "sluice-enrolling-"));
    const names = Array.from({ length: 12 }, (_, at) => `late-${at}`);
    const tokens = new Map<string, string>();
    for (const name of names) {
      const wish = { role: "agent", name: null, labels: { late: "yes" }, hosts: [], ttlSeconds: 600 };
      const { token } = (await fleet.admin("NodeService/CreateJoinToken", wish)) as { readonly token: string };
      tokens.set(name, token);
    }
    const enrolling = names.map((name) =>
      openNodeIdentity({
        role: "agent",
        node: {
          name,
          region: "",
          controlPlanes: [fleet.controlPlaneAddresses[0]!],
          join: { kind: "tokenEnv", name: "TOKEN" },
        },
        directory: join(directory, name),
        hosts: [],
        clock: systemClock,
        random: systemRandom,
        log: pino({ level: "silent" }),
        readEnvironment: () => tokens.get(name),
      }),
    );
    await Promise.race(enrolling);
    await controlPlane!.kill();
    await controlPlane!.start();
    const identities = await Promise.all(enrolling);
    expect(identities.map(({ self }) => self.name)).toEqual(names);
    for (const identity of identities) identity.close();
    rmSync(directory, { recursive: true, force: true });
    const { tokens: listed } = (await fleet.admin("NodeService/ListJoinTokens", {})) as {
      readonly tokens: readonly { readonly usedBy: string | null; readonly state: string }[];
    };
    for (const name of names) expect(listed.filter(({ usedBy }) => usedBy === name)).toMatchObject([{ state: "used" }]);
  });
});

describe("revoked", { timeout: 60_000 }, () => {
  it("an agent: its sessions end within a second, it says what to do, and the other one serves", async () => {
    const [revoked] = fleet.agents;
    const opened = await Promise.all(Array.from({ length: 8 }, () => openSession(first(), agentToken)));
    const running = opened.map(({ client }) => client);
    for (const client of running) expect(await masked(client)).toBe(MASKED);
    const revokedMs = performance.now();
    await fleet.admin("NodeService/Revoke", { role: "agent", name: revoked!.name, reason: "stolen" });
    await expect
      .poll(() => running.filter((client) => client.isClosed).length, { timeout: 5_000, interval: 20 })
      .toBeGreaterThan(0);
    expect(performance.now() - revokedMs).toBeLessThan(REVOKED_MS);
    // The others run through the other agent.
    for (const client of running.filter((one) => !one.isClosed)) {
      expect(await masked(client)).toBe(MASKED);
      client.vanish();
    }
    await isServed(first());
    await isServed(second());
    await expect.poll(() => revoked!.output(), { timeout: 10_000 }).toMatch(/withdrawn|revoked/);
    await revoked!.stop();
    // Its certificate on disk is of no use to anybody.
    await revoked!.start().catch(() => undefined);
    await isServed(first());
    const { nodes } = (await fleet.admin("NodeService/List", {})) as {
      readonly nodes: readonly { readonly name: string; readonly role: string; readonly state: string }[];
    };
    expect(nodes.find(({ role, name }) => role === "agent" && name === revoked!.name)?.state).toBe("revoked");
  });
});
