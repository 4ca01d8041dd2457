import { describe, expect, test } from "vitest";
import type { PublishedBatch } from "./bus.ts";
import { createEmbeddedBus } from "./embedded-bus.ts";
import type { SessionRecord } from "./session-events.ts";
import { releasedRecord } from "./testing.ts";

const batch = (sequence: number): PublishedBatch => ({ records: [releasedRecord(1, sequence)] });
const sequences = (seen: readonly SessionRecord[]): number[] => seen.map((record) => record.sequence);

describe("embedded bus", () => {
  test("publish waits for every durable consumer, and each sees batches in order", async () => {
    const bus = createEmbeddedBus();
    const slow: SessionRecord[] = [];
    const fast: SessionRecord[] = [];
    bus.subscribe({ name: "fast", consume: async (records) => void fast.push(...records) }, { durable: true });
    const consume = async (records: readonly SessionRecord[]): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, records[0]!.sequence === 0 ? 20 : 1));
      slow.push(...records);
    };
    bus.subscribe({ name: "slow", consume }, { durable: true });
    await Promise.all([bus.publish(batch(0)), bus.publish(batch(1)), bus.publish(batch(2))]);
    expect(sequences(slow)).toEqual([0, 1, 2]);
    expect(sequences(fast)).toEqual([0, 1, 2]);
  });

  test("with no durable consumer nothing counts as delivered", async () => {
    const bus = createEmbeddedBus();
    const stop = bus.subscribe({ name: "recorder", consume: async () => undefined }, { durable: true });
    await bus.publish(batch(0));
    stop();
    await expect(bus.publish(batch(1))).rejects.toMatchObject({ code: "recording_unavailable" });
  });

  test("a durable consumer that refuses makes publish reject, and the next batch is offered all the same", async () => {
    const bus = createEmbeddedBus();
    let refusals = 1;
    const seen: SessionRecord[] = [];
    const consume = async (records: readonly SessionRecord[]): Promise<void> => {
      if (refusals-- > 0) throw new Error("disk full");
      seen.push(...records);
    };
    bus.subscribe({ name: "recorder", consume }, { durable: true });
    await expect(bus.publish(batch(0))).rejects.toThrow("disk full");
    await bus.publish(batch(0));
    expect(sequences(seen)).toEqual([0]);
  });

  test("a watcher that hangs or throws holds up nobody and loses the oldest", async () => {
    const bus = createEmbeddedBus();
    bus.subscribe({ name: "recorder", consume: async () => undefined }, { durable: true });
    const release = Promise.withResolvers<void>();
    const seen: SessionRecord[] = [];
    const consume = async (records: readonly SessionRecord[]): Promise<void> => {
      await release.promise;
      seen.push(...records);
      if (seen.length === 1) throw new Error("broken watcher");
    };
    bus.subscribe({ name: "watcher", consume }, { durable: false });
    for (let sequence = 0; sequence < 100; sequence++) await bus.publish(batch(sequence));
    release.resolve();
    await expect.poll(() => seen.at(-1)?.sequence).toBe(99);
    expect(seen.length).toBeLessThan(70);
  });

  test("closing waits for what is under way and refuses what comes after", async () => {
    const bus = createEmbeddedBus();
    let done = false;
    const consume = async (): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      done = true;
    };
    bus.subscribe({ name: "recorder", consume }, { durable: true });
    const published = bus.publish(batch(0));
    await bus.close();
    expect(done).toBe(true);
    await published;
    await expect(bus.publish(batch(1))).rejects.toMatchObject({ code: "recording_unavailable" });
  });
});
