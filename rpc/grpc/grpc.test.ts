/** Real sockets, real TLS: what nodes call on each other arrives, and only from those who may. */
import { setTimeout as sleep } from "node:timers/promises";
import { GatewayError } from "@sluice/core/errors.ts";
import { EnrolmentService } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import { AgentLinkService } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { GatewayPeerService } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import { pino } from "pino";
import { afterEach, beforeAll, expect, it } from "vitest";
import type { CallContext, GrpcChannel, GrpcServer, ServedService } from "../grpc.ts";
import type { LiveIdentity } from "../identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "../testing.ts";
import { dialGrpc } from "./channel.ts";
import { implement, type RpcLimits, serveGrpc } from "./server.ts";

const log = pino({ level: "silent" });
const messageBytesMax = 1024 * 1024;
let authority: TestAuthority;
let gateway: LiveIdentity;
let agent: LiveIdentity;
const endings: (() => unknown)[] = [];

beforeAll(async () => {
  authority = await makeTestAuthority();
});

afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
});

async function serve(services: readonly ServedService[], limits: Partial<RpcLimits> = {}): Promise<GrpcServer> {
  gateway = await testIdentity("gateway", "g1", {}, authority);
  agent = await testIdentity("agent", "a1", { zone: "x" }, authority);
  const listen = { host: "127.0.0.1", port: 0 };
  const server = await serveGrpc({ listen, services, messageBytesMax, identity: gateway, log, limits });
  endings.push(() => server.close(100));
  return server;
}

function dial(server: GrpcServer, identity: LiveIdentity = agent, limits: Partial<RpcLimits> = {}): GrpcChannel {
  const peer = { address: server.address, role: "gateway", name: "g1" } as const;
  const channel = dialGrpc(peer, { identity, log, messageBytesMax, limits });
  endings.push(() => channel.close());
  return channel;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(
    () => "ok",
    (error: unknown) => (error instanceof GatewayError ? error.code : String(error)),
  );
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const { cancel } = GatewayPeerService.method;
/** What these tests do not call. */
const unused = { markCatalog: async () => ({}), openMarks: async () => ({}) } as const;
const { replay, verify } = RecordingService.method;
const { link, sendCatalog } = AgentLinkService.method;

it("carries the four kinds of calls, with the caller's certificate", async () => {
  const peers: (string | undefined)[] = [];
  const seen = (context: CallContext): void =>
    void peers.push(`${context.peer?.role} ${context.peer?.name} ${context.peer?.labels["zone"]}`);
  const server = await serve([
    implement(
      RecordingService,
      {
        verify: async ({ sessionId }, context) => {
          seen(context);
          expect(context.peerAddress).toMatch(/^127\.0\.0\.1:\d+$/);
          return { report: `report of ${sessionId}` };
        },
        async *replay({ sessionId }, context) {
          seen(context);
          for (let part = 0; part < 3; part += 1) yield { items: [`${sessionId} ${part}`] };
        },
      },
      ["agent"],
    ),
    implement(
      AgentLinkService,
      {
        async *link(requests, context) {
          seen(context);
          for await (const { message } of requests) {
            if (message.case === "cancelDone")
              yield { message: { case: "cancel", value: { openId: 7n, cancelId: message.value.cancelId } } };
          }
          yield { message: { case: "keepWarm", value: { connections: 1 } } };
        },
        sendCatalog: async (requests, context) => {
          seen(context);
          const pieces = await collect(requests);
          expect(pieces.map(({ piece }) => piece.length)).toEqual([1, 2, 300_000]);
          return {};
        },
      },
      ["agent"],
    ),
  ]);
  const channel = dial(server);
  const signal = new AbortController().signal;
  expect((await channel.unary(verify, { sessionId: "s" }, { deadlineMs: 5_000 })).report).toBe("report of s");
  const parts = await collect(channel.serverStream(replay, { sessionId: "r" }, { signal }));
  expect(parts.flatMap(({ items }) => items)).toEqual(["r 0", "r 1", "r 2"]);
  const both = channel.duplex(link, { signal });
  for (const cancelId of [1n, 2n]) expect(both.send({ message: { case: "cancelDone", value: { cancelId } } })).toBe(true);
  both.end();
  const answers = await collect(both.received);
  expect(answers.map(({ message }) => message.case)).toEqual(["cancel", "cancel", "keepWarm"]);
  async function* pieces(): AsyncGenerator<{ requestId: bigint; piece: Uint8Array }> {
    for (const length of [1, 2, 300_000]) yield { requestId: 1n, piece: new Uint8Array(length) };
  }
  await channel.clientStream(sendCatalog, pieces(), { deadlineMs: 5_000 });
  expect(peers).toEqual(Array(4).fill("agent a1 x"));
});

it("gives an error of a handler as it is, and nothing of a bug", async () => {
  const server = await serve([
    implement(
      RecordingService,
      {
        verify: ({ sessionId }) => {
          if (sessionId === "bug") throw new TypeError("secret of the bug");
          throw new GatewayError("resource_unknown", "Keine Größe 秘密.", {
            hint: "Try another.",
            detail: { a: "b" },
            cause: new Error("private"),
          });
        },
        // oxlint-disable-next-line require-yield -- it throws before it would
        async *replay() {
          await sleep(1);
          throw new GatewayError("not_found", "No such recording.");
        },
      },
      ["agent"],
    ),
  ]);
  const channel = dial(server);
  await expect(channel.unary(verify, {}, { deadlineMs: 5_000 })).rejects.toMatchObject({
    code: "resource_unknown",
    message: "Keine Größe 秘密.",
    hint: "Try another.",
    detail: { a: "b" },
  });
  const bug: unknown = await channel.unary(verify, { sessionId: "bug" }, { deadlineMs: 5_000 }).catch((error: unknown) => error);
  expect(bug).toMatchObject({ code: "internal" });
  expect(JSON.stringify(bug) + String(bug)).not.toContain("secret");
  const signal = new AbortController().signal;
  await expect(collect(channel.serverStream(replay, {}, { signal }))).rejects.toMatchObject({ code: "not_found" });
});

it("refuses whoever may not: no node, other role, other authority, expired, revoked", async () => {
  let served = 0;
  const server = await serve([
    implement(GatewayPeerService, { ...unused, cancel: async () => ((served += 1), {}) }, ["gateway"]),
    implement(
      EnrolmentService,
      { enrol: async (_, { peer }) => ({ nowMs: peer === null ? 1n : 2n }), renew: async () => ({}) },
      null,
    ),
  ]);
  const call = (identity: LiveIdentity): Promise<string> =>
    codeOf(dial(server, identity).unary(cancel, {}, { deadlineMs: 5_000 }));
  const other = await testIdentity("gateway", "g2", {}, authority);
  expect(await call(other)).toBe("ok");
  expect(await call(agent)).toBe("unauthorized");
  const rogue = await testIdentity("gateway", "g2", {}, await makeTestAuthority());
  rogue.replace({ ...rogue.material, authorities: authority.certificate });
  expect(await call(rogue)).toBe("node_unreachable");
  const expired = await testIdentity("gateway", "g2", {}, authority);
  expired.replace(await authority.issue({ role: "gateway", name: "g2", notAfterMs: Date.now() - 1_000 }));
  expect(await call(expired)).toBe("node_unreachable");
  const revoked = await testIdentity("gateway", "g3", {}, authority);
  gateway.trust(authority.trust([revoked.self.serial]));
  expect(await call(revoked)).toBe("node_unreachable");
  expect(await call(other)).toBe("ok");
  expect(served).toBe(2);
});

it("knows the caller on a connection that has been open for a while, and after trust has changed", async () => {
  const server = await serve([implement(GatewayPeerService, { ...unused, cancel: async () => ({}) }, ["agent"])]);
  const channel = dial(server);
  for (let round = 0; round < 3; round += 1) {
    expect(await codeOf(channel.unary(cancel, {}, { deadlineMs: 5_000 }))).toBe("ok");
    await sleep(50);
    gateway.trust(authority.trust([`${round}${round}`]));
    agent.trust(authority.trust([`${round}${round}`]));
  }
  expect(await codeOf(channel.unary(cancel, {}, { deadlineMs: 5_000 }))).toBe("ok");
});
