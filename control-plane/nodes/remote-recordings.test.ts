/** Recordings asked of recorders over real mTLS: any that has it answers, and what one says is passed on. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { RecordingService } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { GrpcServer } from "@sluice/rpc/grpc.ts";
import { implement, serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { makeTestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { pino } from "pino";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createRemoteRecordings, type RemoteRecordings } from "./remote-recordings.ts";

const log = pino({ level: "silent" });
const known = "s_AAAAAAAAAAAAAAAAAAAAAA" as SessionId; // shaped like one
const unknown = "s_BBBBBBBBBBBBBBBBBBBBBB" as SessionId; // shaped like one
const items = [
  { kind: "row", atMs: 1, values: ["1", null] },
  { kind: "row", atMs: 2, values: ["2", null] },
  { kind: "complete", atMs: 3, tag: "SELECT 2" },
];
const servers: GrpcServer[] = [];
let nodes: readonly DirectoryNode[] = [];
let recordings: RemoteRecordings;

beforeAll(async () => {
  const authority = await makeTestAuthority();
  const serve = async (name: string, sessions: readonly string[]): Promise<DirectoryNode> => {
    const check = (id: string): void => {
      if (!sessions.includes(id)) throw new GatewayError("not_found", `${name} has no recording of this session.`);
    };
    const handlers = {
      replay: async function* ({ sessionId }: { sessionId: string }) {
        check(sessionId);
        yield { items: items.slice(0, 2).map((item) => JSON.stringify(item)) };
        yield { items: items.slice(2).map((item) => JSON.stringify(item)) };
      },
      verify: async ({ sessionId }: { sessionId: string }) => {
        check(sessionId);
        return { report: JSON.stringify({ sessionId, ok: true }) };
      },
    };
    const server = await serveGrpc({
      listen: { host: "127.0.0.1", port: 0 },
      services: [implement(RecordingService, handlers, ["control-plane"])],
      messageBytesMax: 1_000_000,
      identity: await testIdentity("recorder", name, {}, authority),
      log,
    });
    servers.push(server);
    const addresses = { control: server.address, sessions: null, callers: {} };
    return { role: "recorder", name, region: "", addresses, labels: {}, slot: 0, capability: 2, draining: false };
  };
  nodes = [await serve("empty", []), await serve("full", [known])];
  const identity = await testIdentity("control-plane", "replica-test", {}, authority);
  recordings = createRemoteRecordings({ identity, nodes: () => nodes, limits: defaultLimits, log });
});

afterAll(async () => {
  recordings.close();
  for (const server of servers) await server.close(0);
});

it("replays in order from whichever recorder has it", async () => {
  const got: unknown[] = [];
  for await (const item of recordings.replay(known)) got.push(item);
  expect(got).toEqual(items);
});

it("verifies, and stops reading when the reader stops", async () => {
  expect(await recordings.verify(known)).toMatchObject({ sessionId: known, ok: true });
  for await (const item of recordings.replay(known)) {
    expect(item).toEqual(items[0]);
    break;
  }
  expect(await recordings.verify(known)).toMatchObject({ ok: true });
});

it("says that there is none, and that one could not be asked", async () => {
  await expect(recordings.verify(unknown)).rejects.toMatchObject({ code: "not_found" });
  await expect(recordings.replay(unknown)[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "not_found" });
  const all = nodes;
  await servers[0]?.close(0);
  // It may be the one that has it.
  await expect(recordings.verify(unknown)).rejects.toMatchObject({ code: "node_unreachable" });
  expect(await recordings.verify(known)).toMatchObject({ ok: true });
  nodes = [];
  await expect(recordings.verify(known)).rejects.toMatchObject({ code: "node_unreachable" });
  nodes = all;
});
