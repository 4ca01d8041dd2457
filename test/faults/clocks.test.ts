/**
 * Clocks that are ten minutes off, on one machine at a time: it is said where people look, nothing is decided by it that the right clock
 * would decide otherwise, leases do not move, and what one control plane says is in force everywhere whatever its clock says.
 */
import { join } from "node:path";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { openNodeIdentity } from "@sluice/rpc/identity/open.ts";
import { pino } from "pino";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Fleet, startFleet } from "../support/fleet.ts";
import type { FleetNode } from "../support/fleet-node.ts";
import { contractManifests } from "../support/orders.ts";
import { errorsOf } from "../support/wire-messages.ts";
import { MASKED, masked, openSession } from "./session-states.ts";

const TEN_MINUTES_MS = 600_000;
const fixture = join(import.meta.dirname, "clock-off.test-fixture.ts");
let fleet: Fleet;
let token: string;

beforeAll(async () => {
  fleet = await startFleet({ controlPlanes: 2, gateways: 1, agents: 1 });
  token = await fleet.token("ada", ["agents"]);
});
afterAll(async () => {
  await fleet?.stop();
});

/** Ends it and starts it again at its place, its clock off by so much. */
async function restart(node: FleetNode, offMs: number): Promise<void> {
  await node.stop();
  const { NODE_OPTIONS } = process.env;
  process.env["NODE_OPTIONS"] = `${NODE_OPTIONS ?? ""} --import ${fixture}`;
  process.env["TEST_CLOCK_OFF_MS"] = String(offMs);
  try {
    await node.start();
  } finally {
    delete process.env["TEST_CLOCK_OFF_MS"];
    if (NODE_OPTIONS === undefined) delete process.env["NODE_OPTIONS"];
    else process.env["NODE_OPTIONS"] = NODE_OPTIONS;
  }
}

async function isServed(): Promise<void> {
  const login = async (): Promise<unknown> => {
    const { client } = await openSession(gateway(), token);
    const value = await masked(client);
    client.vanish();
    return value;
  };
  await expect.poll(() => login().catch((error: unknown) => String(error)), { timeout: 20_000 }).toBe(MASKED);
}

const gateway = (): FleetNode => fleet.gateways[0]!;

async function readiness(node: FleetNode): Promise<string> {
  const answer = await fetch(`http://${node.ready.operations}/readyz`);
  return `${answer.status} ${await answer.text()}`;
}

/** What it wrote since it was last asked. */
const read = new Map<FleetNode, number>();
function written(node: FleetNode): string {
  const all = node.output();
  const since = all.slice(read.get(node) ?? 0);
  read.set(node, all.length);
  return since;
}

it("a gateway that is behind says so and is not ready; it takes no token that had ended long before, and masks as ever", async () => {
  written(gateway());
  await restart(gateway(), -TEN_MINUTES_MS);
  await expect.poll(() => readiness(gateway())).toMatch(/^503 .*clock is 10\.0 minutes behind the control plane's/);
  expect(written(gateway())).toMatch(/"level":50.*clock is 10\.0 minutes behind/);
  await isServed();
  const nowS = Math.floor(Date.now() / 1_000);
  const ended = await fleet.token("ada", ["agents"], { iat: nowS - 7_200, exp: nowS - 700 });
  await expect(openSession(gateway(), ended)).rejects.toThrow(/expired/);
});

it("a gateway that is ahead refuses what seems to have ended, says so, and serves longer tokens", async () => {
  await restart(gateway(), TEN_MINUTES_MS);
  await expect.poll(() => readiness(gateway())).toMatch(/^503 .*clock is 10\.0 minutes ahead of/);
  const nowS = Math.floor(Date.now() / 1_000);
  const short = await fleet.token("ada", ["agents"], { exp: nowS + 300 });
  await expect(openSession(gateway(), short)).rejects.toThrow(/expired/);
  const long = await fleet.token("ada", ["agents"], { exp: nowS + 3_600 });
  const { client } = await openSession(gateway(), long);
  expect(await masked(client)).toBe(MASKED);
  client.vanish();
  await restart(gateway(), 0);
  await expect.poll(() => readiness(gateway())).toMatch(/^200 /);
  await isServed();
});

it.each([-TEN_MINUTES_MS, TEN_MINUTES_MS])("an agent whose clock is off by %d ms says so, and serves", async (offMs) => {
  const [agent] = fleet.agents;
  written(agent!);
  await restart(agent!, offMs);
  await expect.poll(() => written(agent!), { timeout: 10_000 }).toMatch(/"level":50.*clock is 10\.0 minutes/);
  await isServed();
});

it("a control plane that is ahead: nodes say so, none enrols, and both planes' word is in force as it comes", async () => {
  const [ahead, right] = fleet.controlPlanes;
  for (const node of [gateway(), ...fleet.agents]) written(node);
  await restart(ahead!, TEN_MINUTES_MS);
  await expect.poll(() => written(gateway()), { timeout: 15_000 }).toMatch(/"level":50.*clock is 10\.0 minutes behind/);
  const { client } = await openSession(
    gateway(),
    await fleet.token("ada", ["agents"], { exp: Math.floor(Date.now() / 1_000) + 3_600 }),
  );
  const text = await contractManifests(fleet.target.port);
  const stricter = text.replace('when: "statement.bulkExport"', 'when: "true"');
  for (const [controlPlane, refused] of [
    [ahead, true],
    [right, false],
    [right, true],
    [ahead, false],
  ] as const) {
    await fleet.admin(
      "ManifestService/Apply",
      { files: [{ path: "orders.yaml", text: refused ? stricter : text }] },
      controlPlane,
    );
    const isRefused = async (): Promise<boolean> => errorsOf(await client.query("SELECT id FROM orders WHERE id = 1")).length > 0;
    await expect.poll(isRefused, { timeout: 5_000, interval: 50 }).toBe(refused);
  }
  client.vanish();
  const made = (await fleet.admin("NodeService/CreateJoinToken", {
    role: "agent",
    name: "late",
    labels: {},
    hosts: [],
    ttlSeconds: 600,
  })) as { readonly token: string };
  const directory = mkdtempSync(join(tmpdir(), "sluice-clock-"));
  const enrolling = openNodeIdentity({
    role: "agent",
    node: { name: "late", region: "", controlPlanes: [fleet.controlPlaneAddresses[0]!], join: { kind: "tokenEnv", name: "T" } },
    directory,
    hosts: [],
    clock: systemClock,
    random: systemRandom,
    log: pino({ level: "silent" }),
    readEnvironment: () => made.token,
  });
  await expect(enrolling).rejects.toMatchObject({
    code: "config_invalid",
    message: "This machine's clock is 10.0 minutes behind the control plane's.",
    hint: expect.stringContaining("NTP"),
  });
  rmSync(directory, { recursive: true, force: true });
});
