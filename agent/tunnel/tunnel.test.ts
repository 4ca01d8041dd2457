/**
 * The agent's side of links against gateways that keep to the protocol and gateways that do not, over real mTLS.
 * Long because every way in which a gateway can break it is one case over the same few helpers.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { zstdDecompressSync } from "node:zlib";
import { GatewayError } from "@sluice/core/errors.ts";
import { systemClock } from "@sluice/core/system.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { TICKET_LIFETIME_MS } from "@sluice/rpc/ticket.ts";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { FakeGateway, type FakeGatewayOptions, type FakeOpen } from "./fake-gateway.ts";
import { resource, TunnelHarness } from "./tunnel-harness.ts";

let authority: TestAuthority;
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  authority = await makeTestAuthority();
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

describe("a session", () => {
  test("is opened by the agent's own declaration and carries bytes both ways", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open({ startup: { application_name: "psql" }, account: "readOnly" });
    expect(await outcomeOf(open)).toMatchObject({ parameters: [{ name: "server_version", value: "18.0" }] });
    expect(await echo(open.socket, "SELECT 1")).toBe("SELECT 1");
    expect(agent.targets.requests[0]).toMatchObject({
      resource: resource(),
      database: "shop",
      account: "readOnly",
      startup: { application_name: "psql" },
    });
    const line = agent.logged.find((text) => text.includes('"msg":"open"'));
    expect(JSON.parse(line ?? "{}")).toMatchObject({
      gateway: "g1",
      session: "s_AAAAAAAAAAAAAAAAAAAAAA",
      resource: "orders",
      account: "readOnly",
      outcome: "opened",
    });
    expect(agent.tunnel.status()).toMatchObject({ sessions: 1, links: [{ name: "g1", sessions: 1 }] });
    open.socket.destroy();
    await until(() => agent.targets.opened[0]?.destroyed === true && agent.tunnel.status().sessions === 0);
  });

  test("whose binding is there before its announcement is opened all the same", async () => {
    const { gateway } = await linked();
    const early = gateway.open({ unannounced: true });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const { openId, ticket } = early;
    const claims = { sessionId: "s_AAAAAAAAAAAAAAAAAAAAAA", resource: "orders", database: "shop", account: "readWrite" };
    gateway.send({ case: "open", value: { ...claims, openId, ticket, startup: {} } });
    expect(await outcomeOf(early)).toHaveProperty("parameters");
  });

  test("ends at the gateway when the target ends, with all that the target had said", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open();
    await open.answer;
    const received: Buffer[] = [];
    open.socket.on("data", (chunk: Buffer) => void received.push(chunk));
    open.socket.resume();
    agent.targets.accepted[0]?.end("FATAL: going down");
    await once(open.socket, "close");
    expect(Buffer.concat(received).toString()).toBe("FATAL: going down");
    await until(() => agent.tunnel.status().sessions === 0);
  });

  test("is read and written no faster than the other side takes", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open();
    await open.answer;
    agent.targets.accepted[0]?.unpipe().pause();
    const block = Buffer.alloc(64 * 1024, 1);
    let written = 0;
    while (written < 64 * 1024 * 1024 && (open.socket.write(block) || (await drained(open.socket)))) written += block.length;
    expect(written).toBeLessThan(64 * 1024 * 1024);
    expect(agent.targets.opened[0]?.writableLength).toBeLessThan(1024 * 1024);
    open.socket.destroy();
  });

  test("is given up at the target when the gateway goes while it is being opened", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open({ database: "hang" });
    await until(() => agent.targets.requests.length === 1);
    open.socket.destroy();
    await until(() => agent.targets.aborted === 1 && agent.tunnel.status().sessions === 0);
  });

  test("that the target refuses is told by code and sentence", async () => {
    const { gateway, agent } = await linked();
    agent.targets.fault = new GatewayError("target_auth_failed", "The database refused the agent's credential.", {
      cause: new Error("secret detail"),
    });
    const outcome = await outcomeOf(gateway.open());
    expect(outcome).toMatchObject({ code: "target_auth_failed", message: "The database refused the agent's credential." });
    expect(JSON.stringify(outcome)).not.toContain("secret detail");
  });
});

describe("what is refused", () => {
  test("a ticket that was never announced", { timeout: 10_000 }, async () => {
    const { gateway, agent } = await linked();
    await expectRefused(agent, gateway.open({ unannounced: true }), /not known/);
  });

  test("a ticket that is used a second time", async () => {
    const { gateway, agent } = await linked({ keepWarm: 8 });
    const first = gateway.open();
    await first.answer;
    const { openId, ticket } = first;
    const again = gateway.open({ openId, ticket, unannounced: true });
    await expectRefused(agent, again, /used before/);
    // Announced once more, it is not taken either.
    const third = gateway.open({ openId, ticket });
    await expectRefused(agent, third, /used before/, 3);
    expect(await echo(first.socket, "untouched")).toBe("untouched");
  });

  test("a ticket that is bound too late", async () => {
    let ahead = 0;
    const clock = { nowMs: () => systemClock.nowMs(), monotonicMs: () => systemClock.monotonicMs() + ahead };
    const { gateway, agent } = await linked({}, { clock });
    const { openId, ticket } = gateway.open({ proof: Buffer.alloc(32) });
    await until(() => agent.tunnel.refusedOpens === 1);
    expect(agent.targets.requests).toEqual([]);
    const announced = { openId: 99n, ticket: Buffer.alloc(32, 1), sessionId: "s", resource: "orders", database: "shop" };
    gateway.send({ case: "open", value: { ...announced, account: "readWrite", startup: {} } });
    await settled(gateway);
    ahead = TICKET_LIFETIME_MS + 1;
    await expectRefused(agent, gateway.open({ ...announced, unannounced: true }), /too old/, 2);
    expect([openId, ticket.length]).toEqual([1n, 32]);
  });

  test("a proof that was made for another connection", async () => {
    const { gateway, agent } = await linked();
    await until(() => gateway.idle.length >= 2);
    const [stolen, own] = gateway.idle;
    await expectRefused(agent, gateway.open({ connection: stolen!, provenOn: own! }), /not for this connection/);
  });

  test("a session connection on which something comes before the answer", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open({ database: "hang" });
    open.socket.write("impatient");
    expect(await open.answer).toBeNull();
    await until(() => agent.targets.aborted === 1);
  });

  test("a resource that the agent does not know, or whose labels it does not carry", async () => {
    const { gateway, agent } = await linked();
    agent.resources.set("payroll", resource({ name: "payroll", agents: { region: "us" } }));
    for (const name of ["unknown", "payroll"]) {
      const outcome = await outcomeOf(gateway.open({ resource: name }));
      expect(outcome).toMatchObject({ code: "resource_unknown", detail: { sequence: "7" } });
    }
    expect(agent.targets.requests).toEqual([]);
    expect(agent.tunnel.refusedOpens).toBe(2);
  });

  test("a resource that the gateway's certificate does not allow", async () => {
    const { gateway, agent } = await linked({ labels: { team: "payments" } });
    expect(await outcomeOf(gateway.open())).toMatchObject({ code: "unauthorized" });
    agent.resources.set("orders", resource({ labels: { team: "payments", more: "1" } }));
    expect(await outcomeOf(gateway.open())).toHaveProperty("parameters");
  });

  test("startup parameters without end, an account and a session that do not exist", async () => {
    const { gateway, agent } = await linked({ keepWarm: 8 });
    for (const wish of [
      { startup: { search_path: "x".repeat(20_000) } },
      { startup: Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`p${index}`, ""])) },
      { account: "superuser" },
      { sessionId: "../../etc/passwd" },
    ]) {
      expect(await outcomeOf(gateway.open(wish))).toMatchObject({ code: "protocol_violation" });
    }
    expect(agent.targets.requests).toEqual([]);
  });

  test("a gateway whose session port shows the certificate of another name, role or installation", async () => {
    const foreign = await makeTestAuthority("Another installation");
    for (const sessionsIdentity of [
      await testIdentity("gateway", "g2", {}, authority),
      await testIdentity("recorder", "g1", {}, authority),
      await testIdentity("gateway", "g1", {}, foreign),
    ]) {
      const { gateway, agent } = await linked({ sessionsIdentity }, {}, false);
      await until(() => agent.logged.some((line) => line.includes("no session connection to the gateway")));
      expect(agent.targets.requests).toEqual([]);
      expect(gateway.links).toBe(1);
    }
  });

  test("a revoked gateway: its idle connections and its sessions are cut", async () => {
    const { gateway, agent, identity, gatewayIdentity } = await linked();
    const open = gateway.open();
    await open.answer;
    open.socket.resume();
    await until(() => gateway.idle.length >= 1);
    identity.trust(authority.trust([gatewayIdentity.self.serial]));
    await once(open.socket, "close");
    await until(() => gateway.connections.size === 0 && agent.tunnel.status().sessions === 0);
    expect(agent.targets.opened[0]?.destroyed).toBe(true);
  });

  describe("a session whose connection was made with a certificate that has run out", () => {
    let aheadMs = 0;
    const clock = { nowMs: () => Date.now() + aheadMs, monotonicMs: () => systemClock.monotonicMs() };
    const dayMs = 24 * 3_600_000;

    /** The gateway shows a newer certificate, the agent has seen it, and a day has passed. */
    async function aged(newer: {
      readonly notAfterMs: number;
    }): Promise<Awaited<ReturnType<typeof linked>> & { open: FakeOpen }> {
      aheadMs = 0;
      const all = await linked({}, { clock });
      const open = all.gateway.open();
      await open.answer;
      all.gatewayIdentity.replace(
        await authority.issue({ role: "gateway", name: "g1", notBeforeMs: Date.now() - 60_000, ...newer }),
      );
      const measured = vi.spyOn(all.agent, "statusChanged");
      await until(() => measured.mock.calls.length >= 3);
      aheadMs = dayMs + 3_600_000;
      return { ...all, open };
    }

    test("goes on while the gateway has another", async () => {
      const { open, agent } = await aged({ notAfterMs: Date.now() + 10 * dayMs });
      const measured = vi.spyOn(agent, "statusChanged");
      await until(() => measured.mock.calls.length >= 3);
      expect(await echo(open.socket, "SELECT 1")).toBe("SELECT 1");
    });

    test("is cut when the gateway is revoked, though no list of revocations names what has ended long ago", async () => {
      const { open, agent, identity, gatewayIdentity } = await aged({ notAfterMs: Date.now() + 10 * dayMs });
      open.socket.resume();
      identity.trust(authority.trust([gatewayIdentity.self.serial]));
      await until(() => open.socket.destroyed && agent.tunnel.status().sessions === 0);
    });

    test("is cut when the gateway has no other", async () => {
      const { open, agent } = await aged({ notAfterMs: Date.now() + dayMs });
      open.socket.resume();
      await until(() => open.socket.destroyed && agent.tunnel.status().sessions === 0);
    });
  });

  test("a gateway that goes on with a resource that the agent has no more, or that it may not serve any more", async () => {
    const { gateway, agent } = await linked({ labels: { team: "shop" } });
    agent.resources.set("other", resource({ name: "other" }));
    agent.resources.set("stays", resource({ name: "stays" }));
    const opens: FakeOpen[] = [];
    for (const name of ["orders", "other", "stays"]) {
      await until(() => gateway.idle.length > 0);
      const open = gateway.open({ resource: name });
      expect(await outcomeOf(open)).toHaveProperty("parameters");
      opens.push(open);
    }
    agent.resources.delete("orders");
    agent.resources.set("other", resource({ name: "other", labels: { team: "payroll" } }));
    agent.tunnel.resourcesChanged();
    for (const open of opens.slice(0, 2)) open.socket.resume();
    await until(() => opens[0]?.socket.destroyed === true && opens[1]?.socket.destroyed === true);
    expect(await echo(opens[2]!.socket, "SELECT 1")).toBe("SELECT 1");
  });

  test("a gateway that uses connections up without binding them makes the agent dial ever more slowly", async () => {
    const { gateway, agent } = await linked();
    let taken = 0;
    const endsAtMs = performance.now() + 1_500;
    while (performance.now() < endsAtMs) {
      if (gateway.idle.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      else {
        gateway.open({ proof: new Uint8Array(32) });
        taken += 1;
      }
    }
    await until(() => agent.tunnel.refusedOpens > 0);
    expect(taken).toBeLessThan(30);
  });
});

describe("the end of a session", () => {
  test("in good order gives the target connection back", async () => {
    const { gateway, agent } = await linked();
    agent.targets.pooled = true;
    const open = gateway.open();
    await open.answer;
    expect(await echo(open.socket, "last")).toBe("last");
    gateway.send({ case: "release", value: { openId: open.openId } });
    open.socket.end();
    open.socket.resume();
    await once(open.socket, "close");
    await until(() => agent.targets.released.length === 1);
    const [stream] = agent.targets.opened;
    expect(stream?.destroyed).toBe(false);
    expect(stream?.isPaused()).toBe(true);
    expect(["data", "error", "readable", "drain"].map((event) => stream?.listenerCount(event))).toEqual([0, 0, 0, 0]);
  });

  test("whose Release comes after the connection's end gives it back as well", async () => {
    const { gateway, agent } = await linked();
    agent.targets.pooled = true;
    const open = gateway.open();
    await open.answer;
    open.socket.end();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(agent.targets.released).toEqual([]);
    gateway.send({ case: "release", value: { openId: open.openId } });
    await until(() => agent.targets.released.length === 1);
  });

  test.each([
    ["without Release", {}, (open: FakeOpen) => void open.socket.end()],
    [
      "by a break, though released",
      {},
      (open: FakeOpen, gateway: FakeGateway) => {
        gateway.send({ case: "release", value: { openId: open.openId } });
        gateway.reset(open.socket);
      },
    ],
    [
      "at a gateway of capability 1",
      { capability: 1 },
      (open: FakeOpen, gateway: FakeGateway) => {
        gateway.send({ case: "release", value: { openId: open.openId } });
        open.socket.end();
      },
    ],
  ] as const)("%s closes it", async (_, options, end) => {
    const { gateway, agent } = await linked(options);
    agent.targets.pooled = true;
    const open = gateway.open();
    await open.answer;
    end(open, gateway);
    await until(() => agent.targets.opened[0]?.destroyed === true);
    expect(agent.targets.released).toEqual([]);
  });
});

describe("the control stream", () => {
  test("cancels, and says so; for a session that has ended too", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open();
    await open.answer;
    gateway.send({ case: "cancel", value: { openId: open.openId, cancelId: 5n } });
    gateway.send({ case: "cancel", value: { openId: 999n, cancelId: 6n } });
    await until(() => gateway.said.filter(({ case: kind }) => kind === "cancelDone").length === 2);
    expect(agent.targets.cancels).toBe(1);
    const done = gateway.said.flatMap((message) => (message.case === "cancelDone" ? [message.value] : []));
    expect(done.map(({ fault }) => fault)).toEqual([undefined, undefined]);
  });

  test("sends catalogs in pieces, or why not", async () => {
    const { gateway, agent } = await linked();
    gateway.send({ case: "readCatalog", value: { requestId: 1n, resource: "orders", database: "shop" } });
    await until(() => gateway.catalogs.length === 1);
    expect(JSON.parse(zstdDecompressSync(gateway.catalogs[0]!).toString())).toMatchObject({ epoch: "e" });
    agent.targets.fault = new GatewayError("catalog_unavailable", "The database's catalog could not be read.");
    gateway.send({ case: "readCatalog", value: { requestId: 2n, resource: "orders", database: "shop" } });
    gateway.send({ case: "readCatalog", value: { requestId: 3n, resource: "unknown", database: "shop" } });
    const failed = (): readonly unknown[] =>
      gateway.said.flatMap((message) => (message.case === "catalogFailed" ? [message.value.fault?.code] : []));
    await until(() => failed().length === 2);
    expect(new Set(failed())).toEqual(new Set(["catalog_unavailable", "resource_unknown"]));
  });

  test("is made again when it breaks; sessions go on meanwhile", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open();
    await open.answer;
    gateway.unlink();
    await until(() => gateway.links === 2);
    expect(await echo(open.socket, "still here")).toBe("still here");
    await until(() => gateway.idle.length >= 2);
    expect(await outcomeOf(gateway.open())).toHaveProperty("parameters");
    expect(agent.tunnel.status().sessions).toBe(2);
  });

  test("replaces what was taken, and keeps as many as wished", async () => {
    const { gateway } = await linked();
    await until(() => gateway.idle.length === 2);
    gateway.open();
    gateway.open();
    await until(() => gateway.idle.length === 2);
    gateway.send({ case: "keepWarm", value: { connections: 6 } });
    await until(() => gateway.idle.length === 6);
  });

  test("does not flood a gateway that drops idle connections at once", async () => {
    const { gateway } = await linked({ keepWarm: 0 });
    let dropped = 0;
    const drop = setInterval(() => {
      for (const socket of gateway.idle.splice(0)) {
        dropped += 1;
        socket.destroy();
      }
    }, 1);
    gateway.send({ case: "keepWarm", value: { connections: 4 } });
    await new Promise((resolve) => setTimeout(resolve, 700));
    clearInterval(drop);
    expect(dropped).toBeGreaterThan(0);
    expect(dropped).toBeLessThan(40);
  });

  test("tells of new resources at once", async () => {
    const { gateway, agent } = await linked();
    agent.sequence = 8n;
    agent.tunnel.resourcesChanged();
    await until(() => healths(gateway).at(-1)?.snapshotSequence === 8n);
  });
});

describe("links", () => {
  test("go to the nearest, leave the one that drains, and come on demand", async () => {
    const gateways = await Promise.all(["g1", "g2", "g3"].map((name) => startGateway(name)));
    const agent = await startAgent({ nearest: 2 });
    const linkedTo = (): readonly string[] =>
      agent.tunnel
        .status()
        .links.map(({ name }) => name)
        .toSorted();
    agent.directory = gateways.map((gateway) => gateway.node());
    await until(() => linkedTo().length === 2);
    const [first] = linkedTo();
    const third = gateways.find(({ name }) => !linkedTo().includes(name))!;
    agent.directory = gateways.map((gateway) => gateway.node({ draining: gateway.name === first }));
    await until(() => linkedTo().includes(third.name) && !linkedTo().includes(first!), 4_000);
    agent.directory = gateways.map((gateway) => gateway.node());
    agent.tunnel.dialGateway(first!);
    await until(() => linkedTo().length === 3);
    expect(agent.tunnel.status().links.every(({ roundTripUs }) => roundTripUs > 0)).toBe(true);
  });

  test("a link that is left stays for its sessions, and opens no new ones", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open();
    await open.answer;
    agent.directory = [gateway.node({ draining: true })];
    await until(() => healths(gateway).at(-1)?.draining === true);
    expect(await echo(open.socket, "going on")).toBe("going on");
    gateway.send({ case: "cancel", value: { openId: open.openId, cancelId: 5n } });
    await until(() => agent.targets.cancels === 1);
    open.socket.destroy();
    await until(() => agent.tunnel.status().links.length === 0, 4_000);
  });

  test("a gateway that comes back at another address is dialled there", async () => {
    const { gateway, agent, gatewayIdentity } = await linked();
    await gateway.kill();
    const other = await FakeGateway.start({ identity: gatewayIdentity });
    ends.push(() => other.kill());
    agent.directory = [other.node()];
    await until(() => other.links === 1);
    await until(() => other.idle.length === 2);
    expect(await outcomeOf(other.open())).toHaveProperty("parameters");
  });

  test("a gateway that is killed takes its sessions with it", async () => {
    const { gateway, agent } = await linked();
    const open = gateway.open();
    await open.answer;
    await gateway.kill();
    await until(() => agent.targets.opened[0]?.destroyed === true && agent.tunnel.status().sessions === 0);
    await until(() => agent.tunnel.status().links.length === 0);
  });

  test("a gateway that went silent without closing anything is noticed, and dialled again when it is back", async () => {
    const gateway = await startGateway("g1");
    const { address, freeze, thaw } = await startProxy(gateway.node().addresses.control ?? "");
    const agent = await startAgent({ limits: { nodeKeepaliveMs: 200, nodeKeepaliveTimeoutMs: 200 } });
    const node = gateway.node();
    agent.directory = [{ ...node, addresses: { ...node.addresses, control: address } }];
    await until(() => agent.tunnel.status().links.length === 1);
    freeze();
    await until(() => agent.tunnel.status().links.length === 0);
    thaw();
    await until(() => agent.tunnel.status().links.length === 1, 6_000);
  }, 15_000);

  test("a gateway that does not welcome the agent is given up and dialled again", async () => {
    const { gateway } = await linked({ capability: 0 }, { limits: { agentHelloTimeoutMs: 200 } }, false);
    await until(() => gateway.links === 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(gateway.links).toBe(1); // incompatible: no hurry
  });
});

describe("draining", () => {
  test("tells gateways, opens nothing more, and waits for what runs", async () => {
    const { gateway, agent } = await linked({}, { limits: { drainTimeoutMs: 5_000 } });
    const open = gateway.open();
    await open.answer;
    let done = false;
    const draining = agent.tunnel.drain().then(() => {
      done = true;
    });
    await until(() => healths(gateway).at(-1)?.draining === true);
    expect(await outcomeOf(gateway.open())).toMatchObject({ code: "draining" });
    expect(await echo(open.socket, "finish this")).toBe("finish this");
    expect(done).toBe(false);
    open.socket.destroy();
    await draining;
  });

  test("ends after its time, and closing cuts the rest", async () => {
    const { gateway, agent } = await linked({}, { limits: { drainTimeoutMs: 100 } });
    const open = gateway.open();
    await open.answer;
    open.socket.resume();
    await agent.tunnel.drain();
    expect(open.socket.destroyed).toBe(false);
    const closed = once(open.socket, "close");
    await agent.close();
    ends.pop();
    await closed;
  });
});

async function linked(
  gatewayOptions: Partial<FakeGatewayOptions> & { readonly labels?: Readonly<Record<string, string>> } = {},
  agentOptions: ConstructorParameters<typeof TunnelHarness>[1] = {},
  ready = true,
): Promise<{
  gateway: FakeGateway;
  agent: TunnelHarness;
  identity: Awaited<ReturnType<typeof testIdentity>>;
  gatewayIdentity: Awaited<ReturnType<typeof testIdentity>>;
}> {
  const gatewayIdentity = await testIdentity("gateway", "g1", gatewayOptions.labels ?? {}, authority);
  const gateway = await FakeGateway.start({ identity: gatewayIdentity, ...gatewayOptions });
  ends.push(() => gateway.kill());
  const identity = await testIdentity("agent", "a1", { region: "eu" }, authority);
  const agent = new TunnelHarness(identity, agentOptions);
  ends.push(() => agent.close());
  agent.directory = [gateway.node()];
  await until(() => gateway.links === 1);
  if (ready) await until(() => gateway.idle.length >= (gatewayOptions.keepWarm ?? 2) && healths(gateway).length > 0);
  return { gateway, agent, identity, gatewayIdentity };
}

async function startGateway(name: string): Promise<FakeGateway> {
  const gateway = await FakeGateway.start({ identity: await testIdentity("gateway", name, {}, authority) });
  ends.push(() => gateway.kill());
  return gateway;
}

async function startAgent(options: ConstructorParameters<typeof TunnelHarness>[1]): Promise<TunnelHarness> {
  const agent = new TunnelHarness(await testIdentity("agent", "a1", {}, authority), options);
  ends.push(() => agent.close());
  return agent;
}

/** Between agent and gateway; frozen, it takes connections and bytes and passes nothing on. */
async function startProxy(to: string): Promise<{ address: string; freeze: () => void; thaw: () => void }> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let frozen = false;
  const server = createServer((socket) => {
    const other = connect(Number(to.split(":")[1]), "127.0.0.1");
    const pair = [socket, other] as const;
    pairs.add(pair);
    for (const [from, into] of [pair, [other, socket] as const]) {
      from.on("error", () => undefined).on("close", () => into.destroy());
      from.on("data", (chunk: Buffer) => void (frozen || into.write(chunk)));
    }
    socket.once("close", () => pairs.delete(pair));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(async () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy();
    server.close();
    await once(server, "close");
  });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    freeze: () => void (frozen = true),
    thaw: () => void (frozen = false),
  };
}

async function outcomeOf(open: FakeOpen): Promise<unknown> {
  return (await open.answer)?.value.outcome.value;
}

async function expectRefused(agent: TunnelHarness, open: FakeOpen, why: RegExp, refused = 1): Promise<void> {
  expect(await outcomeOf(open)).toMatchObject({ code: "unauthorized", message: expect.stringMatching(why) as string });
  await until(() => agent.tunnel.refusedOpens === refused);
  open.socket.resume();
  await until(() => open.socket.destroyed);
  expect(agent.logged.some((line) => line.includes("open refused"))).toBe(true);
}

/** What was sent before has been acted upon. */
async function settled(gateway: FakeGateway): Promise<void> {
  const cancelId = BigInt(gateway.said.length + 1_000);
  gateway.send({ case: "cancel", value: { openId: 0n, cancelId } });
  await until(() => gateway.said.some((message) => message.case === "cancelDone" && message.value.cancelId === cancelId));
}

function healths(gateway: FakeGateway): readonly { readonly draining: boolean; readonly snapshotSequence: bigint }[] {
  return gateway.said.flatMap((message) => (message.case === "health" ? [message.value] : []));
}

async function echo(socket: TLSSocket, text: string): Promise<string> {
  let received = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onData = (chunk: Buffer): void => {
    received += chunk.toString();
    if (received.length >= text.length) resolve();
  };
  const onClose = (): void => reject(new Error("closed"));
  socket.on("data", onData).once("close", onClose);
  socket.resume();
  socket.write(text);
  await promise;
  socket.pause();
  socket.off("data", onData).off("close", onClose);
  return received;
}

/** False when nothing moves for a while. */
async function drained(socket: TLSSocket): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), 300);
  socket.once("drain", () => resolve(true));
  const moved = await promise;
  clearTimeout(timer);
  return moved;
}

async function until(holds: () => boolean, timeout = 3_000): Promise<void> {
  await vi.waitUntil(holds, { timeout, interval: 5 });
}
