/** The control stream of an agent over real gRPC: how it begins and ends, and the catalogs that come beside it. */
import { AgentLinkService } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import type { GrpcChannel } from "@sluice/rpc/grpc.ts";
import type { EncodedCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { catalogIn, testIdentity } from "@sluice/rpc/testing.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { afterEach, describe, expect, it } from "vitest";
import { codeOf, LinksHarness, resource, silent, until } from "./links-harness.ts";

const { link, sendCatalog } = AgentLinkService.method;
const catalog = {
  epoch: "e1",
  protocol: "postgres",
  serverVersion: 170_000,
  relations: [],
  functions: [],
  builtinFunctions: ["lower"],
  userOperators: [],
  userTypes: [],
};
let harness: LinksHarness;
const channels: GrpcChannel[] = [];

afterEach(async () => {
  for (const channel of channels.splice(0)) channel.close();
  await harness.close();
});

async function dial(role: NodeRole, name: string): Promise<GrpcChannel> {
  const peer = { address: harness.links.addresses.control, role: "gateway", name: "g1" } as const;
  const identity = await testIdentity(role, name, {}, harness.authority);
  const channel = dialGrpc(peer, { identity, log: silent, messageBytesMax: 1024 * 1024 });
  channels.push(channel);
  return channel;
}

async function endOf(received: AsyncIterable<unknown>): Promise<string> {
  return await codeOf(
    (async () => {
      for await (const _ of received);
    })(),
  );
}

function readCatalog(signal: AbortSignal = AbortSignal.timeout(5_000)): Promise<EncodedCatalog> {
  return harness.links.agentLink.readCatalog({ resource: resource(), database: "orders", signal });
}

describe("a control stream", () => {
  it("is for agents alone", async () => {
    harness = await LinksHarness.start();
    for (const role of ["gateway", "recorder", "control-plane"] as const) {
      const call = (await dial(role, "a1")).duplex(link, { signal: AbortSignal.timeout(5_000) });
      call.send({ message: { case: "hello", value: { capability: 2, capabilityMin: 1 } } });
      expect(await endOf(call.received)).toBe("unauthorized");
    }
  });

  it("begins with a hello, in time", async () => {
    harness = await LinksHarness.start({ agentHelloTimeoutMs: 50 });
    const channel = await dial("agent", "a1");
    const mute = channel.duplex(link, { signal: AbortSignal.timeout(5_000) });
    expect(await endOf(mute.received)).toBe("protocol_violation");
    const rude = channel.duplex(link, { signal: AbortSignal.timeout(5_000) });
    rude.send({ message: { case: "health", value: { sessions: 0 } } });
    expect(await endOf(rude.received)).toBe("protocol_violation");
    expect(harness.links.links()).toEqual([]);
  });

  it("needs a version in common", async () => {
    harness = await LinksHarness.start();
    const call = (await dial("agent", "a1")).duplex(link, { signal: AbortSignal.timeout(5_000) });
    call.send({ message: { case: "hello", value: { capability: 9, capabilityMin: 8 } } });
    expect(await endOf(call.received)).toBe("incompatible");
  });

  it("is refused above the bound, but for an agent that comes back", async () => {
    harness = await LinksHarness.start({ agentLinksMax: 1 });
    const identity = await testIdentity("agent", "a1", {}, harness.authority);
    await harness.agent("a1", { identity });
    expect(await codeOf(harness.agent("a2"))).toBe("too_many_connections");
    await harness.agent("a1", { identity });
    expect(harness.links.links()).toHaveLength(1);
  });

  it("tells the control plane of links that come and go", async () => {
    let changes = 0;
    harness = await LinksHarness.start(
      {},
      { control: { agentWanted: () => undefined, statusChanged: () => void (changes += 1) } },
    );
    const agent = await harness.agent("a1");
    expect(changes).toBe(1);
    agent.kill();
    await until(() => changes === 2);
    expect(harness.links.links()).toEqual([]);
  });

  it("ends for an agent that does not take what it is told", async () => {
    harness = await LinksHarness.start({ agentMessagesMax: 0, agentWaitMs: 10 });
    const agents = [await harness.agent("a1"), await harness.agent("a2", { warm: 0 }), await harness.agent("a3")];
    expect(await codeOf(harness.open())).toBe("agent_unavailable");
    await Promise.all(agents.map((agent) => agent.ended));
    const reading = await harness.agent("a4");
    expect(await codeOf(readCatalog())).toBe("agent_unavailable");
    await reading.ended;
  });

  it("tells those who wait for a cancel request when it ends", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1", { onCancel: () => "silent" });
    const target = await harness.open();
    const cancelling = codeOf(target.cancel());
    await until(() => agent.cancelled.length === 1);
    agent.unlink();
    expect(await cancelling).toBe("agent_unavailable");
  });

  it("has a bound for cancel requests and for catalogs under way", async () => {
    harness = await LinksHarness.start({ agentCancelsMax: 1, agentCatalogsMax: 1, agentWaitMs: 10 });
    const agent = await harness.agent("a1", { onCancel: () => "silent", onReadCatalog: () => null });
    const target = await harness.open();
    const cancelling = codeOf(target.cancel());
    const reading = codeOf(readCatalog());
    await expect(target.cancel()).rejects.toMatchObject({ message: "The agent has too many cancel requests to deliver." });
    expect(await codeOf(readCatalog())).toBe("agent_unavailable");
    agent.kill();
    expect([await cancelling, await reading]).toEqual(["agent_unavailable", "agent_unavailable"]);
  });
});

describe("a catalog", () => {
  it("comes in pieces as the agent made it, with the same digest while it has not changed", async () => {
    harness = await LinksHarness.start();
    let json = JSON.stringify(catalog);
    await harness.agent("a1", { onReadCatalog: () => json });
    const first = await readCatalog();
    expect(catalogIn(first)).toEqual(catalog);
    expect(await readCatalog()).toEqual(first);
    json = JSON.stringify({ ...catalog, epoch: "e2" });
    const second = await readCatalog();
    expect(catalogIn(second)).toEqual({ ...catalog, epoch: "e2" });
    expect(second.digest).not.toBe(first.digest);
  });

  it("is bounded on its way", async () => {
    harness = await LinksHarness.start({ catalogBytesMax: 10_000 });
    let json = "";
    const agent = await harness.agent("a1", { onReadCatalog: () => json });
    const noise = Array.from({ length: 4_000 }, (_, at) => (at * 2_654_435_761) % 4_294_967_296).join("");
    json = JSON.stringify({ ...catalog, builtinFunctions: [noise] });
    await expect(readCatalog()).rejects.toMatchObject({
      code: "catalog_unavailable",
      hint: expect.stringContaining("catalogBytesMax"),
    });
    await until(() => agent.refused.length === 1);
    json = JSON.stringify(catalog);
    expect(catalogIn(await readCatalog())).toEqual(catalog);
  });

  it("is bounded in pieces, however small they are", async () => {
    harness = await LinksHarness.start({ catalogBytesMax: 100_000 });
    const identity = await testIdentity("agent", "a1", {}, harness.authority);
    let asked = 0n;
    await harness.agent("a1", {
      identity,
      onReadCatalog: ({ requestId }) => {
        asked = requestId;
        return null;
      },
    });
    const reading = codeOf(readCatalog());
    await until(() => asked > 0n);
    const peer = { address: harness.links.addresses.control, role: "gateway", name: "g1" } as const;
    const channel = dialGrpc(peer, { identity, log: silent, messageBytesMax: 1024 * 1024 });
    channels.push(channel);
    const sending = channel.clientStream(
      sendCatalog,
      (async function* () {
        for (;;) yield { requestId: asked, piece: new Uint8Array(0), last: false };
      })(),
      { deadlineMs: 15_000 },
    );
    expect(await codeOf(sending)).toBe("frame_too_large");
    expect(await reading).toBe("catalog_unavailable");
  });

  it("is asked of another agent when one is at fault, not when the target is", async () => {
    harness = await LinksHarness.start();
    let code = "internal";
    await harness.agent("a1", { onReadCatalog: () => ({ code, message: "No." }) });
    await harness.agent("a2", { onReadCatalog: () => JSON.stringify(catalog) });
    expect(catalogIn(await readCatalog())).toEqual(catalog);
    code = "target_unreachable";
    expect([await codeOf(readCatalog()), await codeOf(readCatalog())].toSorted()).toEqual(["ok", "target_unreachable"]);
  });

  it("is not waited for when nobody waits, nor taken from an agent that was not asked", async () => {
    harness = await LinksHarness.start();
    await harness.agent("a1", { onReadCatalog: () => null });
    expect(await codeOf(readCatalog(AbortSignal.timeout(50)))).toBe("target_unreachable");
    const stranger = await dial("agent", "a2");
    const send = (): Promise<unknown> =>
      stranger.clientStream(
        sendCatalog,
        (async function* () {
          yield { requestId: 1n, piece: new Uint8Array(1), last: true };
        })(),
        { deadlineMs: 5_000 },
      );
    expect(await codeOf(send())).toBe("not_found");
    await harness.agent("a2", { warm: 0 });
    expect(await codeOf(send())).toBe("not_found");
  });
});
