/** The agent as a process: against a control plane and a gateway that speak the protocol, and with the control plane gone. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import type { Config } from "@sluice/core/config.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { Role, SignedContentSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { NodeControlService, type WatchRequest, type WatchResponseSchema } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type AgentNode, startAgentNode } from "./node.ts";
import { makeContentSigner } from "./testing-content.ts";
import { FakeGateway, silent } from "./tunnel/fake-gateway.ts";
import { resource } from "./tunnel/tunnel-harness.ts";

type Instruction = NonNullable<MessageInitShape<typeof WatchResponseSchema>["instruction"]>;

let directory: string;
let authority: TestAuthority;
let gateway: FakeGateway;
let signed: Uint8Array;
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-agent-node-"));
  authority = await makeTestAuthority();
  gateway = await FakeGateway.start({ identity: await testIdentity("gateway", "g1", {}, authority) });
  signed = (await makeContentSigner(authority))(3n, { resources: [resource({ target: await echoTarget() })] });
  ends.push(
    () => rm(directory, { recursive: true, force: true }),
    () => gateway.kill(),
  );
  const { certificateChain, privateKey, authorities } = await authority.issue({ role: "agent", name: "a1" });
  await mkdir(join(directory, "identity"), { recursive: true });
  await writeFile(join(directory, "identity", "node.pem"), certificateChain);
  await writeFile(join(directory, "identity", "node-key.pem"), privateKey, { mode: 0o600 });
  await writeFile(join(directory, "identity", "authorities.pem"), authorities);
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

test("it says who it is, takes its resources, links to the gateway, and serves it; so it does again without a control plane", async () => {
  const plane = await startControlPlane();
  const first = await start([plane.address]);
  await vi.waitUntil(() => first.tunnel.status().links.length === 1, { timeout: 5_000 });
  expect(first.notReady()).toEqual([]);
  const hello = plane.heard.find(({ case: kind }) => kind === "hello")?.value;
  expect(hello).toMatchObject({ region: "eu" });
  const { sealingKey } = hello as { readonly sealingKey: string };
  expect(Object.keys(JSON.parse(sealingKey) as object)).not.toContain("d");
  await vi.waitUntil(() => plane.heard.some((report) => report.case === "snapshotVerdict" && report.value.accepted));
  await vi.waitUntil(() => plane.heard.some((report) => report.case === "status" && report.value.links[0]?.name === "g1"), {
    timeout: 3_000,
  });
  await expectServes();
  await first.drain();
  await first.close();
  ends.pop();

  await plane.close();
  const second = await start([plane.address]);
  await vi.waitUntil(() => second.tunnel.status().links.length === 1, { timeout: 5_000 });
  await expectServes();
});

test("a gateway that asks for an agent gets one although nearer ones are enough", async () => {
  const far = await FakeGateway.start({ identity: await testIdentity("gateway", "g2", {}, authority) });
  ends.push(() => far.kill());
  const plane = await startControlPlane([gateway, far]);
  const agent = await start([plane.address], { nearest: 1 });
  await vi.waitUntil(() => agent.tunnel.status().links.length === 1, { timeout: 5_000 });
  const [chosen] = agent.tunnel.status().links;
  const other = chosen?.name === "g1" ? far : gateway;
  plane.say({ case: "dialGateway", value: { gateway: other.name } });
  await vi.waitUntil(() => other.links === 1 && agent.tunnel.status().links.length === 2, { timeout: 5_000 });
});

test("a start that waits for its first resources can be given up, and says what is missing in a configuration", async () => {
  const plane = await startControlPlane([], false);
  const giveUp = new AbortController();
  const starting = start([plane.address], {}, giveUp.signal);
  await vi.waitUntil(() => plane.heard.some(({ case: kind }) => kind === "hello"));
  giveUp.abort(new Error("stopped"));
  await expect(starting).rejects.toThrow("stopped");
  await expect(start([])).rejects.toMatchObject({ code: "config_invalid" });
});

async function expectServes(): Promise<void> {
  await vi.waitUntil(() => gateway.idle.length > 0, { timeout: 5_000 });
  const open = gateway.open();
  // The target is no PostgreSQL: that it was asked, by the agent's own declaration, is what counts here.
  expect((await open.answer)?.value.outcome).toMatchObject({ case: "fault", value: { code: "target_protocol" } });
}

async function start(
  controlPlanes: readonly string[],
  { nearest = 2 }: { readonly nearest?: number } = {},
  signal?: AbortSignal,
): Promise<AgentNode> {
  // Only the sections that an agent reads.
  const config = {
    node: { name: "a1", region: "eu", controlPlanes, join: null },
    agent: { secrets: [], nearest, vaults: [], kubernetes: null },
  } as unknown as Config;
  const node = await startAgentNode({
    config,
    dataDirectory: directory,
    environment: () => undefined,
    limits: { ...defaultLimits, gatewayMeasureMs: 300, drainTimeoutMs: 1_000 },
    clock: systemClock,
    random: systemRandom,
    log: silent,
    ...(signal === undefined ? {} : { signal }),
  });
  ends.push(() => node.close());
  return node;
}

async function startControlPlane(
  gateways: readonly FakeGateway[] = [gateway],
  sends = true,
): Promise<{
  address: string;
  heard: WatchRequest["report"][];
  say: (instruction: Instruction) => void;
  close: () => Promise<void>;
}> {
  const heard: WatchRequest["report"][] = [];
  const nodes = gateways
    .map((one) => ({ ...one.node(), role: Role.GATEWAY }))
    .map(({ addresses, ...node }) => ({
      ...node,
      addresses: { control: addresses.control ?? "", sessions: addresses.sessions ?? "", callers: {} },
    }));
  const queue: Instruction[] = [
    { case: "welcome", value: { capability: 2, capabilityMin: 1, nowMs: BigInt(Date.now()), heartbeatMs: 200n } },
    ...(sends ? [{ case: "snapshot", value: fromBinary(SignedContentSchema, signed) } as const] : []),
    { case: "directory", value: { nodes } },
  ];
  let wake = (): void => undefined;
  const say = (instruction: Instruction): void => {
    queue.push(instruction);
    wake();
  };
  const beat = setInterval(() => say({ case: "heartbeat", value: { snapshotSequence: 3n, nowMs: BigInt(Date.now()) } }), 200);
  const server = await serveGrpc({
    listen: { host: "127.0.0.1", port: 0 },
    identity: await testIdentity("control-plane", "c1", {}, authority),
    messageBytesMax: 1_000_000,
    log: silent,
    services: [
      implement(
        NodeControlService,
        {
          async *watch(requests, { signal }) {
            signal.addEventListener("abort", () => wake());
            void (async () => {
              for await (const { report } of requests) heard.push(report);
            })().catch(() => undefined);
            while (!signal.aborted) {
              for (const instruction of queue.splice(0)) yield { instruction };
              await new Promise<void>((resolve) => {
                wake = resolve;
                if (queue.length > 0 || signal.aborted) resolve();
              });
            }
          },
        },
        ["agent"],
      ),
    ],
  });
  let open = true;
  const close = async (): Promise<void> => {
    if (!open) return;
    open = false;
    clearInterval(beat);
    await server.close(0);
  };
  ends.push(close);
  return { address: server.address, heard, say, close };
}

/** Something that answers, and is no database. */
async function echoTarget(): Promise<ReturnType<typeof resource>["target"]> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.resume().end("no database");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(async () => {
    server.close();
    await once(server, "close");
  });
  const { port } = server.address() as { port: number }; // a TCP server has one
  return { ...resource().target, port };
}
