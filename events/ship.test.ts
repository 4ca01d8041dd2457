import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { defaultLimits } from "@sluice/core/limits.ts";
import { createEmbeddedBus } from "./embedded-bus.ts";
import { shipSpool } from "./ship.ts";
import { type FileSpool, openFileSpool } from "./spool/file-spool.ts";
import { releasedRecord, testLog } from "./testing.ts";

let directory: string;
let spool: FileSpool;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-ship-"));
  spool = await openFileSpool({ directory, limits: defaultLimits, log: testLog() });
});

afterEach(async () => {
  await spool.close();
  await rm(directory, { recursive: true, force: true });
});

test("what is durable arrives in order and is trimmed only once it was taken", async () => {
  const bus = createEmbeddedBus();
  const taken: number[] = [];
  let refusals = 2;
  const consume = async (records: readonly { readonly sequence: number }[]): Promise<void> => {
    expect(spool.start).toBeLessThan(spool.end);
    if (refusals-- > 0) throw new Error("away");
    taken.push(...records.map((record) => record.sequence));
  };
  bus.subscribe({ name: "recorder", consume }, { durable: true });
  const stop = new AbortController();
  const log = testLog();
  let progress = 0;
  const shipping = shipSpool(spool, bus, { signal: stop.signal, log, onProgress: (position) => void (progress = position) });
  for (let sequence = 0; sequence < 10; sequence++) spool.append(releasedRecord(1, sequence));
  await spool.drained();
  expect(taken).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(log.sentences.length).toBe(2);
  stop.abort();
  await shipping;
  expect(progress).toBe(spool.end);
});

test("what was not taken is offered again by the next shipper", async () => {
  const stop = new AbortController();
  const away = createEmbeddedBus();
  const shipping = shipSpool(spool, away, { signal: stop.signal, log: testLog() });
  spool.append(releasedRecord(1, 0));
  await spool.durable();
  stop.abort();
  await shipping;
  expect(spool.start).toBe(0);
  const bus = createEmbeddedBus();
  const taken: number[] = [];
  const consume = async (records: readonly { readonly sequence: number }[]): Promise<void> =>
    void taken.push(...records.map((record) => record.sequence));
  bus.subscribe({ name: "recorder", consume }, { durable: true });
  const again = new AbortController();
  const shippingAgain = shipSpool(spool, bus, { signal: again.signal, log: testLog() });
  await spool.drained();
  again.abort();
  await shippingAgain;
  expect(taken).toEqual([0]);
});
