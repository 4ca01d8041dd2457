import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { makeTestAuthority, type TestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Nats, startNats } from "../../test/support/nats.ts";
import type { BatchDetails, RecordSource } from "../bus.ts";
import type { SessionRecord } from "../session-events.ts";
import { shipSpool } from "../ship.ts";
import { type FileSpool, openFileSpool } from "../spool/file-spool.ts";
import { encodeRecord } from "../spool/record-codec.ts";
import { closedRecord, openedRecord, releasedRecord, testLog, testSessionId } from "../testing.ts";
import { encodeBatch } from "./batch-codec.ts";
import { type NatsBus, openNatsBus } from "./bus.ts";
import type { NatsConfig } from "./connection.ts";
import { ProofSigner } from "./proof.ts";
import { encodeReceipt } from "./receipts.ts";
import { openRecorderBus, type RecorderBus } from "./recorder-bus.ts";
import { consumeSessions } from "./sessions.ts";
import { receiptsSubject, RECORDS_STREAM, recordsSubject, SESSIONS_STREAM } from "./streams.ts";

let authority: TestAuthority;
let gateway: LiveIdentity;
let recorder: LiveIdentity;
let nats: Nats;
let config: NatsConfig;
let spoolDirectory: string;
let spool: FileSpool;
let log: ReturnType<typeof testLog>;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  authority = await makeTestAuthority();
});

beforeEach(async () => {
  gateway = await testIdentity("gateway", "gw-1", {}, authority);
  recorder = await testIdentity("recorder", "rec-1", {}, authority);
  nats = await startNats();
  config = {
    bus: "nats",
    servers: [nats.url],
    caFile: null,
    credentialsFile: null,
    replicas: 1,
    streamBytesMax: 64 * 1024 * 1024,
  };
  spoolDirectory = await mkdtemp(join(tmpdir(), "sluice-nats-spool-"));
  log = testLog();
  spool = await openFileSpool({ directory: spoolDirectory, limits: defaultLimits, log });
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await spool.close();
  await nats.stop();
  await rm(spoolDirectory, { recursive: true, force: true });
});

const shared = { clock: systemClock, random: systemRandom };

async function openBus(limits: Partial<Limits> = {}, identity = gateway): Promise<NatsBus> {
  const bus = await openNatsBus({
    ...shared,
    config,
    gateway: identity.self.name,
    spoolId: spool.id,
    identity,
    log,
    limits: { ...defaultLimits, ...limits },
  });
  cleanups.push(() => bus.close());
  return bus;
}

/** Ships in the background until the test ends. */
function ship(bus: NatsBus, of: FileSpool = spool): { stop(): Promise<void> } {
  const stop = new AbortController();
  const shipping = shipSpool(of, bus, { signal: stop.signal, log, gateway: "gw-1", batchesInFlightMax: 4 });
  const end = async (): Promise<void> => {
    stop.abort();
    await shipping;
  };
  cleanups.push(end);
  return { stop: end };
}

/** A recorder in memory: what is on its "disk" outlives its process. */
class Disk {
  readonly kept = new Map<string, SessionRecord>();
  readonly places = new Map<string, number>();
  readonly sources: RecordSource[] = [];
  twice = 0;
  gate: Promise<void> = Promise.resolve();
  failures = 0;

  get sequences(): number[] {
    return [...this.kept.values()].map((record) => record.sequence);
  }

  consume = async (records: readonly SessionRecord[], details?: BatchDetails): Promise<void> => {
    await this.gate;
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error("no space left on device");
    }
    for (const record of records) {
      const key = `${record.sessionId}/${record.sequence}`;
      if (this.kept.has(key)) this.twice += 1;
      this.kept.set(key, record);
    }
    const source = details?.source;
    if (source === undefined) return;
    this.sources.push(source);
    const key = `${source.gateway}/${source.spoolId}`;
    this.places.set(key, Math.max(source.next, this.places.get(key) ?? 0));
  };
}

async function openRecorderOn(disk: Disk, identity = recorder): Promise<RecorderBus> {
  const bus = await openRecorderBus({
    ...shared,
    config,
    identity,
    consumer: { name: "recorder", consume: disk.consume },
    placeOf: (name, spoolId) => disk.places.get(`${name}/${spoolId}`),
    limits: defaultLimits,
    log,
  });
  cleanups.push(() => bus.close());
  return bus;
}

async function manager(): Promise<{ connection: NatsConnection; manager: JetStreamManager }> {
  const connection = await connect({ servers: [nats.url] });
  cleanups.push(() => connection.close());
  return { connection, manager: await jetstreamManager(connection) };
}

function append(count: number, from = 0, session = 1): void {
  for (let sequence = from; sequence < from + count; sequence++) spool.append(releasedRecord(session, sequence));
}

describe("records over NATS", () => {
  test("arrive in order, are receipted, and are forgotten by the gateway then", async () => {
    const disk = new Disk();
    await openRecorderOn(disk);
    ship(await openBus());
    append(50);
    await spool.drained();
    append(50, 50);
    await spool.drained();
    expect(disk.sequences).toEqual(Array.from({ length: 100 }, (_, sequence) => sequence));
    expect(spool.start).toBe(spool.end);
    expect(disk.sources[0]).toMatchObject({ gateway: "gw-1", spoolId: spool.id, from: 0, kept: 0, runStart: 0 });
    expect(log.sentences.filter((sentence) => sentence.includes("not accepted"))).toEqual([]);
  });
});
