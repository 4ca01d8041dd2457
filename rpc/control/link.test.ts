/** The link to real gRPC servers that play control planes: what arrives, what is told again, what ends a stream and what does not. */
import { GatewayError } from "@sluice/core/errors.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { Role } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { NodeControlService, type WatchRequest, type WatchResponseSchema } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { CAPABILITY } from "../capabilities.ts";
import type { ControlHandlers, ControlLink } from "../control-link.ts";
import { implement, serveGrpc } from "../grpc/server.ts";
import type { GrpcServer } from "../grpc.ts";
import type { LiveIdentity } from "../identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "../testing.ts";
import { trustToProto } from "../trust.ts";
import { type ControlLinkOptions, openControlLink } from "./link.ts";

type Instruction = NonNullable<MessageInitShape<typeof WatchResponseSchema>["instruction"]>;

let authority: TestAuthority;
let identity: LiveIdentity;
let lines: {
  readonly level: number;
  readonly msg: string;
  readonly reason?: string;
  readonly err?: { readonly message: string };
}[];
const endings: (() => unknown)[] = [];
const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line) as (typeof lines)[number]) }); // pino's own lines
const quiet = pino({ level: "silent" });

beforeEach(async () => {
  authority = await makeTestAuthority();
  identity = await testIdentity("gateway", "g1", {}, authority);
  lines = [];
});

afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
});

/** One replica: remembers what it heard, says what it is told to say. */
interface Plane {
  readonly server: GrpcServer;
  readonly heard: WatchRequest["report"][];
  streams: number;
  ended: number;
  say(instruction: Instruction): void;
}

const welcome = (changes: object = {}): Instruction => ({
  case: "welcome",
  value: { capability: CAPABILITY, capabilityMin: 1, slot: 7, nowMs: BigInt(Date.now()), heartbeatMs: 100n, ...changes },
});

async function plane(first: Instruction | null = welcome(), port = 0): Promise<Plane> {
  const own = await testIdentity("control-plane", "c1", {}, authority);
  let said: Instruction[] = [];
  let wake = (): void => undefined;
  const state: Plane = {
    server: await serveGrpc({
      listen: { host: "127.0.0.1", port },
      services: [
        implement(
          NodeControlService,
          {
            async *watch(requests, { signal }) {
              state.streams += 1;
              said = first === null ? [] : [first];
              signal.addEventListener("abort", () => wake());
              void (async () => {
                for await (const { report } of requests) state.heard.push(report);
                state.ended += 1;
                wake();
              })().catch(() => wake());
              const before = state.ended;
              while (!signal.aborted && state.ended === before) {
                for (const instruction of said.splice(0)) yield { instruction };
                await new Promise<void>((resolve) => {
                  wake = resolve;
                  if (said.length > 0 || signal.aborted || state.ended > before) resolve();
                });
              }
            },
          },
          ["gateway", "agent", "recorder"],
        ),
      ],
      messageBytesMax: 1_000_000,
      identity: own,
      log: quiet,
    }),
    heard: [],
    streams: 0,
    ended: 0,
    say: (instruction) => {
      said.push(instruction);
      wake();
    },
  };
  endings.push(() => state.server.close(0));
  return state;
}

const handlers: ControlHandlers = {
  hello: () => ({
    region: "eu",
    addresses: { control: "g1:1", sessions: null, callers: { postgres: "g1:5432" } },
    sealingKey: "",
    snapshotSequence: 5n,
  }),
  status: () => ({ sessions: 3, draining: false, links: [{ name: "a1", sessions: 2, roundTripUs: 12.4 }], spoolBytes: 9 }),
};

function open(
  planes: readonly Plane[],
  more: Partial<ControlHandlers> = {},
  options: Partial<ControlLinkOptions> = {},
): ControlLink {
  const link = openControlLink({
    identity,
    addresses: planes.map(({ server }) => server.address),
    handlers: { ...handlers, ...more },
    clock: systemClock,
    random: systemRandom,
    log,
    ...options,
  });
  endings.push(() => link.close());
  return link;
}

const cases = (of: Plane): (string | undefined)[] => of.heard.map((report) => report.case);

it("says hello first, is welcomed, and tells its status at each heartbeat and on change", async () => {
  const one = await plane();
  const welcomed = vi.fn();
  const link = open([one], { welcomed });
  await vi.waitFor(() => expect(cases(one).filter((report) => report === "status").length).toBeGreaterThanOrEqual(3));
  expect(link.connected).toBe(1);
  expect(welcomed).toHaveBeenCalledExactlyOnceWith({ slot: 7, nowMs: expect.any(Number) });
  expect(one.heard[0]).toMatchObject({
    case: "hello",
    value: {
      capability: CAPABILITY,
      region: "eu",
      snapshotSequence: 5n,
      addresses: { control: "g1:1", sessions: "", callers: { postgres: "g1:5432" } },
    },
  });
  expect(one.heard[1]).toMatchObject({
    case: "status",
    value: {
      sessions: 3,
      spoolBytes: 9n,
      certificateSerial: identity.self.serial,
      links: [{ name: "a1", sessions: 2, roundTripUs: 12 }],
    },
  });
  one.say({ case: "heartbeat", value: { snapshotSequence: 5n } });
  const before = one.heard.length;
  link.statusChanged();
  await vi.waitFor(() => expect(one.heard.length).toBeGreaterThan(before), 90);
});

it("hands on what it is told, drops what it does not know, and survives handlers that fail", async () => {
  const one = await plane(welcome({ heartbeatMs: 5_000n }));
  const told: unknown[] = [];
  const link = open([one], {
    snapshot: (signed) => void told.push(["snapshot", signed.length]),
    heartbeat: (sequence) => {
      told.push(["heartbeat", sequence]);
      throw new Error("a fault of the handler");
    },
    endSessions: (command) => void told.push(command),
    dialGateway: (name) => void told.push(["dial", name]),
    explain: async (request) => {
      if (request === "bad") throw new GatewayError("resource_unknown", "No such resource.");
      return `decision on ${request}`;
    },
  });
  const directories: unknown[] = [];
  link.onDirectory((nodes) => directories.push(nodes));
  await vi.waitFor(() => expect(link.connected).toBe(1));
  one.say({ case: "heartbeat", value: { snapshotSequence: 6n } });
  one.say({ case: "snapshot", value: { content: new Uint8Array(10), signature: new Uint8Array(64) } });
  one.say({ case: "endSessions", value: { commandId: "c", sessionId: "s", reason: "Enough." } });
  one.say({ case: "dialGateway", value: { gateway: "g2" } });
  const node = { role: Role.AGENT, name: "a1", region: "eu", slot: 0, capability: 1, labels: { zone: "x" } };
  const future = 99 as Role; // of a newer node
  const nodes = [node, { ...node, role: future, name: "future" }];
  one.say({ case: "directory", value: { nodes } });
  one.say({ case: "directory", value: { nodes } });
  one.say({ case: "trust", value: trustToProto(authority.trust(["ab"])) });
  // A newer control plane's instruction arrives as none, once its fields are dropped.
  one.say({ case: undefined });
  one.say({ case: "explain", value: { requestId: "1", request: "good" } });
  one.say({ case: "explain", value: { requestId: "2", request: "bad" } });
  await vi.waitFor(() => expect(cases(one).filter((report) => report === "explainAnswer")).toHaveLength(2));
  expect(told).toEqual([
    ["heartbeat", 6n],
    ["snapshot", 78],
    { commandId: "c", sessionId: "s", reason: "Enough." },
    ["dial", "g2"],
  ]);
  const known = { role: "agent", name: "a1", region: "eu", slot: 0, capability: 1, draining: false, labels: { zone: "x" } };
  expect(link.directory).toEqual([{ ...known, addresses: { control: null, sessions: null, callers: {} } }]);
  expect(directories).toEqual([link.directory]);
  expect(identity.isRevoked("ab")).toBe(true);
  expect(one.heard.filter((report) => report.case === "explainAnswer").map(({ value }) => value)).toMatchObject([
    { requestId: "1", outcome: { case: "decision", value: "decision on good" } },
    { requestId: "2", outcome: { case: "fault", value: { code: "resource_unknown", message: "No such resource." } } },
  ]);
  expect(lines.map(({ msg }) => msg)).toContain("the control plane gave an instruction that this version does not know: ignored");
  expect(link.connected).toBe(1);
});

it("connects again after a replica has gone, and tells it the verdict that it missed", async () => {
  const [one, two] = [await plane(), await plane()];
  const link = open([one, two]);
  await vi.waitFor(() => expect(link.connected).toBe(2));
  const port = Number(one.server.address.split(":")[1]);
  await one.server.close(0);
  await vi.waitFor(() => expect(link.connected).toBe(1));
  link.verdict(8n, "v8", new GatewayError("config_invalid", "It does not load."));
  link.agentWanted("db");
  await vi.waitFor(() => expect(cases(two)).toContain("agentWanted"));
  const again = await plane(welcome(), port);
  await vi.waitFor(() => expect(link.connected).toBe(2), 5_000);
  await vi.waitFor(() => expect(cases(again)).toContain("snapshotVerdict"));
  expect(again.heard.find((report) => report.case === "snapshotVerdict")?.value).toMatchObject({
    sequence: 8n,
    version: "v8",
    accepted: false,
    fault: { code: "config_invalid" },
  });
});

it("gives up a stream on which nothing comes for three heartbeats", async () => {
  const one = await plane(welcome({ heartbeatMs: 50n }));
  const link = open([one]);
  await vi.waitFor(() => expect(one.streams).toBeGreaterThanOrEqual(2), 3_000);
  expect(lines.map(({ reason }) => reason)).toContain("The control plane was not heard of for too long.");
  expect(link.directory).toEqual([]);
});

it("gives up a control plane that takes the stream and never welcomes", async () => {
  const one = await plane(null);
  const link = open([one], {}, { limits: { nodeConnectTimeoutMs: 100, nodeKeepaliveTimeoutMs: 100 } });
  await vi.waitFor(() => expect(one.streams).toBeGreaterThanOrEqual(2), 3_000);
  expect(link.connected).toBe(0);
});

it("works with one version less, and says once when versions do not meet", async () => {
  const older = await plane(welcome({ capability: CAPABILITY - 1 }));
  const link = open([older]);
  await vi.waitFor(() => expect(link.connected).toBe(1));
  const newer = await plane(welcome({ capability: CAPABILITY + 5, capabilityMin: CAPABILITY + 2 }));
  const refused = open([newer], {}, { capability: CAPABILITY });
  await vi.waitFor(() => expect(lines.filter(({ reason }) => reason?.startsWith("This node speaks versions"))).toHaveLength(1));
  // Not again at the ordinary pace.
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(newer.streams).toBe(1);
  expect(refused.connected).toBe(0);
});

it("says that the clocks differ", async () => {
  const one = await plane(welcome({ nowMs: BigInt(Date.now() - 10 * 60_000) }));
  open([one]);
  await vi.waitFor(() =>
    expect(lines.map(({ err }) => err?.message)).toContain("This machine's clock is 10.0 minutes ahead of the control plane's."),
  );
});

it("uses a renewed certificate for a new stream, and leaves in good order", async () => {
  const one = await plane();
  const link = open([one], {}, { random: { bytes: (count) => new Uint8Array(count) } });
  await vi.waitFor(() => expect(link.connected).toBe(1));
  identity.replace(await authority.issue({ role: "gateway", name: "g1" }));
  await vi.waitFor(() => expect(one.streams).toBe(2));
  await vi.waitFor(() =>
    expect(one.heard.findLast((report) => report.case === "status")?.value).toMatchObject({
      certificateSerial: identity.self.serial,
    }),
  );
  const { ended } = one;
  await link.close();
  expect(one.ended).toBe(ended + 1);
  expect(link.connected).toBe(0);
});
