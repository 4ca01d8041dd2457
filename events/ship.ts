/**
 * Carries records from a gateway's spool to the bus, at least once and in order. Never trims a record before the bus has said that every
 * durable consumer has it and everything before it, and never gives up: a consumer that is away only makes the spool grow.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { EventBus, PublishedBatch, RecordSource } from "./bus.ts";
import type { Log } from "./log.ts";
import type { Spool, SpoolBatch, SpoolPosition } from "./spool.ts";

export interface ShipOptions {
  /** Ends shipping at once; what was not delivered is offered again after the next start. Await `spool.drained()` first for an orderly end. */
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Who ships, when it is one of several gateways. */
  readonly gateway?: string;
  /** Batches that may be on their way at the same time; 1 without it. A bus that takes its time needs more, each of some 4 MiB. */
  readonly batchesInFlightMax?: number;
  /** Called after each delivered batch with the position behind it. */
  readonly onProgress?: (position: SpoolPosition) => void;
}

/** Between batches, so that many small commits reach the recorder as one: each batch costs it a sync for every session in it. */
const LINGER_MS = 20;
/** After a batch this large the next is waiting already: then the recorder is what everything waits for. */
const LINGER_BYTES_MAX = 1024 * 1024;
const RETRY_FIRST_MS = 100;
/** Short enough that a recorder that came back is noticed, long enough to leave a broken one alone. */
const RETRY_MAX_MS = 5_000;

/** Ships until the signal aborts; resolves then. Rejects only when the spool itself cannot be read. */
export async function shipSpool(spool: Spool, bus: EventBus, options: ShipOptions): Promise<void> {
  const unreadable = new AbortController();
  const signal = AbortSignal.any([options.signal, unreadable.signal]);
  const inFlight: Promise<void>[] = [];
  let delivered: Promise<void> = Promise.resolve();
  let unbroken = true;
  try {
    for await (const batch of spool.follow(spool.start, signal)) {
      const published = publish(spool, batch, bus, options, signal);
      const before = delivered;
      delivered = before.then(async () => {
        const taken = await published;
        unbroken &&= taken; // what follows a batch that was not taken may be taken, but not trimmed
        if (!unbroken) return;
        await trim(spool, batch.next, options.log);
        options.onProgress?.(batch.next);
      });
      inFlight.push(delivered);
      if (inFlight.length >= (options.batchesInFlightMax ?? 1)) await inFlight.shift();
      if (batch.next - batch.from < LINGER_BYTES_MAX) await pause(LINGER_MS, signal);
    }
  } finally {
    unreadable.abort();
    await delivered;
  }
}

/** Offers one batch until it is taken. False when the signal came first. */
async function publish(
  spool: Spool,
  batch: SpoolBatch,
  bus: EventBus,
  { log, gateway = "" }: ShipOptions,
  signal: AbortSignal,
): Promise<boolean> {
  for (let retryMs = RETRY_FIRST_MS; !signal.aborted; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
    try {
      const { from, next } = batch;
      const source: RecordSource = { gateway, spoolId: spool.id, from, next, kept: spool.start, runStart: spool.runStart };
      const offered: PublishedBatch = {
        get records() {
          return batch.records; // decoded only for who looks at it
        },
        encoded: batch.encoded,
        source,
      };
      await bus.publish(offered, signal);
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      log.warn(
        { err: error, records: batch.encoded.length, retryMs },
        "Session records were not taken by every consumer; trying again.",
      );
      await pause(retryMs, signal);
    }
  }
  return false;
}

/** Forgetting is no promise to anybody: if it fails, the records are offered again some day and deduplicated. */
async function trim(spool: Spool, position: SpoolPosition, log: Log): Promise<void> {
  try {
    await spool.trim(position);
  } catch (error) {
    log.warn({ err: error, position }, "The spool could not forget records that were delivered.");
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch {
    // Aborted: the caller looks at the signal.
  }
}
