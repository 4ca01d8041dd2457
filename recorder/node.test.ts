import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "@sluice/core/config.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { openNatsBus } from "@sluice/events/nats/bus.ts";
import { shipSpool } from "@sluice/events/ship.ts";
import { openFileSpool } from "@sluice/events/spool/file-spool.ts";
import { closedRecord, openedRecord, releasedRecord, testLog, testSessionId } from "@sluice/events/testing.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import type { GrpcChannel } from "@sluice/rpc/grpc.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { freePort, type Nats, startNats } from "../test/support/nats.ts";
import { type RecorderNode, startRecorderNode } from "./node.ts";

let directory: string;
let nats: Nats;
let authority: TestAuthority;
let config: Config;
const tasks: (() => Promise<unknown> | void)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-recorder-node-"));
  tasks.push(() => rm(directory, { recursive: true, force: true }));
  nats = await startNats();
  tasks.push(() => nats.stop());
  authority = await makeTestAuthority();
  await enrol("rec-1");
  config = {
    node: { name: "rec-1", region: "", controlPlanes: [`127.0.0.1:${await freePort()}`], join: null },
    events: {
      bus: "nats",
      servers: [nats.url],
      caFile: null,
      credentialsFile: null,
      replicas: 1,
      streamBytesMax: 64 * 1024 * 1024,
    },
    recorder: { directory: join(directory, "recordings"), listen: { host: "127.0.0.1", port: 0 }, advertise: null },
  } as unknown as Config; // a recorder reads nothing else of it
});

afterEach(async () => {
  for (const task of tasks.splice(0).reverse()) await task();
});

/** What enrolment would have left on disk. */
async function enrol(name: string): Promise<void> {
  const folder = join(directory, "identity");
  await mkdir(folder, { recursive: true });
  const material = await authority.issue({ role: "recorder", name, hosts: ["127.0.0.1"] });
  await writeFile(join(folder, "node.pem"), material.certificateChain);
  await writeFile(join(folder, "node-key.pem"), material.privateKey, { mode: 0o600 });
  await writeFile(join(folder, "authorities.pem"), material.authorities);
}

async function start(over: Partial<Config> = {}): Promise<RecorderNode> {
  const node = await startRecorderNode({
    config: { ...config, ...over },
    dataDirectory: directory,
    environment: () => undefined,
    clock: systemClock,
    random: systemRandom,
    log: pino({ level: "silent" }),
    limits: defaultLimits,
  });
  tasks.push(() => node.close());
  return node;
}

async function dial(node: RecorderNode, role: NodeRole, name: string): Promise<GrpcChannel> {
  const channel = dialGrpc(
    { address: node.address!, role: "recorder", name: "rec-1" }, // it listens
    {
      identity: await testIdentity(role, name, {}, authority),
      log: pino({ level: "silent" }),
      messageBytesMax: defaultLimits.recordingMessageBytesMax,
    },
  );
  tasks.push(() => channel.close());
  return channel;
}

/** Sends the records of a gateway and waits until the recorder has them. */
async function record(count: number): Promise<void> {
  const log = testLog();
  const spool = await openFileSpool({ directory: join(directory, "spool"), limits: defaultLimits, log });
  const identity = await testIdentity("gateway", "gw-1", {}, authority);
  const options = { clock: systemClock, random: systemRandom, log, limits: defaultLimits };
  if (config.events.bus !== "nats") throw new Error("the test's own configuration");
  const bus = await openNatsBus({ ...options, config: config.events, gateway: "gw-1", spoolId: spool.id, identity });
  const stop = new AbortController();
  const shipping = shipSpool(spool, bus, { signal: stop.signal, log, gateway: "gw-1" });
  spool.append(openedRecord(1));
  for (let sequence = 1; sequence < count; sequence++) spool.append(releasedRecord(1, sequence, notice(sequence)));
  spool.append(closedRecord(1, count));
  await spool.drained();
  stop.abort();
  await shipping;
  await bus.close();
  await spool.close();
}

/** A NoticeResponse, as a caller would have received it. */
function notice(number: number): Buffer {
  const body = Buffer.from(`SNOTICE\0M${number} ${"x".repeat(1_000)}\0\0`);
  const head = Buffer.alloc(5);
  head.write("N");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

test("records over NATS, replays and verifies for the control plane alone, without a control plane being there", async () => {
  const node = await start();
  await record(500);
  const channel = await dial(node, "control-plane", "cp-1");
  const items: Record<string, unknown>[] = [];
  let messages = 0;
  const request = { sessionId: testSessionId(1) };
  for await (const response of channel.serverStream(RecordingService.method.replay, request, {
    signal: AbortSignal.timeout(10_000),
  })) {
    messages += 1;
    items.push(...response.items.map((item) => JSON.parse(item) as Record<string, unknown>)); // as the service writes them
  }
  expect(items.map((item) => item["kind"])).toEqual(["opened", ...Array.from({ length: 499 }, () => "notice"), "closed"]);
  expect(messages).toBeGreaterThan(1);
  const verified = await channel.unary(RecordingService.method.verify, request, { deadlineMs: 10_000 });
  expect(JSON.parse(verified.report)).toMatchObject({ ok: true, state: "complete", records: 501 });
  const unknown = channel.unary(RecordingService.method.verify, { sessionId: testSessionId(2) }, { deadlineMs: 10_000 });
  await expect(unknown).rejects.toMatchObject({ code: "not_found" });
  const odd = channel.unary(RecordingService.method.verify, { sessionId: "../keys" }, { deadlineMs: 10_000 });
  await expect(odd).rejects.toMatchObject({ code: "not_found" });
  const gateway = await dial(node, "gateway", "gw-1");
  const asked = gateway.unary(RecordingService.method.verify, request, { deadlineMs: 10_000 });
  await expect(asked).rejects.toMatchObject({ code: "unauthorized" });
  expect(node.state).toMatchObject({ busConnected: true, controlPlanes: 0, batchesHeld: 0 });
});

test("a second one on the same directory is refused, and can start once the first has ended", async () => {
  const first = await start();
  await expect(start()).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("in use by process") as string,
  });
  await first.close();
  await first.close();
  await start();
});

test("says what its configuration lacks, and leaves nothing behind that is open", async () => {
  await expect(start({ node: null })).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("`node`") as string,
  });
  await expect(start({ events: { bus: "embedded" } })).rejects.toMatchObject({ code: "config_invalid" });
  const nowhere = { bus: "nats", servers: [nats.url], caFile: join(directory, "absent.pem"), credentialsFile: null } as const;
  await expect(start({ events: { ...nowhere, replicas: 1, streamBytesMax: 1e8 } })).rejects.toMatchObject({
    code: "config_invalid",
  });
  await start();
});
