/** Sessions over real links: which agent they go to, what binds them, and what happens when an agent is not what it should be. */
import { once } from "node:events";
import { GatewayError } from "@sluice/core/errors.ts";
import { isTicketProof, ticketProof } from "@sluice/rpc/ticket.ts";
import { testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, describe, expect, it } from "vitest";
import { exporterOf, type OpenOutcome } from "./fake-agent.ts";
import { codeOf, echoed, LinksHarness, resource, until } from "./links-harness.ts";

const eu = { region: "eu" };
let harness: LinksHarness;

afterEach(async () => {
  await harness.close();
});

describe("a session", () => {
  it("is the target's bytes in both directions, from the first one on", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1", {
      labels: eu,
      onOpen: () => ({
        parameters: [
          ["server_version", "17.0"],
          ["TimeZone", "UTC"],
        ],
      }),
      serve: (socket) => {
        socket.write("first");
        socket.pipe(socket);
      },
    });
    const target = await harness.open({ resource: resource(eu), account: "readOnly" });
    expect(target.parameters).toEqual([
      ["server_version", "17.0"],
      ["TimeZone", "UTC"],
    ]);
    expect(target.stream.readableFlowing).toBe(false);
    expect(target.stream.listenerCount("data")).toBe(0);
    expect(await echoed(target.stream, "SELECT")).toBe("firstSELECT");
    const { ticket, $typeName, ...announced } = agent.opens[0]!;
    expect(ticket).toHaveLength(32);
    expect($typeName).toBe("sluice.link.v1.Open");
    expect(announced).toEqual({
      openId: 1n,
      sessionId: "s-1",
      resource: "orders",
      database: "orders",
      account: "readOnly",
      startup: { application_name: "test" },
    });
    expect(harness.links.links()).toMatchObject([{ name: "a1", sessions: 1, region: "here", capability: 2, draining: false }]);
    target.stream.destroy();
    await until(() => harness.links.links()[0]?.sessions === 0);
  });

  it("is bound by a ticket of its own, which proves nothing on any other connection", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1");
    await harness.open();
    await harness.open();
    const [first, second] = agent.opens;
    expect(first!.openId).not.toBe(second!.openId);
    expect(Buffer.from(first!.ticket)).not.toEqual(Buffer.from(second!.ticket));
    // What the gateway proved to be on one connection, a thief would have to prove on his.
    const [own, other] = [agent.sessions.get(first!.openId)!, agent.sessions.get(second!.openId)!];
    const { sessionId, database, account, openId, ticket } = first!;
    const claims = { agent: "a1", gateway: "g1", sessionId, resource: "orders", database, account, openId };
    const proof = ticketProof(ticket, exporterOf(own), claims);
    expect(isTicketProof(proof, ticket, exporterOf(own), claims)).toBe(true);
    expect(isTicketProof(proof, ticket, exporterOf(other), claims)).toBe(false);
    expect(isTicketProof(proof, ticket, exporterOf(own), { ...claims, gateway: "g2" })).toBe(false);
  });

  it("is read and written no faster than the other side reads and writes", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1", { serve: (socket) => void socket.pause() });
    const target = await harness.open();
    const block = Buffer.alloc(64 * 1024, 120);
    const blocks = 512;
    const socket = agent.sessions.get(1n)!;
    const totals = { toTarget: 0, toGateway: 0 };
    target.stream.on("data", (chunk: Buffer) => void (totals.toGateway += chunk.length));
    socket.on("data", (chunk: Buffer) => void (totals.toTarget += chunk.length));
    for (const [from, to, total] of [
      [target.stream, socket, "toTarget"],
      [socket, target.stream, "toGateway"],
    ] as const) {
      to.pause();
      let sent = 0;
      const write = (): void => {
        while (sent < blocks) {
          sent += 1;
          if (!from.write(block)) return;
        }
      };
      from.on("drain", write);
      write();
      // Until it has stopped: buffers of both kernels are full, and those of both processes hold little.
      for (let before = -1; before !== sent; ) {
        before = sent;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      expect(sent).toBeLessThan(blocks);
      expect(to.readableLength).toBeLessThan(1024 * 1024);
      expect(from.writableLength).toBeLessThan(1024 * 1024);
      to.resume();
      await until(() => totals[total] === blocks * block.length);
    }
  });

  it("goes on when the agent's control stream ends, and no other begins", async () => {
    harness = await LinksHarness.start({ agentWaitMs: 50 });
    const agent = await harness.agent("a1");
    const target = await harness.open();
    agent.unlink();
    await until(() => harness.links.links().length === 0);
    expect(await echoed(target.stream, "still here")).toBe("still here");
    expect(await codeOf(target.cancel())).toBe("agent_unavailable");
    expect(await codeOf(harness.open())).toBe("agent_unavailable");
    await until(() => agent.idle.size === 0);
  });

  it("ends when its agent is killed", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1");
    const target = await harness.open();
    target.stream.resume();
    agent.kill();
    await once(target.stream, "close");
  });

  it("ends when its agent's certificate is withdrawn", async () => {
    harness = await LinksHarness.start({ agentWaitMs: 50 });
    const identity = await testIdentity("agent", "a1", {}, harness.authority);
    const agent = await harness.agent("a1", { identity });
    const target = await harness.open();
    target.stream.resume();
    const closed = once(target.stream, "close");
    harness.identity.trust(harness.authority.trust([identity.self.serial]));
    await closed;
    await agent.ended;
    expect(harness.links.links()).toEqual([]);
    expect(await codeOf(harness.open())).toBe("agent_unavailable");
  });

  it("ends with its agent's revocation also when it began with an earlier certificate, which no list names any more", async () => {
    harness = await LinksHarness.start({ agentWaitMs: 50 });
    const before = await harness.agent("a1");
    const target = await harness.open();
    target.stream.resume();
    const renewed = await testIdentity("agent", "a1", {}, harness.authority);
    before.unlink();
    await before.ended;
    await harness.agent("a1", { identity: renewed });
    expect(target.stream.destroyed).toBe(false);
    const closed = once(target.stream, "close");
    harness.identity.trust(harness.authority.trust([renewed.self.serial]));
    await closed;
  });
});

describe("the choice of an agent", () => {
  it("takes only agents whose certificate carries the resource's labels", async () => {
    harness = await LinksHarness.start({ agentWaitMs: 50 });
    const without = await harness.agent("a1", { labels: { region: "us", other: "eu" } });
    expect(await codeOf(harness.open({ resource: resource(eu) }))).toBe("agent_unavailable");
    expect(without.opens).toEqual([]);
    expect(harness.wanted).toEqual(["orders"]);
    const carrying = await harness.agent("a2", { labels: { ...eu, more: "1" } });
    await harness.open({ resource: resource(eu) });
    expect(carrying.opens).toHaveLength(1);
    expect(without.opens).toEqual([]);
  });

  it("says which agent is missing", async () => {
    harness = await LinksHarness.start({ agentWaitMs: 10 });
    const error = await harness.open({ resource: resource(eu) }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(GatewayError);
    expect(error).toMatchObject({
      code: "agent_unavailable",
      message: "No agent that reaches this database is connected to this gateway.",
    });
    expect((error as GatewayError).hint).toContain("region=eu");
  });

  it("spreads sessions evenly, and over those that carry fewer for other gateways", async () => {
    harness = await LinksHarness.start();
    const [a1, a2] = [await harness.agent("a1"), await harness.agent("a2")];
    await Promise.all(Array.from({ length: 10 }, () => harness.open()));
    expect([a1.opens.length, a2.opens.length]).toEqual([5, 5]);
    a1.health({ sessions: 25, draining: false, roundTripUs: 300, snapshotSequence: 1n });
    await until(() => harness.links.links()[0]?.roundTripUs === 300);
    await Promise.all(Array.from({ length: 10 }, () => harness.open()));
    expect([a1.opens.length, a2.opens.length]).toEqual([5, 15]);
  });

  it("leaves out agents that drain", async () => {
    harness = await LinksHarness.start();
    const [a1, a2] = [await harness.agent("a1"), await harness.agent("a2")];
    a1.health({ sessions: 0, draining: true, roundTripUs: 0, snapshotSequence: 1n });
    await until(() => harness.links.links()[0]?.draining === true);
    await Promise.all([harness.open(), harness.open()]);
    expect([a1.opens.length, a2.opens.length]).toEqual([0, 2]);
  });

  it("waits for an agent that was sent for", async () => {
    harness = await LinksHarness.start();
    const opening = harness.open();
    await until(() => harness.wanted.length > 0);
    await harness.agent("a1");
    expect(await echoed((await opening).stream, "late but there")).toBe("late but there");
    expect(harness.wanted).toEqual(["orders"]);
  });

  it.each<[string, OpenOutcome]>([
    ["refuses the binding", { code: "unauthorized", message: "The ticket was used before." }],
    ["is late for the ticket", { code: "unauthorized", message: "The ticket is too old." }],
    ["has a fault", { code: "internal", message: "" }],
    ["closes the connection", "close"],
    ["says what only a gateway may say", { code: "denied", message: "No." }],
  ])("passes over an agent that %s", async (_, outcome) => {
    harness = await LinksHarness.start();
    const bad = await harness.agent("a1", { onOpen: () => outcome });
    const good = await harness.agent("a2");
    await harness.open();
    await harness.open();
    expect(bad.opens.length).toBeGreaterThan(0);
    expect(good.opens).toHaveLength(2);
  });

  it.each(["target_unreachable", "target_auth_failed", "target_protocol", "secret_unavailable"])(
    "does not ask another agent when the target says %s",
    async (code) => {
      harness = await LinksHarness.start();
      const onOpen = (): OpenOutcome => ({ code, message: "A sentence.", hint: "What to do." });
      const agents = [await harness.agent("a1", { onOpen }), await harness.agent("a2", { onOpen })];
      await expect(harness.open()).rejects.toMatchObject({ code, message: "A sentence.", hint: "What to do." });
      expect(agents.map((agent) => agent.opens.length)).toEqual([1, 0]);
    },
  );

  it("fails over when an agent dies with the session half open", async () => {
    harness = await LinksHarness.start();
    const dying = await harness.agent("a1", {
      onOpen: (_, agent) => {
        agent.kill();
        return "silent";
      },
    });
    const other = await harness.agent("a2");
    await harness.open();
    expect([dying.opens.length, other.opens.length]).toEqual([1, 1]);
  });

  it("fails over when an agent dials no connection", async () => {
    harness = await LinksHarness.start({ warmConnectionWaitMs: 50 });
    const bare = await harness.agent("a1", { warm: 0 });
    const other = await harness.agent("a2");
    await harness.open();
    await until(() => bare.keepWarm.length > 0);
    expect([bare.opens.length, other.opens.length]).toEqual([0, 1]);
    expect(bare.keepWarm[0]).toBe(3);
  });

  it("waits for a connection of the only agent as long as the session does", async () => {
    harness = await LinksHarness.start({ warmConnectionWaitMs: 20 });
    const agent = await harness.agent("a1", { warm: 0 });
    const opening = harness.open();
    await new Promise((resolve) => setTimeout(resolve, 100));
    await agent.dial();
    expect(await echoed((await opening).stream, "at last")).toBe("at last");
    expect(await codeOf(harness.open({ signal: AbortSignal.timeout(50) }))).toBe("target_unreachable");
  });

  it("takes another connection of the only agent when one breaks, and gives up after some", async () => {
    harness = await LinksHarness.start({ agentWaitMs: 100 });
    let breaking = 2;
    const agent = await harness.agent("a1", { onOpen: () => (breaking-- > 0 ? "close" : { parameters: [] }) });
    await harness.open();
    expect(agent.opens).toHaveLength(3);
    breaking = 100;
    expect(await codeOf(harness.open())).toBe("agent_unavailable");
    expect(agent.opens).toHaveLength(6);
  });

  it("passes over an agent that says nothing, and does not choose it again while another is there", async () => {
    harness = await LinksHarness.start({ agentSilenceMs: 50 });
    const deaf = await harness.agent("a1", { onOpen: () => "silent" });
    const other = await harness.agent("a2");
    await harness.open();
    await Promise.all([harness.open(), harness.open(), harness.open()]);
    expect([deaf.opens.length, other.opens.length]).toEqual([1, 4]);
  });

  it("does not wait for ever for the only agent", async () => {
    harness = await LinksHarness.start({ agentSilenceMs: 20 });
    await harness.agent("a1", { onOpen: () => "silent" });
    const error = await harness.open({ signal: AbortSignal.timeout(100) }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "target_unreachable",
      message: "Neither the database nor the agent that reaches it answered in time.",
    });
  });

  it("says why the session was ended while it was being opened", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1", { onOpen: () => "silent" });
    const ending = new AbortController();
    const opening = harness.open({ signal: ending.signal });
    await until(() => agent.opens.length === 1);
    ending.abort(new GatewayError("killed", "Ended by an administrator."));
    await expect(opening).rejects.toMatchObject({ code: "killed", message: "Ended by an administrator." });
  });

  it("gives an agent whose declarations are older a moment", async () => {
    let sequence = 1n;
    harness = await LinksHarness.start({}, { snapshotSequence: () => 2n });
    const agent = await harness.agent("a1", {
      sequence,
      onOpen: (_, self) => {
        if (sequence === 2n) return { parameters: [] };
        sequence = 2n;
        setTimeout(() => self.health({ sessions: 0, draining: false, roundTripUs: 0, snapshotSequence: 2n }), 20);
        return { code: "resource_unknown", message: "It is not declared." };
      },
    });
    await harness.open();
    expect(agent.opens).toHaveLength(2);
  });

  it("asks another agent when the one that knows nothing of the resource is up to date", async () => {
    harness = await LinksHarness.start({ agentSnapshotWaitMs: 5_000 }, { snapshotSequence: () => 1n });
    const unknowing = await harness.agent("a1", { onOpen: () => ({ code: "resource_unknown", message: "" }) });
    const knowing = await harness.agent("a2");
    await harness.open();
    expect([unknowing.opens.length, knowing.opens.length]).toEqual([1, 1]);
  });

  it("refuses sessions above the bound for those that wait", async () => {
    harness = await LinksHarness.start({ agentOpensMax: 1 });
    const agent = await harness.agent("a1", { onOpen: () => "silent" });
    const first = codeOf(harness.open({ signal: AbortSignal.timeout(100) }));
    await until(() => agent.opens.length === 1);
    await expect(harness.open()).rejects.toMatchObject({ message: "Too many sessions are waiting for their database." });
    expect(await first).toBe("target_unreachable");
  });
});

describe("connections that wait", () => {
  it("are replaced when taken, and more of them when many sessions come at once", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1");
    await until(() => harness.links.links()[0]?.idleConnections === 2);
    const opened = await Promise.all(Array.from({ length: 100 }, () => harness.open()));
    expect(opened).toHaveLength(100);
    expect(Math.max(...agent.keepWarm)).toBe(64);
    await until(() => (harness.links.links()[0]?.idleConnections ?? 0) >= 2);
    expect(harness.links.links()[0]?.idleConnections).toBeLessThanOrEqual(64);
  });

  it("are not kept above the bound", async () => {
    harness = await LinksHarness.start({ warmConnectionsMax: 3 });
    const agent = await harness.agent("a1", { warm: 0 });
    const dialed = await Promise.all(Array.from({ length: 5 }, () => agent.dial()));
    await until(() => dialed.filter((socket) => socket.closed).length === 2);
    expect(harness.links.links()[0]?.idleConnections).toBe(3);
  });

  it("are closed when the agent speaks out of turn", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1", { warm: 1 });
    const [socket] = agent.idle;
    socket!.write("x");
    await once(socket!, "close");
    await harness.open();
  });

  it("end with the agent's link, also when a second one of the same agent takes its place", async () => {
    harness = await LinksHarness.start();
    const identity = await testIdentity("agent", "a1", {}, harness.authority);
    const former = await harness.agent("a1", { identity });
    const later = await harness.agent("a1", { identity });
    await former.ended;
    await until(() => former.idle.size === 0);
    await harness.open();
    expect([former.opens.length, later.opens.length]).toEqual([0, 1]);
    expect(harness.links.links()).toHaveLength(1);
  });
});

describe("a session that is over", () => {
  it("cancels through its agent", async () => {
    harness = await LinksHarness.start({ targetCancelTimeoutMs: 50 });
    let answer: "silent" | { code: string; message: string } | undefined;
    const agent = await harness.agent("a1", { onCancel: () => answer });
    const target = await harness.open();
    await target.cancel();
    expect(agent.cancelled).toEqual([1n]);
    answer = { code: "target_unreachable", message: "Gone." };
    expect(await codeOf(target.cancel())).toBe("target_unreachable");
    answer = "silent";
    expect(await codeOf(target.cancel())).toBe("agent_unavailable");
  });

  it("gives the target's connection back where that may be", async () => {
    harness = await LinksHarness.start();
    const agent = await harness.agent("a1");
    const target = await harness.open({ resource: resource(undefined, true) });
    const socket = agent.sessions.get(1n)!;
    const received: Buffer[] = [];
    socket.unpipe(socket);
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    socket.resume();
    const ended = once(socket, "end");
    target.stream.write("the last word");
    target.release?.();
    await ended;
    expect(Buffer.concat(received).toString()).toBe("the last word");
    await until(() => agent.released.length === 1);
    expect(agent.released).toEqual([1n]);
    await until(() => target.stream.destroyed);
  });

  it("does not give it back where the resource has no pool, or the agent is of an older version", async () => {
    harness = await LinksHarness.start();
    await harness.agent("a1", { capability: 1 });
    expect(harness.links.links()[0]?.capability).toBe(1);
    expect(await harness.open({ resource: resource(undefined, true) })).not.toHaveProperty("release");
    await harness.close();
    harness = await LinksHarness.start();
    await harness.agent("a1");
    expect(await harness.open()).not.toHaveProperty("release");
  });
});
