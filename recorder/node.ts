/**
 * The recorder as a process of its own: takes gateways' records from NATS, keeps them, signs receipts, and serves replays to the control
 * plane. Goes on recording while no control plane answers. Never lets go of its directory before what runs is finished.
 */
import { join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import type { Config, ListenAddress, NodeConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";
import type { RecordConsumer } from "@sluice/events/bus.ts";
import { type KeptRecords, openRecorderBus, type RecorderBus } from "@sluice/events/nats/recorder-bus.ts";
import { openControlLink } from "@sluice/rpc/control/link.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { serveGrpc } from "@sluice/rpc/grpc/server.ts";
import type { GrpcServer } from "@sluice/rpc/grpc.ts";
import { openNodeIdentity } from "@sluice/rpc/identity/open.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { Logger } from "pino";
import { openRecorder, type Recorder } from "./recorder.ts";
import { recordingService } from "./service.ts";

export interface RecorderNodeOptions {
  readonly config: Config;
  /** Absolute; the identity is kept in `identity/` below it. */
  readonly dataDirectory: string;
  readonly environment: (name: string) => string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly limits: Limits;
  /** Gives up starting. */
  readonly signal?: AbortSignal;
  /** For whoever counts. */
  readonly onKept?: (kept: KeptRecords) => void;
  readonly onReceipt?: () => void;
  /** A batch could not be kept and will be offered again. */
  readonly onFailed?: () => void;
}

export interface RecorderNode {
  /** `host:port` of its service; null when it serves none. */
  readonly address: string | null;
  readonly identity: NodeIdentity;
  readonly state: RecorderState;
  close(): Promise<void>;
}

export interface RecorderState {
  /** Records can be taken. */
  readonly busConnected: boolean;
  /** Control planes that are heard of. */
  readonly controlPlanes: number;
  /** Batches that wait for one before them. */
  readonly batchesHeld: number;
}

/** Calls that run when the recorder ends may finish within this. */
const CALLS_GRACE_MS = 2_000;

/**
 * Starts everything or nothing. Throws `config_invalid` when the configuration lacks what a recorder of its own needs, or another process
 * has the directory; and what enrolment throws.
 */
export async function startRecorderNode(options: RecorderNodeOptions): Promise<RecorderNode> {
  const { config, log } = options;
  const { node, events } = config;
  if (node === null) throw lacking("`node`", "Say who this recorder is: node.name and node.controlPlanes.");
  if (events.bus !== "nats")
    throw lacking("`events` with bus nats", "Separate processes meet on NATS: events: { bus: nats, servers: [...] }.");
  const { stop, ...recorder } = await allOrNothing(log, (started) => start(options, node, events, started));
  return { ...recorder, close: stop };
}

/** What is stopped in reverse: the control planes are left first, then the bus, then callers, the identity and the files. */
async function start(
  options: RecorderNodeOptions,
  node: NodeConfig,
  events: Extract<Config["events"], { bus: "nats" }>,
  started: Started,
): Promise<Omit<RecorderNode, "close">> {
  const { config, log } = options;
  const recorder = await begin(started, "recordings", openRecorder({ ...options, directory: config.recorder.directory }));
  const identity = await openNodeIdentity({
    ...options,
    role: "recorder",
    node,
    directory: join(options.dataDirectory, "identity"),
    hosts: hostsOf(config.recorder.listen, config.recorder.advertise),
    readEnvironment: options.environment,
  });
  started.add("identity", () => identity.close());
  const server = config.recorder.listen === null ? null : await serve(config.recorder.listen, recorder, identity, options);
  if (server !== null) started.add("server", () => server.close(CALLS_GRACE_MS));
  const bus = await begin(
    started,
    "bus",
    openRecorderBus({
      ...options,
      config: events,
      identity,
      consumer: failing(recorder.consumer, options.onFailed),
      placeOf: (gateway, spoolId) => recorder.placeOf(gateway, spoolId),
    }),
  );
  const address = server === null ? null : (config.recorder.advertise ?? server.address);
  const link = openLink(node, address, identity, options);
  started.add("link", () => link.close());
  log.info({ name: node.name, address, directory: config.recorder.directory }, "The recorder takes records.");
  return { address: server?.address ?? null, identity, state: stateOf(bus, link) };
}

async function begin<Part extends { close(): Promise<void> }>(
  started: Started,
  name: string,
  part: Promise<Part>,
): Promise<Part> {
  const begun = await part;
  started.add(name, () => begun.close());
  return begun;
}

/** Tells whoever counts of each batch that was not kept. */
function failing(consumer: RecordConsumer, onFailed: (() => void) | undefined): RecordConsumer {
  if (onFailed === undefined) return consumer;
  return {
    ...consumer,
    consume: async (records, details) => {
      try {
        await consumer.consume(records, details);
      } catch (error) {
        onFailed();
        throw error;
      }
    },
  };
}

function serve(
  listen: ListenAddress,
  recorder: Recorder,
  identity: NodeIdentity,
  options: RecorderNodeOptions,
): Promise<GrpcServer> {
  const { log, limits, clock } = options;
  const services = [recordingService(recorder.reader)];
  return serveGrpc({ listen, services, messageBytesMax: limits.recordingMessageBytesMax, identity, log, limits, clock });
}

function openLink(
  node: NonNullable<Config["node"]>,
  address: string | null,
  identity: NodeIdentity,
  { clock, random, log, limits }: RecorderNodeOptions,
): ControlLink {
  return openControlLink({
    identity,
    addresses: node.controlPlanes,
    clock,
    random,
    log,
    limits,
    handlers: {
      hello: () => ({
        region: node.region,
        addresses: { control: address, sessions: null, callers: {} },
        sealingKey: "",
        snapshotSequence: 0n,
      }),
      status: () => ({ sessions: 0, draining: false, links: [], spoolBytes: 0 }),
    },
  });
}

function stateOf(bus: RecorderBus, link: ControlLink): RecorderState {
  return {
    get busConnected() {
      return bus.connected;
    },
    get controlPlanes() {
      return link.connected;
    },
    get batchesHeld() {
      return bus.held;
    },
  };
}

/** Under which its certificate must be good, besides its name. */
function hostsOf(listen: ListenAddress | null, advertise: string | null): readonly string[] {
  const told = advertise?.slice(0, advertise.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  const anywhere = new Set(["0.0.0.0", "::"]);
  return [...new Set([listen?.host, told])].flatMap((host) => (host === undefined || anywhere.has(host) ? [] : [host]));
}

function lacking(what: string, hint: string): GatewayError {
  return new GatewayError("config_invalid", `A recorder that is a process of its own needs ${what} in its configuration.`, {
    hint,
  });
}
