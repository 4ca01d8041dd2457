/** The two ends of an agent's link as they are, against each other: a gateway's links and an agent's tunnel, over real mTLS. */
import { once } from "node:events";
import { LinksHarness, codeOf, echoed, resource, until } from "@sluice/data-plane/links/links-harness.ts";
import { TunnelHarness, resource as declared } from "@sluice/agent/tunnel/tunnel-harness.ts";
import { newSessionId } from "@sluice/core/ids.ts";
import { systemRandom } from "@sluice/core/system.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, beforeEach, expect, it } from "vitest";

let gateway: LinksHarness;
let agent: TunnelHarness;

beforeEach(async () => {
  gateway = await LinksHarness.start({}, { snapshotSequence: () => 7n });
  agent = new TunnelHarness(await testIdentity("agent", "a1", {}, gateway.authority));
  const addresses = { ...gateway.links.addresses, callers: {} };
  const node: DirectoryNode = {
    role: "gateway",
    name: "g1",
    region: "here",
    addresses,
    labels: {},
    slot: 1,
    capability: 2,
    draining: false,
  };
  agent.directory = [node];
});

afterEach(async () => {
  await agent.close();
  await gateway.close();
});

function open(database = "shop", pool = false): Promise<TargetConnection> {
  return gateway.open({ resource: resource(undefined, pool), database, sessionId: newSessionId(systemRandom) });
}

it("opens sessions, each on a connection of its own, and carries them", async () => {
  const targets = await Promise.all(Array.from({ length: 50 }, () => open()));
  for (const [at, target] of targets.entries()) {
    expect(target.parameters).toEqual([["server_version", "18.0"]]);
    expect(await echoed(target.stream, `session ${at}`)).toBe(`session ${at}`);
  }
  expect(agent.tunnel.refusedOpens).toBe(0);
  expect(gateway.links.links()).toMatchObject([{ name: "a1", sessions: 50 }]);
  await targets[0]!.cancel();
  expect(agent.targets.cancels).toBe(1);
});

it("ends both connections of a session when either end does", async () => {
  const [first, second] = [await open(), await open()];
  first.stream.destroy();
  await once(agent.targets.opened[0]!, "close");
  second.stream.resume();
  agent.targets.accepted[1]!.destroy();
  await once(second.stream, "close");
});

it("gives target connections back, and cuts those of sessions that were broken off", async () => {
  agent.targets.pooled = true;
  const [kept, cut] = [await open("shop", true), await open("shop", true)];
  kept.release?.();
  await until(() => agent.targets.released.length === 1);
  expect(agent.targets.opened[0]!.destroyed).toBe(false);
  cut.stream.destroy();
  await once(agent.targets.opened[1]!, "close");
  expect(agent.targets.released).toHaveLength(1);
});

it("says of the target what the agent says, and asks again when the agent learns of the resource", async () => {
  agent.targets.fault = new Error("a bug");
  expect(await codeOf(open())).toBe("agent_unavailable");
  agent.targets.fault = undefined;
  agent.resources.delete("orders");
  agent.sequence = 6n;
  agent.tunnel.resourcesChanged();
  await until(() => gateway.links.links().length === 1);
  const opening = open();
  setTimeout(() => {
    agent.resources.set("orders", declared());
    agent.sequence = 7n;
    agent.tunnel.resourcesChanged();
  }, 200);
  expect(await echoed((await opening).stream, "known now")).toBe("known now");
});

it("gives up an open that nobody waits for", async () => {
  expect(
    await codeOf(gateway.open({ database: "hang", sessionId: newSessionId(systemRandom), signal: AbortSignal.timeout(300) })),
  ).toBe("target_unreachable");
  await until(() => agent.targets.aborted === 1);
});
