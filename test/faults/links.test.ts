/**
 * Between a gateway and an agent, each as it is, over real mTLS and proxies that go deaf, forget, cut and heal: what is noticed, by
 * whom and when. Sessions outlive the control stream; nothing is opened over what is dead, and nothing waits for ever.
 */
import { readFile } from "node:fs/promises";
import { codeOf, echoed, LinksHarness, resource } from "@sluice/data-plane/links/links-harness.ts";
import { TunnelHarness } from "@sluice/agent/tunnel/tunnel-harness.ts";
import { newSessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import { testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type DelayProxy, startDelayProxy } from "../support/delay-proxy.ts";
import { freePorts } from "../support/fleet.ts";

/** As the defaults, but shorter, so that a test can wait for them. Together: how long a half-open control stream lasts. */
const limits: Partial<Limits> = {
  nodeKeepaliveMs: 500,
  nodeKeepaliveTimeoutMs: 500,
  agentWaitMs: 1_000,
  nodeConnectTimeoutMs: 1_000,
  agentHandshakeTimeoutMs: 1_000,
  warmConnectionWaitMs: 300,
};
const NOTICED_MS = 3_000;
/** From when on a connection is probed by TCP, at the latest; ten probes, one each second, end it. Both ends of a session have it. */
const PROBED_AFTER_MS = 31_000;
const OPEN_MS = 4_000;

let gateway: LinksHarness;
let agent: TunnelHarness;
let control: DelayProxy;
let sessions: DelayProxy;
/** Behind the proxy for sessions. */
let listening: number;

beforeEach(async () => {
  const [controlPort, sessionsPort] = (await freePorts(2)) as [number, number]; // as many as asked for
  control = await startDelayProxy(controlPort);
  sessions = await startDelayProxy(sessionsPort);
  const config = {
    control: { host: "127.0.0.1", port: controlPort },
    sessions: { host: "127.0.0.1", port: sessionsPort },
    advertise: { control: `127.0.0.1:${control.port}`, sessions: `127.0.0.1:${sessions.port}` },
  };
  gateway = await LinksHarness.start(limits, { config, snapshotSequence: () => 7n });
  listening = sessionsPort;
  agent = new TunnelHarness(await testIdentity("agent", "a1", {}, gateway.authority), { limits });
  agent.directory = [
    {
      role: "gateway",
      name: "g1",
      region: "here",
      addresses: { ...gateway.links.addresses, callers: {} },
      labels: {},
      slot: 1,
      capability: 2,
      draining: false,
    },
  ];
  await linked(1);
});

afterEach(async () => {
  await agent.close();
  await gateway.close();
  await control.stop();
  await sessions.stop();
});

async function linked(count: number): Promise<void> {
  await expect.poll(() => gateway.links.links().length, { timeout: 10_000, interval: 20 }).toBe(count);
}

function open(timeoutMs = OPEN_MS): Promise<TargetConnection> {
  return gateway.open({
    resource: resource(),
    database: "shop",
    sessionId: newSessionId(systemRandom),
    signal: AbortSignal.timeout(timeoutMs),
  });
}

async function opens(): Promise<void> {
  await expect.poll(async () => await codeOf(open()), { timeout: 20_000 }).toBe("ok");
}

it("a control stream that goes deaf is noticed on both sides; sessions go on, none is opened over it, and it heals", async () => {
  const session = await open();
  control.deaf = true;
  const beganMs = performance.now();
  await linked(0);
  await expect.poll(() => agent.tunnel.status().links, { timeout: NOTICED_MS }).toEqual([]);
  expect(performance.now() - beganMs).toBeLessThan(NOTICED_MS);
  expect(await codeOf(open())).toBe("agent_unavailable");
  expect(await echoed(session.stream, "still here")).toBe("still here");
  expect(agent.targets.requests).toHaveLength(1);
  control.deaf = false;
  await linked(1);
  await opens();
});

it("a control stream that is cut comes back by itself, and sessions do not notice", async () => {
  const session = await open();
  for (let round = 0; round < 3; round++) {
    control.cut(true);
    await linked(0);
    expect(await echoed(session.stream, `round ${round}`)).toBe(`round ${round}`);
    control.cut(false);
    await linked(1);
  }
  await opens();
});

it("connections for sessions that go deaf: an open ends in its time and leaves nothing at the target; afterwards it works", async () => {
  sessions.deaf = true;
  const beganMs = performance.now();
  expect(await codeOf(open())).not.toBe("ok");
  expect(performance.now() - beganMs).toBeLessThan(OPEN_MS + 1_000);
  expect(agent.targets.requests).toEqual([]);
  sessions.deaf = false;
  await opens();
});

it("connections for sessions that were forgotten do not keep new ones from being dialled", async () => {
  await expect.poll(() => gateway.links.links()[0]?.idleConnections, { timeout: 5_000 }).toBe(2);
  sessions.forget();
  await opens();
});

it("a session that is cut ends on both sides", async () => {
  const session = await open();
  const ended = new Promise<void>((resolve) => void session.stream.resume().once("close", () => resolve()));
  sessions.cut(true);
  await ended;
  await expect.poll(() => agent.targets.opened[0]!.destroyed).toBe(true);
  sessions.cut(false);
  await opens();
});

it("sessions that go silent are probed by TCP from both ends", async () => {
  await open();
  // The kernel's own table: local and remote port, and the timer that runs (2: keepalive) with its time in hundredths of a second.
  const unprobed = async (end: "local" | "remote", port: number): Promise<readonly string[]> => {
    const table = (await readFile("/proc/net/tcp", "utf8")).trim().split("\n").slice(1);
    const established = table.filter((line) => {
      const [, local, remote, state] = line.trim().split(/\s+/);
      return state === "01" && Number.parseInt((end === "local" ? local : remote)!.split(":")[1]!, 16) === port;
    });
    expect(established.length).toBeGreaterThan(0);
    return established.filter((line) => {
      const [active, when] = line.trim().split(/\s+/)[5]!.split(":");
      return active !== "02" || Number.parseInt(when!, 16) * 10 > PROBED_AFTER_MS;
    });
  };
  // For a moment after bytes were sent another timer runs.
  await expect.poll(() => unprobed("remote", sessions.port), { timeout: 3_000 }).toEqual([]);
  await expect.poll(() => unprobed("local", listening), { timeout: 3_000 }).toEqual([]);
});
