/** Cancel requests between two gateways over real mTLS: they arrive, tell nobody anything, and cannot be used to flood. */
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { GatewayPeerService } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import { serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { DirectoryNode, NodeRole } from "@sluice/rpc/nodes.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, beforeAll, expect, it } from "vitest";
import { codeOf, silent, until } from "../links/links-harness.ts";
import { CancelKeys } from "../session/cancel-keys.ts";
import { CancelLimiter } from "./cancel-limiter.ts";
import { createGatewayPeers } from "./gateway-peers.ts";

interface TestGateway {
  readonly keys: CancelKeys;
  readonly address: string;
  readonly node: DirectoryNode;
}

let authority: TestAuthority;
let directory: DirectoryNode[] = [];
const listeners = new Set<(nodes: readonly DirectoryNode[]) => void>();
const ends: (() => unknown)[] = [];

beforeAll(async () => {
  authority = await makeTestAuthority();
});

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  directory = [];
});

async function gateway(slot: number, limits: Partial<Limits> = {}): Promise<TestGateway> {
  const name = `g${slot}`;
  const identity = await testIdentity("gateway", name, {}, authority);
  const all = { ...defaultLimits, ...limits };
  const limiter = new CancelLimiter(all.cancelsPerAddressMax, systemClock);
  const keys = new CancelKeys(systemRandom, { slot, limiter });
  const peers = createGatewayPeers({
    identity,
    control: {
      get directory() {
        return directory;
      },
      onDirectory: (listener) => {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    },
    cancelKeys: keys,
    limits: all,
    clock: systemClock,
    random: systemRandom,
    log: silent,
  });
  const listen = { host: "127.0.0.1", port: 0 };
  const server = await serveGrpc({ listen, services: [peers.service], messageBytesMax: 64 * 1024, identity, log: silent });
  ends.push(
    () => server.close(100),
    () => peers.close(),
  );
  const addresses = { control: server.address, sessions: null, callers: {} };
  const node = { role: "gateway", name, region: "", addresses, labels: {}, slot, capability: 2, draining: false } as const;
  directory = [...directory, node];
  return { keys, address: server.address, node };
}

it("cancels the session on the gateway that issued the key", async () => {
  const [here, there] = [await gateway(1), await gateway(4_095)];
  let cancelled = 0;
  const key = there.keys.issue(2, () => void (cancelled += 1));
  expect(here.keys.redeem(key.processId, key.secret, "10.0.0.1")).toBeUndefined();
  await until(() => cancelled === 1);
  const old = there.keys.issue(0, () => void (cancelled += 10));
  here.keys.redeem(old.processId, old.secret, "10.0.0.1");
  await until(() => cancelled === 11);
});

it("does nothing, and says nothing, for a wrong secret, a session that is over, and a gateway that is not there", async () => {
  const [here, there] = [await gateway(1), await gateway(2)];
  let cancelled = 0;
  const key = there.keys.issue(2, () => void (cancelled += 1));
  const over = there.keys.issue(2, () => void (cancelled += 1));
  there.keys.revoke(over);
  here.keys.redeem(key.processId, Buffer.alloc(32), "10.0.0.1");
  here.keys.redeem(over.processId, over.secret, "10.0.0.1");
  here.keys.redeem((3 << 19) | 5, key.secret, "10.0.0.1");
  here.keys.redeem(-5, key.secret, "10.0.0.1");
  here.keys.redeem(0xffff_ffff, key.secret, "10.0.0.1");
  const nodes = directory;
  directory = [{ ...there.node, addresses: { ...there.node.addresses, control: "127.0.0.1:1" } }];
  for (const tell of listeners) tell(directory);
  here.keys.redeem(key.processId, key.secret, "10.0.0.1");
  directory = nodes;
  for (const tell of listeners) tell(directory);
  // The one that is right comes last, and is the only one that does anything.
  here.keys.redeem(key.processId, key.secret, "10.0.0.1");
  await until(() => cancelled === 1);
});

it("passes a request on once: a gateway that got it from another keeps it", async () => {
  const [here, there, third] = [await gateway(1), await gateway(2), await gateway(3)];
  let cancelled = 0;
  const key = third.keys.issue(2, () => void (cancelled += 1));
  // As if the directory had the third gateway's slot for the second.
  directory = [here.node, { ...there.node, slot: 3 }];
  here.keys.redeem(key.processId, key.secret, "10.0.0.1");
  const own = there.keys.issue(2, () => void (cancelled += 10));
  directory = [here.node, there.node, third.node];
  here.keys.redeem(own.processId, own.secret, "10.0.0.1");
  await until(() => cancelled === 10);
});

it("takes requests from gateways alone", async () => {
  const there = await gateway(2);
  const key = there.keys.issue(2, () => undefined);
  const request = { processId: key.processId, secret: key.secret };
  const ask = async (role: NodeRole): Promise<string> => {
    const peer = { address: there.address, role: "gateway", name: "g2" } as const;
    const identity = await testIdentity(role, "x", {}, authority);
    const channel = dialGrpc(peer, { identity, log: silent, messageBytesMax: 64 * 1024 });
    ends.push(() => channel.close());
    return await codeOf(channel.unary(GatewayPeerService.method.cancel, request, { deadlineMs: 2_000 }));
  };
  expect(await ask("agent")).toBe("unauthorized");
  expect(await ask("recorder")).toBe("unauthorized");
  expect(await ask("gateway")).toBe("ok");
});

it("stops passing on what floods: from one address, and over all", async () => {
  const here = await gateway(1, { cancelsPerAddressMax: 3, cancelsForwardedMax: 5 });
  const there = await gateway(2);
  let cancelled = 0;
  const key = there.keys.issue(2, () => void (cancelled += 1));
  for (let times = 0; times < 10; times += 1) here.keys.redeem(key.processId, key.secret, "10.0.0.1");
  await until(() => cancelled === 3);
  for (let times = 0; times < 10; times += 1) here.keys.redeem(key.processId, key.secret, `10.0.1.${times}`);
  await until(() => cancelled === 5);
  // A request that is let through after all the others shows that none of them is still on its way.
  const later = await gateway(3);
  later.keys.redeem(key.processId, key.secret, "10.0.0.1");
  await until(() => cancelled === 6);
});

it("stops taking what floods from another gateway", async () => {
  const here = await gateway(1);
  const there = await gateway(2, { cancelsForwardedMax: 2 });
  let cancelled = 0;
  const key = there.keys.issue(2, () => void (cancelled += 1));
  for (let times = 0; times < 5; times += 1) here.keys.redeem(key.processId, key.secret, "10.0.0.1");
  const later = await gateway(3);
  await until(() => cancelled === 2);
  later.keys.redeem(key.processId, key.secret, "10.0.0.1");
  await until(() => cancelled === 3);
});
