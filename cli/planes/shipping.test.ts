import { createEmbeddedBus } from "@sluice/events/embedded-bus.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import type { Spool } from "@sluice/events/spool.ts";
import { releasedRecord, testLog } from "@sluice/events/testing.ts";
import { describe, expect, test } from "vitest";
import { keepShipping } from "./shipping.ts";

describe("keepShipping", () => {
  test("reads a spool again that could not be read, and ends with the signal", async () => {
    const taken: SessionRecord[] = [];
    const bus = createEmbeddedBus();
    bus.subscribe({ name: "recorder", consume: async (records) => void taken.push(...records) }, { durable: true });
    const stop = new AbortController();
    let reads = 0;
    const spool: Partial<Spool> = {
      start: 0,
      trim: () => Promise.resolve(),
      follow: async function* () {
        reads += 1;
        if (reads < 3) throw new Error("EIO");
        yield { from: 0, records: [releasedRecord(1, 0)], encoded: [], next: 1 };
        await new Promise<void>((resolve) => stop.signal.addEventListener("abort", () => resolve()));
      },
    };
    const log = testLog();
    const shipping = keepShipping(spool as Spool, bus, { signal: stop.signal, log }, 5); // a shipper uses no more of it
    await expect.poll(() => taken.length).toBe(1);
    expect(log.sentences.length).toBe(2);
    stop.abort();
    await shipping;
  });

  test("gives up a spool that cannot be read when it is told to stop", async () => {
    const stop = new AbortController();
    const spool: Partial<Spool> = {
      start: 0,
      follow: () => {
        throw new Error("EIO");
      },
    };
    const shipping = keepShipping(spool as Spool, createEmbeddedBus(), { signal: stop.signal, log: testLog() }); // as above
    stop.abort();
    await shipping;
  });
});
