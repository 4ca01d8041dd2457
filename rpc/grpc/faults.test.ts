/**
 * What goes wrong between nodes: certificates that change or end, peers that fall silent, callers that do not read. Real sockets.
 * Long because each fault is shown whole, and all need the same servers, channels and wires.
 */
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { GatewayError } from "@sluice/core/errors.ts";
import { EnrolmentService } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import { AgentLinkService } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { GatewayPeerService } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { GrpcChannel, GrpcServer, ServedService } from "../grpc.ts";
import type { LiveIdentity } from "../identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "../testing.ts";
import { dialForEnrolment, dialGrpc } from "./channel.ts";
import { implement, type RpcLimits, serveGrpc } from "./server.ts";

const log = pino({ level: "silent" });
const messageBytesMax = 1024 * 1024;
const brisk = { nodeKeepaliveMs: 200, nodeKeepaliveTimeoutMs: 200, nodeConnectTimeoutMs: 400 };
const { cancel } = GatewayPeerService.method;
/** What these tests do not call. */
const unused = { markCatalog: async () => ({}), openMarks: async () => ({}) } as const;
const { replay } = RecordingService.method;
const { link } = AgentLinkService.method;
let authority: TestAuthority;
let gateway: LiveIdentity;
let agent: LiveIdentity;
const endings: (() => unknown)[] = [];

beforeEach(async () => {
  authority = await makeTestAuthority();
  gateway = await testIdentity("gateway", "g1", {}, authority);
  agent = await testIdentity("agent", "a1", {}, authority);
});

afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
});

async function serve(services: readonly ServedService[], limits: Partial<RpcLimits> = {}): Promise<GrpcServer> {
  const listen = { host: "127.0.0.1", port: 0 };
  const server = await serveGrpc({ listen, services, messageBytesMax, identity: gateway, log, limits });
  endings.push(() => server.close(0));
  return server;
}

function dial(address: string, identity: LiveIdentity = agent, limits: Partial<RpcLimits> = {}): GrpcChannel {
  const channel = dialGrpc({ address, role: "gateway", name: "g1" }, { identity, log, messageBytesMax, limits });
  endings.push(() => channel.close());
  return channel;
}

async function failure(call: Promise<unknown>): Promise<GatewayError> {
  const error: unknown = await call.then(
    () => "no error",
    (thrown: unknown) => thrown,
  );
  if (error instanceof GatewayError) return error;
  throw new Error(`not a GatewayError: ${String(error)}`);
}

async function drain(items: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of items) count += 1;
  return count;
}

/** Streams until it is stopped; counts what it knows of its callers. */
function endless(
  roles: ServedService["roles"] = ["agent"],
): ServedService & { readonly seen: { open: number; aborted: number } } {
  const seen = { open: 0, aborted: 0 };
  const service = implement(
    RecordingService,
    {
      verify: async () => ({}),
      async *replay(_, { signal }) {
        seen.open += 1;
        signal.addEventListener("abort", () => (seen.aborted += 1));
        yield { items: ["first"] };
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      },
    },
    roles,
  );
  return { ...service, seen };
}

/** A wire that can fall silent without being closed. */
async function proxyTo(address: string): Promise<{ readonly address: string; swallow: boolean; readonly sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const proxy = createTcpServer((near) => {
    const far = connectTcp(port, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (chunk: Buffer) => void (state.swallow || to.write(chunk)));
      from.on("error", () => undefined);
      from.on("close", () => {
        sockets.delete(from);
        if (!state.swallow) to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  endings.push(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const state = { address: `127.0.0.1:${(proxy.address() as AddressInfo).port}`, swallow: false, sockets }; // TCP, so not a path
  return state;
}

it("ends the streams of a caller that is revoked while they run, and refuses its next call", async () => {
  const service = endless();
  const server = await serve([service]);
  const other = await testIdentity("agent", "a2", {}, authority);
  const signal = new AbortController().signal;
  const ended = failure(drain(dial(server.address).serverStream(replay, {}, { signal })));
  const staying = dial(server.address, other).serverStream(replay, {}, { signal })[Symbol.asyncIterator]();
  expect((await staying.next()).value?.items).toEqual(["first"]);
  await vi.waitFor(() => expect(service.seen.open).toBe(2));
  gateway.trust(authority.trust([agent.self.serial]));
  expect(await ended).toMatchObject({
    code: "unauthorized",
    message: "The certificate was revoked.",
    detail: { reason: "revoked" },
  });
  expect(service.seen).toEqual({ open: 2, aborted: 1 });
  const again = await failure(drain(dial(server.address).serverStream(replay, {}, { signal })));
  expect(["node_unreachable", "unauthorized"]).toContain(again.code);
  expect(service.seen).toEqual({ open: 2, aborted: 1 });
});

it("cuts a connection to a server that is revoked, and does not come back to it", async () => {
  const service = endless();
  const server = await serve([service]);
  const channel = dial(server.address);
  const signal = new AbortController().signal;
  const ended = failure(drain(channel.serverStream(replay, {}, { signal })));
  await vi.waitFor(() => expect(service.seen.open).toBe(1));
  agent.trust(authority.trust([gateway.self.serial]));
  expect((await ended).code).toBe("node_unreachable");
  const refused = await failure(drain(channel.serverStream(replay, {}, { signal })));
  expect(refused).toMatchObject({ code: "unauthorized", message: expect.stringContaining("its certificate was revoked") });
  expect(service.seen.open).toBe(1);
});

it("ends a stream with the certificate that it was opened with", async () => {
  const service = endless();
  const server = await serve([service]);
  agent.replace(await authority.issue({ role: "agent", name: "a1", notAfterMs: Date.now() + 2_000 }));
  const signal = new AbortController().signal;
  const ended = failure(drain(dial(server.address).serverStream(replay, {}, { signal })));
  await vi.waitFor(() => expect(service.seen.open).toBe(1));
  expect(await ended).toMatchObject({ code: "unauthorized", message: "The certificate has expired." });
});

it("dials nobody but whom it was told to", async () => {
  const server = await serve([endless()]);
  const signal = new AbortController().signal;
  const wrongName = dialGrpc({ address: server.address, role: "gateway", name: "g2" }, { identity: agent, log, messageBytesMax });
  const wrongRole = dialGrpc(
    { address: server.address, role: "control-plane", name: "" },
    { identity: agent, log, messageBytesMax },
  );
  endings.push(() => (wrongName.close(), wrongRole.close()));
  for (const channel of [wrongName, wrongRole]) {
    expect(await failure(drain(channel.serverStream(replay, {}, { signal })))).toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining("its certificate is of the gateway g1"),
    });
  }
});

it("renews certificates and authorities on both sides under load without a failed call", async () => {
  const service = implement(GatewayPeerService, { ...unused, cancel: async () => ({}) }, ["agent"]);
  const server = await serve([service]);
  const channel = dial(server.address);
  const serials = new Set<string>();
  let calls = 0;
  const stop = new AbortController();
  const load = Array.from({ length: 8 }, async () => {
    while (!stop.signal.aborted) {
      await channel.unary(cancel, {}, { deadlineMs: 5_000 });
      calls += 1;
    }
  });
  const second = await makeTestAuthority("Second");
  const both = { authorities: [second.certificate, authority.certificate], revokedSerials: new Set<string>() };
  for (const step of [
    () => [gateway, agent].map((node) => node.trust(both)),
    async () =>
      gateway.replace({ ...(await second.issue({ role: "gateway", name: "g1" })), authorities: gateway.material.authorities }),
    async () =>
      agent.replace({ ...(await second.issue({ role: "agent", name: "a1" })), authorities: agent.material.authorities }),
    async () =>
      gateway.replace({ ...(await second.issue({ role: "gateway", name: "g1" })), authorities: gateway.material.authorities }),
    async () =>
      agent.replace({ ...(await second.issue({ role: "agent", name: "a1" })), authorities: agent.material.authorities }),
    () => [gateway, agent].map((node) => node.trust(second.trust())),
  ]) {
    const before = calls;
    await step();
    serials.add(agent.self.serial);
    await vi.waitFor(() => expect(calls).toBeGreaterThan(before + 50), 5_000);
  }
  stop.abort();
  await Promise.all(load);
  expect(serials.size).toBe(3);
  // The former authority's certificates are of no use now.
  const former = await testIdentity("agent", "a2", {}, authority);
  former.trust(both);
  expect((await failure(dial(server.address, former).unary(cancel, {}, { deadlineMs: 2_000 }))).code).toBe("node_unreachable");
});

it("keeps a join token from whoever is not the pinned control plane: nothing of it crosses the wire", async () => {
  const foreign = await makeTestAuthority();
  const material = await foreign.issue({ role: "control-plane", name: "c1" });
  const received: Buffer[] = [];
  const trap = createTlsServer(
    { cert: material.certificateChain + foreign.certificate, key: material.privateKey, ALPNProtocols: ["h2"] },
    (socket) => socket.on("data", (chunk: Buffer) => received.push(chunk)).on("error", () => undefined),
  );
  await new Promise<void>((resolve) => trap.listen(0, "127.0.0.1", resolve));
  endings.push(() => trap.close());
  const address = `127.0.0.1:${(trap.address() as AddressInfo).port}`; // TCP, so not a path
  for (const trust of [
    { kind: "fingerprint", fingerprint: "ab".repeat(32) },
    { kind: "authorities", pem: authority.certificate },
  ] as const) {
    const channel = dialForEnrolment(address, { trust, nowMs: Date.now, log, messageBytesMax });
    endings.push(() => channel.close());
    const request = { credential: { case: "joinToken", value: "the-secret-token" } } as const;
    const error = await failure(channel.unary(EnrolmentService.method.enrol, request, { deadlineMs: 2_000 }));
    expect(error).toMatchObject({ code: "unauthorized", hint: expect.stringContaining("Nothing secret was sent") });
  }
  expect(Buffer.concat(received).toString("latin1")).not.toContain("the-secret-token");
  expect(Buffer.concat(received).length).toBe(0);
});

it("speaks TLS 1.3 alone, and only to whoever has a certificate", async () => {
  const server = await serve([endless()]);
  const port = Number(server.address.split(":")[1]);
  const { certificateChain: cert, privateKey: key, authorities: ca } = agent.material;
  const attempt = (options: object): Promise<string> =>
    new Promise((resolve) => {
      const socket = connectTls({
        host: "127.0.0.1",
        port,
        ca,
        servername: "g1.gateway.sluice.internal",
        ALPNProtocols: ["h2"],
        ...options,
      });
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      // With TLS 1.3 a server's refusal of the client's certificate comes after the client's half of the handshake.
      socket.on("data", () => resolve("data"));
      socket.on("close", () => resolve("closed"));
      endings.push(() => socket.destroy());
    });
  expect(await attempt({ cert, key })).toBe("data");
  expect(await attempt({ cert, key, maxVersion: "TLSv1.2" })).toBe("ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");
  expect(await attempt({})).toBe("ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED");
  expect(await attempt({ cert, key, ALPNProtocols: ["http/1.1"] })).toBe("ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL");
});

it("lets no node take the room of others", async () => {
  const server = await serve([implement(GatewayPeerService, { ...unused, cancel: async () => ({}) }, ["agent"])]);
  const { certificateChain: cert, privateKey: key, authorities: ca } = agent.material;
  const port = Number(server.address.split(":")[1]);
  const greedy = Array.from({ length: 100 }, () => {
    const socket = connectTls({
      host: "127.0.0.1",
      port,
      servername: "g1.gateway.sluice.internal",
      cert,
      key,
      ca,
      ALPNProtocols: ["h2"],
    });
    endings.push(() => socket.destroy());
    return socket.on("error", () => undefined).resume();
  });
  const open = (): number => greedy.filter((socket) => !socket.destroyed).length;
  await vi.waitFor(() => expect(open()).toBe(64), 5_000);
  expect((await failure(dial(server.address).unary(cancel, {}, { deadlineMs: 500 }))).code).toBe("node_unreachable");
  const other = await testIdentity("agent", "a2", {}, authority);
  await dial(server.address, other).unary(cancel, {}, { deadlineMs: 2_000 });
  // Those that it gives back it may have again.
  for (const socket of greedy) socket.destroy();
  await vi.waitFor(() => dial(server.address).unary(cancel, {}, { deadlineMs: 1_000 }), 5_000);
});

it("gives strangers little: no calls but the open ones, small messages, few connections, and not for long", async () => {
  const enrolment = implement(
    EnrolmentService,
    { enrol: async (_, { peer }) => ({ nowMs: peer === null ? 1n : 2n }), renew: async () => ({}) },
    null,
  );
  const limits = { unauthenticatedPerAddressMax: 2, nodeEnrolTimeoutMs: 300, nodeConnectTimeoutMs: 300 };
  gateway.replace(await authority.issue({ role: "control-plane", name: "c1" }));
  const server = await serve(
    [enrolment, implement(GatewayPeerService, { ...unused, cancel: async () => ({}) }, ["agent"])],
    limits,
  );
  const trust = { kind: "authorities", pem: authority.certificate } as const;
  const stranger = (): GrpcChannel => {
    const channel = dialForEnrolment(server.address, { trust, nowMs: Date.now, log, messageBytesMax });
    endings.push(() => channel.close());
    return channel;
  };
  const deadlineMs = 2_000;
  const { enrol } = EnrolmentService.method;
  const first = stranger();
  expect((await first.unary(enrol, {}, { deadlineMs })).nowMs).toBe(1n);
  expect(await failure(first.unary(cancel, {}, { deadlineMs }))).toMatchObject({
    code: "unauthorized",
    message: "This call needs the certificate of a node.",
  });
  const large = { certificateRequest: new Uint8Array(100_000) };
  expect((await failure(first.unary(enrol, large, { deadlineMs }))).code).toBe("frame_too_large");
  const second = stranger();
  await second.unary(enrol, {}, { deadlineMs });
  const third = stranger();
  expect((await failure(third.unary(enrol, {}, { deadlineMs: 200 }))).code).toBe("node_unreachable");
  third.close(); // it would go on trying to connect
  // Nodes find room all the same once they are known, however many there are.
  first.close();
  await vi.waitFor(async () => {
    const peer = { address: server.address, role: "control-plane", name: "" } as const;
    for (let node = 0; node < 4; node += 1) {
      const channel = dialGrpc(peer, { identity: agent, log, messageBytesMax });
      endings.push(() => channel.close());
      await channel.unary(cancel, {}, { deadlineMs });
    }
  }, 5_000);
  // The one that stayed has been cut, so that there is room again.
  await vi.waitFor(async () => {
    const [one, two] = [stranger(), stranger()];
    try {
      await one.unary(enrol, {}, { deadlineMs });
      await two.unary(enrol, {}, { deadlineMs });
    } finally {
      one.close();
      two.close();
    }
  }, 5_000);
});

it("listens and dials over IPv6 as well", async () => {
  const service = implement(GatewayPeerService, { ...unused, cancel: async () => ({}) }, ["agent"]);
  const server = await serveGrpc({
    listen: { host: "::1", port: 0 },
    services: [service],
    messageBytesMax,
    identity: gateway,
    log,
  });
  endings.push(() => server.close(0));
  expect(server.address).toMatch(/^\[::1\]:\d+$/);
  expect(await dial(server.address).unary(cancel, {}, { deadlineMs: 2_000 })).toMatchObject({});
});

it("notices on both sides that the wire has fallen silent", async () => {
  const service = endless();
  const server = await serve([service], brisk);
  const wire = await proxyTo(server.address);
  const channel = dial(wire.address, agent, brisk);
  const signal = new AbortController().signal;
  const ended = failure(drain(channel.serverStream(replay, {}, { signal })));
  await vi.waitFor(() => expect(service.seen.open).toBe(1));
  wire.swallow = true;
  const startedAt = performance.now();
  expect((await ended).code).toBe("node_unreachable");
  await vi.waitFor(() => expect(service.seen.aborted).toBe(1));
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  // Not even a handshake comes through now.
  expect((await failure(drain(channel.serverStream(replay, {}, { signal })))).code).toBe("node_unreachable");
  wire.swallow = false;
  await vi.waitFor(async () => {
    const stream = channel.serverStream(replay, {}, { signal })[Symbol.asyncIterator]();
    expect((await stream.next()).value?.items).toEqual(["first"]);
  }, 5_000);
});

it("leaves no connection behind when a peer takes it and never answers", async () => {
  const sockets = new Set<Socket>();
  const mute = createTcpServer((socket) => {
    sockets.add(socket);
    socket
      .on("close", () => sockets.delete(socket))
      .on("error", () => undefined)
      .resume();
  });
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
  endings.push(() => mute.close());
  const channel = dial(`127.0.0.1:${(mute.address() as AddressInfo).port}`, agent, brisk); // TCP, so not a path
  const error = await failure(channel.unary(cancel, {}, { deadlineMs: 1_500 }));
  expect(error.code).toBe("node_unreachable");
  await vi.waitFor(() => expect(sockets.size).toBeLessThanOrEqual(1), 3_000);
  channel.close();
  await vi.waitFor(() => expect(sockets.size).toBe(0), 3_000);
});

it("keeps to deadlines, and tells the handler that nobody waits any longer", async () => {
  let aborted = 0;
  const server = await serve([
    implement(
      GatewayPeerService,
      {
        ...unused,
        cancel: async (_, { signal }) => {
          signal.addEventListener("abort", () => (aborted += 1));
          await sleep(60_000, undefined, { signal }).catch(() => undefined);
          return {};
        },
      },
      ["agent"],
    ),
  ]);
  const channel = dial(server.address);
  const startedAt = performance.now();
  const error = await failure(channel.unary(cancel, {}, { deadlineMs: 200, idempotent: true }));
  expect(error).toMatchObject({ code: "node_unreachable", message: expect.stringContaining("did not answer in time") });
  expect(performance.now() - startedAt).toBeLessThan(1_500);
  await vi.waitFor(() => expect(aborted).toBe(1));
  const stop = new AbortController();
  const call = failure(channel.unary(cancel, {}, { deadlineMs: 10_000, signal: stop.signal }));
  setTimeout(() => stop.abort(), 50);
  expect(await call).toMatchObject({ code: "node_unreachable", message: expect.stringContaining("given up") });
});

it("tries again only what is idempotent, and never what the peer itself refused", async () => {
  let attempts = 0;
  let answer: () => Promise<object> = async () => ({});
  const service = implement(GatewayPeerService, { ...unused, cancel: () => ((attempts += 1), answer()) }, ["agent"]);
  const server = await serve([service]);
  const wire = await proxyTo(server.address);
  const channel = dial(wire.address);
  // The connection breaks while the handler runs: what it did is unknown.
  answer = async () => {
    for (const socket of wire.sockets) socket.destroy();
    await sleep(20);
    return {};
  };
  expect((await failure(channel.unary(cancel, {}, { deadlineMs: 5_000 }))).code).toBe("node_unreachable");
  expect(attempts).toBe(1);
  attempts = 0;
  expect((await failure(channel.unary(cancel, {}, { deadlineMs: 5_000, idempotent: true }))).code).toBe("node_unreachable");
  expect(attempts).toBe(3);
  attempts = 0;
  answer = async () => {
    throw new GatewayError("draining", "Not now.");
  };
  await vi.waitFor(async () => {
    expect(await failure(channel.unary(cancel, {}, { deadlineMs: 5_000, idempotent: true }))).toMatchObject({ code: "draining" });
  }, 5_000);
  expect(attempts).toBe(1);
});

it("bounds what waits for a peer that does not read, in both directions", async () => {
  let made = 0;
  const server = await serve([
    implement(
      AgentLinkService,
      {
        async *link(requests, { signal }) {
          // Reads nothing at first, and says much.
          while (made < 5_000 && !signal.aborted) {
            made += 1;
            yield { message: { case: "open", value: { ticket: new Uint8Array(10_000) } } };
          }
          for await (const _ of requests) void _;
        },
        sendCatalog: async () => ({}),
      },
      ["agent"],
    ),
  ]);
  const channel = dial(server.address, agent, { nodeSendQueueMax: 10_000, nodeSendQueueBytesMax: 500_000 });
  const stop = new AbortController();
  const call = channel.duplex(link, { signal: stop.signal });
  let sent = 0;
  const message = { message: { case: "hello", value: { region: "x".repeat(10_000) } } } as const;
  await vi.waitFor(() => {
    while (sent < 5_000 && call.send(message)) sent += 1;
    expect(call.send(message)).toBe(false);
  }, 5_000);
  // What the wire and the windows hold comes on top of the queue.
  await sleep(200);
  while (sent < 5_000 && call.send(message)) sent += 1;
  expect(sent).toBeLessThan(600);
  expect(made).toBeLessThan(2_000);
  const reading = drain(call.received).catch(() => 0);
  await vi.waitFor(() => expect(made).toBe(5_000), 10_000);
  await vi.waitFor(() => expect(call.send(message)).toBe(true), 5_000);
  stop.abort();
  await reading;
});

it("refuses messages above the limit with a sentence", async () => {
  const server = await serve([implement(GatewayPeerService, { ...unused, cancel: async () => ({}) }, ["agent"])]);
  const channel = dialGrpc(
    { address: server.address, role: "gateway", name: "g1" },
    { identity: agent, log, messageBytesMax: 10 * messageBytesMax },
  );
  endings.push(() => channel.close());
  const error = await failure(channel.unary(cancel, { secret: new Uint8Array(2 * messageBytesMax) }, { deadlineMs: 5_000 }));
  expect(error).toMatchObject({ code: "frame_too_large", hint: expect.stringContaining("nodeMessageBytesMax") });
});

it("closes in good order: calls finish, streams end with a reason, and nobody is kept waiting", async () => {
  const service = endless();
  const finish: (() => void)[] = [];
  const slow = implement(
    GatewayPeerService,
    { ...unused, cancel: () => new Promise((resolve) => finish.push(() => resolve({}))) },
    ["agent"],
  );
  const server = await serve([service, slow]);
  const channel = dial(server.address);
  const signal = new AbortController().signal;
  const stream = failure(drain(channel.serverStream(replay, {}, { signal })));
  const call = channel.unary(cancel, {}, { deadlineMs: 5_000 });
  await vi.waitFor(() => expect([service.seen.open, finish.length]).toEqual([1, 1]));
  const closed = server.close(5_000);
  expect(await stream).toMatchObject({ code: "draining" });
  finish[0]?.();
  await call;
  const startedAt = performance.now();
  await closed;
  expect(performance.now() - startedAt).toBeLessThan(1_000);
  expect((await failure(channel.unary(cancel, {}, { deadlineMs: 1_000 }))).code).toBe("node_unreachable");
});

it("closes after its grace whatever a handler does", async () => {
  const slow = implement(GatewayPeerService, { ...unused, cancel: () => new Promise(() => undefined) }, ["agent"]);
  const server = await serve([slow]);
  const call = failure(dial(server.address).unary(cancel, {}, { deadlineMs: 10_000 }));
  await sleep(200);
  const startedAt = performance.now();
  await server.close(100);
  expect(performance.now() - startedAt).toBeLessThan(1_500);
  expect(["node_unreachable", "draining"]).toContain((await call).code);
});

it("says that its address is taken", async () => {
  const server = await serve([endless()]);
  const port = Number(server.address.split(":")[1]);
  const again = serveGrpc({
    listen: { host: "127.0.0.1", port },
    services: [endless()],
    messageBytesMax,
    identity: gateway,
    log,
  });
  expect(await failure(again)).toMatchObject({ code: "config_invalid", message: expect.stringContaining(String(port)) });
});
