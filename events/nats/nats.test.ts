import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { releasedRecord } from "../testing.ts";
import { type Installation, RecorderDisk, startInstallation, upTo } from "../../test/support/bus-installation.ts";
import { RECORDER_CONSUMER, RECORDS_STREAM } from "./streams.ts";

let it: Installation;

beforeEach(async () => {
  it = await startInstallation();
});

afterEach(() => it.end());

const accepted = (): boolean => !it.log.sentences.some((sentence) => sentence.includes("not accepted"));

describe("records over NATS", () => {
  test("arrive in order, are receipted, and are forgotten by the gateway then", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    it.ship(await it.openBus());
    it.append(50);
    await it.spool.drained();
    it.append(50, 50);
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(100));
    expect(it.spool.start).toBe(it.spool.end);
    expect(disk.sources[0]).toMatchObject({ gateway: "gw-1", spoolId: it.spool.id, from: 0, kept: 0, runStart: 0 });
    expect(accepted()).toBe(true);
  });

  test("a record larger than any message travels in pieces", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    it.ship(await it.openBus());
    const large = randomBytes(5 * 1024 * 1024);
    it.spool.append(releasedRecord(1, 0, large));
    it.append(20, 1, 1, randomBytes(300_000));
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(21));
    const [first] = disk.kept.values();
    expect(first?.kind === "released" && first.bytes.equals(large)).toBe(true);
  });

  test("with NATS away the gateway keeps them, and goes on when it is back", async () => {
    const disk = new RecorderDisk();
    await it.nats.kill();
    await it.openRecorder(disk);
    const bus = await it.openBus();
    it.ship(bus);
    it.append(10);
    await it.spool.durable();
    expect(bus.connected).toBe(false);
    expect(it.spool.start).toBe(0);
    await it.nats.start();
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(10));
  });

  test("NATS killed and started again in mid batch loses nothing and repeats nothing in the recording", async () => {
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    it.ship(await it.openBus());
    let sequence = 0;
    for (let round = 0; round < 3; round++) {
      const kills = delay(30 + round * 40).then(() => it.nats.kill());
      for (let step = 0; step < 10; step++) {
        it.append(20, sequence, 1, randomBytes(20_000));
        sequence += 20;
        await it.spool.durable();
        await delay(10);
      }
      await kills;
      await it.nats.start();
    }
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(sequence));
    expect(accepted()).toBe(true);
  });

  test("a stream that is gone with all it had is made anew, and gets the records again", async () => {
    const disk = new RecorderDisk();
    it.ship(await it.openBus());
    it.append(10);
    const { manager } = await it.manager();
    await expect.poll(async () => (await manager.streams.info(RECORDS_STREAM).catch(() => null))?.state.messages).toBe(1);
    await manager.streams.delete(RECORDS_STREAM);
    await it.openRecorder(disk);
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(10));
  });

  test("a full stream refuses, never drops, and the gateway goes on when there is room", async () => {
    it.config = { ...it.config, streamBytesMax: 6_000_000 };
    const disk = new RecorderDisk();
    const bus = await it.openBus({ busReceiptTimeoutMs: 500 });
    it.ship(bus);
    for (let sequence = 0; sequence < 12; sequence += 3) {
      it.append(3, sequence, 1, randomBytes(1_000_000));
      await it.spool.durable();
      await delay(30); // a batch each, about
    }
    const refused = (): boolean => it.log.warnings.some(({ message }) => message.includes("the stream SLUICE_RECORDS is full"));
    await expect.poll(refused, { timeout: 5_000 }).toBe(true);
    const { manager } = await it.manager();
    const { state } = await manager.streams.info(RECORDS_STREAM);
    expect(state.bytes).toBeLessThanOrEqual(6_000_000);
    expect(state.first_seq).toBe(1);
    expect(it.spool.start).toBe(0);
    await it.openRecorder(disk);
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(12));
  });

  test("a slow recorder makes the spool crowded, and nothing is lost", async () => {
    it.spool = await (await it.spool.close(), it.openSpool({ spoolBytesMax: 400_000 }));
    const disk = new RecorderDisk();
    const { promise, resolve } = Promise.withResolvers<void>();
    disk.gate = promise;
    await it.openRecorder(disk);
    it.ship(await it.openBus({ busReceiptTimeoutMs: 300 }));
    it.append(12, 0, 1, randomBytes(20_000));
    await it.spool.durable();
    expect(it.spool.crowded).toBe(true);
    expect(() => it.append(10, 12, 1, randomBytes(20_000))).toThrow(/full/);
    const appended = it.spool.end;
    resolve();
    await it.spool.drained();
    expect(it.spool.start).toBeGreaterThanOrEqual(appended);
    expect(it.spool.crowded).toBe(false);
    expect(disk.sequences).toEqual(upTo(disk.sequences.length));
  });
});

describe("a recorder that dies", () => {
  test("before it wrote: another takes the same records", async () => {
    const dead = new RecorderDisk();
    dead.gate = new Promise(() => undefined); // never gets to write
    const first = await it.openMortalRecorder(dead);
    it.ship(await it.openBus({ busReceiptTimeoutMs: 1_000 }));
    it.append(10);
    await it.spool.durable();
    const { manager } = await it.manager();
    await expect.poll(async () => (await manager.consumers.info(RECORDS_STREAM, RECORDER_CONSUMER)).num_ack_pending).toBe(1);
    await first.kill();
    const disk = new RecorderDisk();
    await it.openRecorder(disk);
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(10));
  });

  test("after it wrote and before its receipt: nothing is lost, and what comes again is known", async () => {
    const disk = new RecorderDisk();
    const first = await it.openMortalRecorder(disk);
    const { promise: written, resolve } = Promise.withResolvers<void>();
    disk.onWritten = () => {
      resolve();
      throw new Error("killed"); // on disk, and nobody was told
    };
    it.ship(await it.openBus({ busReceiptTimeoutMs: 1_000 }));
    it.append(10);
    await written;
    await first.kill();
    expect(it.spool.start).toBe(0);
    disk.onWritten = () => undefined;
    await it.openRecorder(disk);
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(10));
    expect(it.spool.start).toBe(it.spool.end);
  });

  test("and one that lost what it knew of places goes on where gateways say they are", async () => {
    const disk = new RecorderDisk();
    const first = await it.openRecorder(disk);
    it.ship(await it.openBus({ busReceiptTimeoutMs: 1_000 }));
    it.append(10);
    await it.spool.drained();
    await first.close();
    disk.places.clear();
    await it.openRecorder(disk);
    it.append(10, 10);
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(20));
  });

  test("a disk that fails is tried again, and the order stays", async () => {
    const disk = new RecorderDisk();
    disk.failures = 3;
    await it.openRecorder(disk);
    it.ship(await it.openBus());
    for (let at = 0; at < 50; at += 10) {
      it.append(10, at);
      await it.spool.durable();
      await delay(25);
    }
    await it.spool.drained();
    expect(disk.sequences).toEqual(upTo(50));
    expect(it.log.sentences).toContain("Session records could not be kept; trying again.");
  });
});
