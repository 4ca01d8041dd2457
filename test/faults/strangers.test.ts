/**
 * Who may come through which door of an installation, with which certificate: everybody tries every door, over real mTLS. Whoever is
 * turned away has reached nothing behind it.
 */
import { connect } from "node:tls";
import { assertNever } from "@sluice/core/assert-never.ts";
import { dialSession } from "@sluice/data-plane/links/fake-agent.ts";
import { codeOf, LinksHarness } from "@sluice/data-plane/links/links-harness.ts";
import { NodeControlService } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import { AgentLinkService } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { GatewayPeerService } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import { recordingService } from "@sluice/recorder/service.ts";
import { CAPABILITY } from "@sluice/rpc/capabilities.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { GrpcChannel, GrpcServer } from "@sluice/rpc/grpc.ts";
import { fixedIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { readNodeCertificate } from "@sluice/rpc/identity/node-certificate.ts";
import type { IdentityMaterial, NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

const log = pino({ level: "silent" });
const anyPort = { host: "127.0.0.1", port: 0 };
const HOUR_MS = 3_600_000;
let authority: TestAuthority;
const endings: (() => unknown)[] = [];

beforeAll(async () => {
  authority = await makeTestAuthority();
});
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
});

describe("doors", () => {
  type Door = "link" | "session" | "peer" | "recordings" | "control";
  const doors: readonly Door[] = ["link", "session", "peer", "recordings", "control"];
  /** Whom each lets in; nobody else, whatever the name. */
  const letsIn: Readonly<Record<Door, readonly string[]>> = {
    link: ["agent"],
    session: ["agent"],
    peer: ["gateway"],
    recordings: ["control-plane"],
    control: ["gateway", "agent", "recorder"],
  };
  /** Withdrawn before anybody knocks. */
  const revokedSerials: string[] = [];
  const keepers: NodeIdentity[] = [];
  let gateway: LinksHarness;
  let servers: Readonly<Record<"peer" | "recordings" | "control", GrpcServer>>;
  const visitors = new Map<string, IdentityMaterial>();
  let reached: string[] = [];

  beforeAll(async () => {
    gateway = await LinksHarness.start({}, { authority });
    const serve = async (
      role: "gateway" | "recorder" | "control-plane",
      service: Parameters<typeof serveGrpc>[0]["services"][0],
    ) =>
      await serveGrpc({
        listen: anyPort,
        services: [service],
        identity: await doorKeeper(role),
        messageBytesMax: 100_000,
        log,
      });
    const peers = implement(
      GatewayPeerService,
      {
        cancel: async (_, { peer }) => {
          reached.push(`peer ${peer?.role}`);
          return {};
        },
        markCatalog: () => Promise.reject(new Error("not asked for here")),
        openMarks: () => Promise.reject(new Error("not asked for here")),
      },
      ["gateway"],
    );
    const control = implement(
      NodeControlService,
      {
        async *watch(_, { peer }) {
          reached.push(`control ${peer?.role}`);
          yield { instruction: { case: "heartbeat", value: {} } };
        },
      },
      ["gateway", "agent", "recorder"],
    );
    const recordings = recordingService({
      replay: async function* () {
        reached.push("recordings");
        yield { kind: "closed" } as never; // what it holds is of no matter here
      },
      verify: () => Promise.reject(new Error("not asked for here")),
    });
    servers = {
      peer: await serve("gateway", peers),
      recordings: await serve("recorder", recordings),
      control: await serve("control-plane", control),
    };
    const elsewhere = await makeTestAuthority("Another installation");
    for (const role of ["control-plane", "gateway", "agent", "recorder"] as const)
      visitors.set(role, await authority.issue({ role, name: "x" }));
    const foreign = await elsewhere.issue({ role: "agent", name: "x" });
    visitors.set("agent of another installation", { ...foreign, authorities: authority.certificate });
    const past = { notBeforeMs: Date.now() - 2 * HOUR_MS, notAfterMs: Date.now() - 1_000 };
    for (const role of ["control-plane", "gateway", "agent", "recorder"] as const)
      visitors.set(`${role} of yesterday`, await authority.issue({ role, name: "x", ...past }));
    visitors.set("agent of tomorrow", await authority.issue({ role: "agent", name: "x", notBeforeMs: Date.now() + HOUR_MS }));
    for (const role of ["control-plane", "gateway", "agent", "recorder"] as const) {
      const revoked = await authority.issue({ role, name: "x" });
      visitors.set(`revoked ${role}`, revoked);
      revokedSerials.push(readNodeCertificate(revoked.certificateChain)!.serial);
    }
    for (const identity of [...keepers, gateway.identity]) identity.trust(authority.trust(revokedSerials));
  });
  afterAll(async () => {
    await gateway.close();
    for (const server of Object.values(servers)) await server.close(0);
  });

  async function doorKeeper(role: "gateway" | "recorder" | "control-plane"): Promise<NodeIdentity> {
    const identity = await testIdentity(role, "keeper", {}, authority);
    keepers.push(identity);
    return identity;
  }

  function channel(
    material: IdentityMaterial,
    address: string,
    role: "gateway" | "recorder" | "control-plane",
    name: string,
  ): GrpcChannel {
    const opened = dialGrpc({ address, role, name }, { identity: fixedIdentity(material), log, messageBytesMax: 100_000 });
    endings.push(() => opened.close());
    return opened;
  }

  async function first(received: AsyncIterable<unknown>): Promise<void> {
    for await (const _ of received) return;
  }

  /** `ok`, or the code of what it was told. */
  async function knock(door: Door, material: IdentityMaterial): Promise<string> {
    const signal = AbortSignal.timeout(5_000);
    switch (door) {
      case "link": {
        const call = channel(material, gateway.links.addresses.control, "gateway", "g1").duplex(AgentLinkService.method.link, {
          signal,
        });
        call.send({ message: { case: "hello", value: { capability: CAPABILITY, capabilityMin: 1 } } });
        return await codeOf(first(call.received));
      }
      case "session": {
        const socket = await dialSession({ material }, "g1", gateway.links.addresses.sessions).catch(() => null);
        if (socket === null) return "closed";
        const closed = new Promise<string>(
          (resolve) =>
            void socket
              .resume()
              .on("error", () => undefined)
              .once("close", () => resolve("closed")),
        );
        // One that is let in is an idle connection, once its agent is linked; nothing is said on it.
        return await Promise.race([closed, new Promise<string>((resolve) => setTimeout(() => resolve("ok"), 500))]);
      }
      case "peer":
        return await codeOf(
          channel(material, servers.peer.address, "gateway", "keeper").unary(
            GatewayPeerService.method.cancel,
            {},
            { deadlineMs: 5_000 },
          ),
        );
      case "recordings": {
        const request = { sessionId: "s_0123456789012345678901" };
        const opened = channel(material, servers.recordings.address, "recorder", "keeper");
        return await codeOf(first(opened.serverStream(RecordingService.method.replay, request, { signal })));
      }
      case "control": {
        const call = channel(material, servers.control.address, "control-plane", "").duplex(NodeControlService.method.watch, {
          signal,
        });
        return await codeOf(first(call.received));
      }
      default:
        return assertNever(door);
    }
  }

  it.each(doors)("%s", { timeout: 60_000 }, async (door) => {
    const agent = fixedIdentity(visitors.get("agent")!);
    // Session connections are for agents that are linked.
    if (door === "session") endings.push(await linkedAs(agent));
    for (const [visitor, material] of visitors) {
      reached = [];
      const outcome = await knock(door, material);
      if (letsIn[door].includes(visitor)) expect(outcome, `${visitor} at ${door}`).toBe("ok");
      else {
        expect(outcome, `${visitor} at ${door}`).not.toBe("ok");
        expect(reached, `${visitor} at ${door}`).toEqual([]);
      }
    }
  });

  async function linkedAs(identity: NodeIdentity): Promise<() => unknown> {
    const agent = await gateway.agent("x", { identity, warm: 0 });
    return () => agent.kill();
  }

  it("nobody without a certificate gets further than the handshake", async () => {
    for (const address of [
      gateway.links.addresses.control,
      gateway.links.addresses.sessions,
      servers.peer.address,
      servers.recordings.address,
    ]) {
      const [host, port] = address.split(":");
      const socket = connect({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ["h2", "sluice-session/1"] });
      socket.on("error", () => undefined).resume();
      await new Promise<void>((resolve) => void socket.once("close", () => resolve()));
    }
  });
});
