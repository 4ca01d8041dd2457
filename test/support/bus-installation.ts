/** A gateway with its spool, a recorder in memory and a real nats-server, for the tests of the bus. */
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { type Nats, startNats } from "./nats.ts";
import type { BatchDetails, RecordSource } from "@sluice/events/bus.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import type { Log } from "@sluice/events/log.ts";
import { shipSpool } from "@sluice/events/ship.ts";
import { type FileSpool, openFileSpool } from "@sluice/events/spool/file-spool.ts";
import { releasedRecord, testLog } from "@sluice/events/testing.ts";
import { type NatsBus, openNatsBus } from "@sluice/events/nats/bus.ts";
import type { NatsConfig } from "@sluice/events/nats/connection.ts";
import { openRecorderBus, type RecorderBus } from "@sluice/events/nats/recorder-bus.ts";

/** What a recorder has on its disk: it outlives the recorder's process. */
export class RecorderDisk {
  readonly kept: Map<string, SessionRecord> = new Map();
  readonly places: Map<string, number> = new Map();
  readonly sources: RecordSource[] = [];
  /** Records that were offered although they were there. */
  again = 0;
  /** Waited for before anything is written. */
  gate: Promise<void> = Promise.resolve();
  /** So many writes fail first. */
  failures = 0;
  /** Called once a batch is on disk, before anybody is told. */
  onWritten: () => void = () => undefined;

  sequencesOf(session: string): number[] {
    return [...this.kept.values()].flatMap((record) => (record.sessionId === session ? record.sequence : []));
  }

  get sequences(): number[] {
    return [...this.kept.values()].map((record) => record.sequence);
  }

  readonly consume = async (records: readonly SessionRecord[], details?: BatchDetails): Promise<void> => {
    await this.gate;
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error("no space left on device");
    }
    for (const record of records) {
      const key = `${record.sessionId}/${record.sequence}`;
      if (this.kept.has(key)) this.again += 1;
      else this.kept.set(key, record);
    }
    const source = details?.source;
    if (source !== undefined) {
      this.sources.push(source);
      const key = `${source.gateway}/${source.spoolId}`;
      this.places.set(key, Math.max(source.next, this.places.get(key) ?? 0));
    }
    this.onWritten();
  };
}

/** Keeps the errors of warnings, besides all sentences. */
export interface InstallationLog extends Log {
  readonly sentences: string[];
  readonly warnings: Error[];
  warn: Log["warn"];
}

export interface Installation {
  readonly authority: TestAuthority;
  readonly gateway: LiveIdentity;
  readonly recorder: LiveIdentity;
  readonly nats: Nats;
  config: NatsConfig;
  spool: FileSpool;
  readonly log: InstallationLog;
  identity(role: NodeRole, name: string): Promise<LiveIdentity>;
  openSpool(limits?: Partial<Limits>): Promise<FileSpool>;
  openBus(limits?: Partial<Limits>): Promise<NatsBus>;
  openRecorder(disk: RecorderDisk, identity?: LiveIdentity): Promise<RecorderBus>;
  /** One whose process dies when told: from then on nothing it says arrives anywhere. */
  openMortalRecorder(disk: RecorderDisk): Promise<{ kill(): Promise<void> }>;
  /** Ships in the background until stopped. */
  ship(bus: NatsBus): { stop(): Promise<void> };
  append(count: number, from?: number, session?: number, bytes?: Buffer): void;
  manager(): Promise<{ readonly connection: NatsConnection; readonly manager: JetStreamManager }>;
  /** Run in reverse order by `end`. */
  onEnd(task: () => Promise<unknown>): void;
  end(): Promise<void>;
}

const shared = { clock: systemClock, random: systemRandom };

export async function startInstallation(natsOptions: Parameters<typeof startNats>[0] = {}): Promise<Installation> {
  const authority = await makeTestAuthority();
  const nats = await startNats(natsOptions);
  const log: InstallationLog = { ...testLog(), warnings: [] };
  const { warn } = log;
  log.warn = (fields, sentence) => {
    if (fields["err"] instanceof Error) log.warnings.push(fields["err"]);
    warn(fields, sentence);
  };
  const tasks: (() => Promise<unknown>)[] = [];
  const onEnd = (task: () => Promise<unknown>): void => void tasks.push(task);
  const directory = await mkdtemp(join(tmpdir(), "sluice-nats-spool-"));
  const openSpool = async (limits: Partial<Limits> = {}): Promise<FileSpool> => {
    const spool = await openFileSpool({ directory, limits: { ...defaultLimits, ...limits }, log });
    onEnd(() => spool.close());
    return spool;
  };
  onEnd(() => rm(directory, { recursive: true, force: true }));
  onEnd(() => nats.stop());
  const gateway = await testIdentity("gateway", "gw-1", {}, authority);
  const recorder = await testIdentity("recorder", "rec-1", {}, authority);
  const openRecorderOn = async (disk: RecorderDisk, identity: LiveIdentity, config: NatsConfig): Promise<RecorderBus> => {
    const bus = await openRecorderBus({
      ...shared,
      config,
      identity,
      consumer: { name: "recorder", consume: disk.consume },
      placeOf: (name, spoolId) => disk.places.get(`${name}/${spoolId}`),
      limits: defaultLimits,
      log,
    });
    if (config === installation.config) onEnd(() => bus.close());
    return bus;
  };
  const installation: Installation = {
    authority,
    gateway,
    recorder,
    nats,
    config: {
      bus: "nats",
      servers: [nats.url],
      caFile: null,
      credentialsFile: null,
      replicas: 1,
      streamBytesMax: 64 * 1024 * 1024,
    },
    spool: await openSpool(),
    log,
    identity: (role, name) => testIdentity(role, name, {}, authority),
    openSpool,
    openBus: async (limits = {}) => {
      const { config, spool } = installation;
      const options = {
        config,
        gateway: "gw-1",
        spoolId: spool.id,
        identity: gateway,
        log,
        limits: { ...defaultLimits, ...limits },
      };
      const bus = await openNatsBus({ ...shared, ...options });
      onEnd(() => bus.close());
      return bus;
    },
    openMortalRecorder: async (disk) => {
      const wire = await openWire(Number(new URL(nats.url).port));
      onEnd(() => wire.cut());
      const config = { ...installation.config, servers: [wire.url] };
      const bus = await openRecorderOn(disk, recorder, config);
      return {
        kill: async () => {
          await wire.cut();
          void bus.close(); // it may wait for its disk for ever, as a dead process does
        },
      };
    },
    openRecorder: (disk, identity = recorder) => openRecorderOn(disk, identity, installation.config),
    ship: (bus) => {
      const stop = new AbortController();
      const options = { signal: stop.signal, log, gateway: "gw-1", batchesInFlightMax: 4 };
      const shipping = shipSpool(installation.spool, bus, options);
      const end = async (): Promise<void> => {
        stop.abort();
        await shipping;
      };
      onEnd(end);
      return { stop: end };
    },
    append: (count, from = 0, session = 1, bytes) => {
      for (let sequence = from; sequence < from + count; sequence++)
        installation.spool.append(releasedRecord(session, sequence, bytes));
    },
    manager: async () => {
      const connection = await connect({ servers: [nats.url] });
      onEnd(() => connection.close());
      return { connection, manager: await jetstreamManager(connection) };
    },
    onEnd,
    end: async () => {
      for (const task of tasks.splice(0).reverse()) await task();
    },
  };
  return installation;
}

export const upTo = (count: number): number[] => Array.from({ length: count }, (_, sequence) => sequence);

/** Passes bytes on until it is cut. */
async function openWire(port: number): Promise<{ readonly url: string; cut(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((from) => {
    const to = connectSocket(port, "127.0.0.1");
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port: own } = server.address() as AddressInfo; // a TCP server
  return {
    url: `nats://127.0.0.1:${own}`,
    cut: async () => {
      for (const socket of sockets) socket.destroy();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}
