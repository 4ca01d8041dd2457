import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { RecordBatchSchema, SessionsBatchSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { LiveIdentity } from "@sluice/rpc/identity/live-identity.ts";
import { makeTestAuthority, testIdentity } from "@sluice/rpc/testing.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { BatchDetails, RecordSource } from "../bus.ts";
import type { SessionRecord } from "../session-events.ts";
import { encodeRecord } from "../spool/record-codec.ts";
import { closedRecord, openedRecord, releasedRecord, testSessionId } from "../testing.ts";
import { encodeBatch } from "./batch-codec.ts";
import { type Installation, RecorderDisk, startInstallation, upTo } from "../../test/support/bus-installation.ts";
import { ProofSigner } from "./proof.ts";
import { encodeReceipt } from "./receipts.ts";
import { consumeSessions } from "./sessions.ts";
import {
  receiptsSubject,
  RECORDER_CONSUMER,
  RECORDS_STREAM,
  recordsSubject,
  SESSIONS_STREAM,
  sessionsSubject,
} from "./streams.ts";

let it: Installation;

beforeEach(async () => {
  it = await startInstallation();
});

afterEach(() => it.end());

const spoolId = "0123456789abcdef0123456789abcdef";
const place = (from: number, next: number, kept = 0): RecordSource => ({
  gateway: "gw-1",
  spoolId,
  from,
  next,
  kept,
  runStart: 0,
});

/** As a gateway would send it. */
async function messageOf(
  source: RecordSource,
  records: readonly SessionRecord[],
  signer: LiveIdentity = it.gateway,
): Promise<Uint8Array> {
  const [message] = await encodeBatch(source, records.map(encodeRecord), new ProofSigner(signer), 1_000_000);
  return message!; // small enough for one
}

describe("receipts", () => {
  /** Publishes what `make` returns as a receipt for all there is, and says whether the gateway forgot anything. */
  async function isTaken(signer: LiveIdentity, claimed = signer.self.name): Promise<boolean> {
    it.ship(await it.openBus());
    it.append(3);
    await it.spool.durable();
    const { connection, manager } = await it.manager();
    await expect.poll(async () => (await manager.streams.info(RECORDS_STREAM).catch(() => null))?.state.messages).toBe(1);
    const claim = { gateway: "gw-1", spoolId: it.spool.id, next: it.spool.end, recorder: claimed };
    const refusals = it.log.sentences.length;
    connection.publish(receiptsSubject("gw-1"), encodeReceipt(claim, new ProofSigner(signer)));
    await connection.flush();
    await expect.poll(() => it.log.sentences.length > refusals || it.spool.start > 0).toBe(true);
    return it.spool.start > 0;
  }

  test("of the recorder are taken", async () => {
    expect(await isTaken(it.recorder)).toBe(true);
  });

  test("of a revoked recorder are not", async () => {
    it.gateway.trust(it.authority.trust([it.recorder.self.serial]));
    expect(await isTaken(it.recorder)).toBe(false);
  });

  test("of another installation's recorder are not", async () => {
    expect(await isTaken(await testIdentity("recorder", "rec-1", {}, await makeTestAuthority("Another")))).toBe(false);
  });

  test("of a gateway that calls itself a recorder are not", async () => {
    expect(await isTaken(it.gateway)).toBe(false);
  });

  test("under another recorder's name are not", async () => {
    expect(await isTaken(it.recorder, "rec-2")).toBe(false);
  });

  test("for more than the spool has are not, and the log says what that means", async () => {
    it.ship(await it.openBus());
    it.append(3);
    await it.spool.durable();
    const { connection, manager } = await it.manager();
    await expect.poll(async () => (await manager.streams.info(RECORDS_STREAM).catch(() => null))?.state.messages).toBe(1);
    const claim = { gateway: "gw-1", spoolId: it.spool.id, next: it.spool.end + 1, recorder: "rec-1" };
    connection.publish(receiptsSubject("gw-1"), encodeReceipt(claim, new ProofSigner(it.recorder)));
    await expect.poll(() => it.log.sentences.some((sentence) => sentence.includes("put back from a copy"))).toBe(true);
    expect(it.spool.start).toBe(0);
  });
});

describe("batches", () => {
  test("that are garbage, of others, changed or of the revoked are dropped, and good ones go on", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    const { connection, manager } = await it.manager();
    await expect
      .poll(async () => (await manager.consumers.info(RECORDS_STREAM, RECORDER_CONSUMER).catch(() => null))?.name)
      .toBeDefined();
    const good = await messageOf(place(0, 100), [releasedRecord(1, 0)]);
    const changed = fromBinary(RecordBatchSchema, good);
    const revoked = await it.identity("gateway", "gw-1");
    it.recorder.trust(it.authority.trust([revoked.self.serial]));
    const bad = [
      Buffer.from("garbage"),
      Buffer.alloc(0),
      await messageOf(place(0, 100), [releasedRecord(2, 0)], await it.identity("gateway", "gw-2")),
      await messageOf(place(0, 100), [releasedRecord(3, 0)], it.recorder),
      await messageOf(place(0, 100), [releasedRecord(4, 0)], revoked),
      toBinary(RecordBatchSchema, create(RecordBatchSchema, { ...changed, kept: 0n, next: 200n })),
    ];
    for (const message of [...bad, good]) connection.publish(recordsSubject("gw-1"), message);
    await expect.poll(() => disk.kept.size).toBe(1);
    expect(disk.sequencesOf(testSessionId(1))).toEqual([0]);
    expect(it.log.sentences.filter((sentence) => sentence.includes("was not accepted")).length).toBe(bad.length);
    await expect.poll(async () => (await manager.streams.info(RECORDS_STREAM)).state.messages).toBe(0);
  });

  test("whose gateway signed records that nobody can keep are dropped, and hold up no other gateway", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    const { connection, manager } = await it.manager();
    await expect
      .poll(async () => (await manager.consumers.info(RECORDS_STREAM, RECORDER_CONSUMER).catch(() => null))?.name)
      .toBeDefined();
    const base = { sessionId: testSessionId(1), sequence: 0, atMs: 1 };
    // What a gateway in wrong hands may write.
    const bad = [
      { ...base, kind: "statement", statement: { number: 1, phase: "query", text: "", parameters: [] } },
      { ...base, kind: "opened", opened: { resource: "orders" } },
      { ...base, kind: "opened", opened: { resource: "orders", principal: { subject: "a", issuer: "b", groups: "c" } } },
      { ...base, kind: "closed", closed: { code: "x", statements: 2 ** 40, denied: 0, masked: 0 } },
      { ...base, atMs: 1e300, kind: "alert", alert: { code: "x", message: "y" } },
      { ...base, sequence: Number.MAX_SAFE_INTEGER, kind: "alert", alert: { code: "x", message: "y" } },
      { ...base, kind: "finished", finished: { number: 1 } },
    ] as unknown as SessionRecord[];
    for (const record of bad) connection.publish(recordsSubject("gw-1"), await messageOf(place(0, 100), [record]));
    const other = await it.identity("gateway", "gw-2");
    connection.publish(
      recordsSubject("gw-2"),
      await messageOf({ ...place(0, 100), gateway: "gw-2" }, [releasedRecord(2, 0)], other),
    );
    await expect.poll(() => disk.kept.size).toBe(1);
    expect(disk.sequencesOf(testSessionId(2))).toEqual([0]);
    await expect.poll(() => it.log.sentences.filter((sentence) => sentence.includes("was not accepted")).length).toBe(bad.length);
    await expect.poll(async () => (await manager.streams.info(RECORDS_STREAM)).state.messages).toBe(0);
  });

  test("wait for those before them, and nothing is receipted behind a gap", async () => {
    const disk = new RecorderDisk();
    const bus = await it.openRecorder(disk);
    const { connection, manager } = await it.manager();
    await expect
      .poll(async () => (await manager.consumers.info(RECORDS_STREAM, RECORDER_CONSUMER).catch(() => null))?.name)
      .toBeDefined();
    connection.publish(recordsSubject("gw-1"), await messageOf(place(0, 100), [releasedRecord(1, 0)]));
    connection.publish(recordsSubject("gw-1"), await messageOf(place(200, 300), [releasedRecord(1, 2)]));
    await expect.poll(() => bus.held).toBe(1);
    expect(disk.sequences).toEqual([0]);
    expect(disk.places.get(`gw-1/${spoolId}`)).toBe(100);
    connection.publish(recordsSubject("gw-1"), await messageOf(place(100, 200), [releasedRecord(1, 1)]));
    await expect.poll(() => disk.sequences, { timeout: 5_000 }).toEqual(upTo(3));
    expect(disk.places.get(`gw-1/${spoolId}`)).toBe(300);
  });

  test("of two runs of a gateway are told apart, however many are taken at once", async () => {
    const disk = new RecorderDisk();
    const { promise, resolve } = Promise.withResolvers<void>();
    disk.gate = promise;
    await it.openRecorder(disk);
    const { connection, manager } = await it.manager();
    const waiting = async (): Promise<number | undefined> =>
      (await manager.consumers.info(RECORDS_STREAM, RECORDER_CONSUMER).catch(() => null))?.num_ack_pending;
    await expect.poll(waiting).toBe(0);
    const batches: RecordSource[] = [0, 100, 200, 300, 400].map((from) => ({ ...place(from, from + 100), runStart: 300 }));
    for (const [index, source] of batches.entries())
      connection.publish(recordsSubject("gw-1"), await messageOf(source, [releasedRecord(1, index)]));
    await expect.poll(waiting).toBe(5);
    resolve();
    await expect.poll(() => disk.sequences).toEqual(upTo(5));
    expect(disk.sources.length).toBeLessThan(5);
    for (const source of disk.sources) expect(source.next <= 300 || source.from >= 300).toBe(true);
  });

  test("whose records before are receipted elsewhere are taken, and the log says so", async () => {
    const disk = new RecorderDisk();
    disk.places.set(`gw-1/${spoolId}`, 50);
    await it.openRecorder(disk);
    const { connection, manager } = await it.manager();
    await expect
      .poll(async () => (await manager.consumers.info(RECORDS_STREAM, RECORDER_CONSUMER).catch(() => null))?.name)
      .toBeDefined();
    connection.publish(recordsSubject("gw-1"), await messageOf(place(400, 500, 400), [releasedRecord(1, 0)]));
    await expect.poll(() => disk.kept.size).toBe(1);
    expect(it.log.sentences.some((sentence) => sentence.includes("two recorders"))).toBe(true);
  });
});

describe("the index of sessions", () => {
  interface Replica {
    readonly seen: SessionRecord[];
    readonly sources: RecordSource[];
  }

  async function openReplica(name: string, failures: { left: number }, order: string[]): Promise<Replica> {
    const replica: Replica = { seen: [], sources: [] };
    const consume = async (records: readonly SessionRecord[], details?: BatchDetails): Promise<void> => {
      if (failures.left > 0) {
        failures.left -= 1;
        throw new Error("the store is away");
      }
      replica.seen.push(...records);
      if (details?.source !== undefined) replica.sources.push(details.source);
      order.push(...records.map((record) => `${record.sessionId}/${record.sequence}`));
    };
    const options = { config: it.config, identity: await it.identity("control-plane", name), limits: defaultLimits, log: it.log };
    const consumption = await consumeSessions({
      ...options,
      name,
      consumer: { name: "session-index", consume },
      clock: systemClock,
      random: systemRandom,
    });
    it.onEnd(() => consumption.close());
    return replica;
  }

  test("goes on behind messages that are none, whoever wrote them", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    it.ship(await it.openBus());
    const order: string[] = [];
    await openReplica("cp-1", { left: 0 }, order);
    const { connection, manager } = await it.manager();
    await expect.poll(async () => (await manager.streams.info(SESSIONS_STREAM).catch(() => null))?.state).toBeDefined();
    // Places that no number can hold: they once ended the reading, and came again first of all.
    for (const runStart of [2n ** 64n - 1n, 2n ** 53n]) {
      const gateways = [{ gateway: "gw-1", spoolId, runStart, records: new Uint8Array() }];
      connection.publish(
        sessionsSubject("rec-1"),
        toBinary(SessionsBatchSchema, create(SessionsBatchSchema, { recorder: "rec-1", gateways })),
      );
    }
    await connection.flush();
    it.spool.append(openedRecord(1));
    await expect.poll(() => order, { timeout: 10_000 }).toEqual([`${testSessionId(1)}/0`]);
  });

  test("gets beginnings and ends in order, shared by two replicas, without texts and rows", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    it.ship(await it.openBus());
    const order: string[] = [];
    const failures = { left: 2 };
    const replicas = [await openReplica("cp-1", failures, order), await openReplica("cp-2", failures, order)];
    const expected: string[] = [];
    for (let session = 1; session <= 12; session++) {
      it.spool.append(openedRecord(session));
      const statement = {
        number: 1,
        phase: "query" as const,
        text: "SELECT secret",
        parameters: ["secret"],
        decision: { id: "d", effect: "allow" },
      };
      it.spool.append({ sessionId: testSessionId(session), sequence: 1, atMs: 1, kind: "statement", statement });
      it.spool.append(releasedRecord(session, 2, "secret"));
      it.spool.append(closedRecord(session, 3));
      expected.push(...[0, 1, 3].map((sequence) => `${testSessionId(session)}/${sequence}`));
      await it.spool.drained();
    }
    await expect.poll(() => order.length, { timeout: 10_000 }).toBe(expected.length);
    expect(order).toEqual(expected);
    const seen = replicas.flatMap((replica) => replica.seen);
    expect(JSON.stringify(seen)).not.toContain("secret");
    expect(replicas[0]!.sources.concat(replicas[1]!.sources)[0]).toMatchObject({ gateway: "gw-1", spoolId: it.spool.id });
    const { manager } = await it.manager();
    await expect.poll(async () => (await manager.streams.info(SESSIONS_STREAM)).state.messages).toBe(0);
  });

  test("takes nothing that the recorder did not sign", async () => {
    await it.openRecorder(new RecorderDisk());
    const order: string[] = [];
    await openReplica("cp-1", { left: 0 }, order);
    const { connection, manager } = await it.manager();
    await expect.poll(async () => (await manager.streams.info(SESSIONS_STREAM).catch(() => null))?.config.name).toBeDefined();
    connection.publish("sluice.sessions.rec-1", Buffer.from("garbage"));
    connection.publish("sluice.sessions.rec-1", await messageOf(place(0, 1), [openedRecord(1)]));
    await expect
      .poll(() => it.log.sentences.filter((sentence) => sentence.includes("about sessions was not accepted")).length)
      .toBe(2);
    expect(order).toEqual([]);
  });
});
