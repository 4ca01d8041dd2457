/**
 * The bus inside one process: hands batches to consumers as function calls. Never calls a batch delivered while no durable consumer is
 * subscribed (it would be forgotten by all), and never lets a slow watcher hold up a durable one.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { EventBus, PublishedBatch, RecordConsumer } from "./bus.ts";

/** A watcher that is this many batches behind loses the oldest: it is told nothing, since it can see the gap in sequences. */
const WATCHER_BATCHES_MAX = 64;

/**
 * `publish` rejects with the first durable consumer's error (others may have the batch: they deduplicate), or with
 * `recording_unavailable` when there is none or the bus is closed. Each consumer gets one batch at a time, in order.
 */
export function createEmbeddedBus(): EventBus {
  const durable = new Set<DurableLane>();
  const watching = new Set<WatcherLane>();
  let closed = false;
  return {
    publish: async (batch) => {
      if (closed) throw refused("the event bus is closed");
      if (durable.size === 0) throw refused("no recorder is subscribed");
      if (watching.size > 0) {
        const copy = copyOf(batch);
        for (const watcher of watching) watcher.offer(copy);
      }
      await Promise.all(Array.from(durable, (lane) => lane.deliver(batch)));
    },
    subscribe: (consumer, { durable: isDurable }) => {
      if (isDurable) return enter(durable, new DurableLane(consumer));
      return enter(watching, new WatcherLane(consumer));
    },
    close: async () => {
      closed = true;
      watching.clear();
      await Promise.all(Array.from(durable, (lane) => lane.idle()));
      durable.clear();
    },
  };
}

/** Watchers look at it when its memory may have been written to again. */
function copyOf({ records, source }: PublishedBatch): PublishedBatch {
  const copied = records.map((record) => (record.kind === "released" ? { ...record, bytes: Buffer.from(record.bytes) } : record));
  return { records: copied, ...(source === undefined ? {} : { source }) };
}

function enter<Lane>(lanes: Set<Lane>, lane: Lane): () => void {
  lanes.add(lane);
  return () => void lanes.delete(lane);
}

/** One durable consumer: batches wait for their turn, so that it sees them in the order in which they were published. */
class DurableLane {
  readonly #consumer: RecordConsumer;
  #last: Promise<void> = Promise.resolve();

  constructor(consumer: RecordConsumer) {
    this.#consumer = consumer;
  }

  deliver(batch: PublishedBatch): Promise<void> {
    const delivered = this.#last.then(() => this.#consumer.consume(batch.records, batch));
    this.#last = delivered.catch(() => undefined); // its publisher is told; the next batch is not held up
    return delivered;
  }

  idle(): Promise<void> {
    return this.#last;
  }
}

/** One watcher: a short queue, the oldest batch dropped when it is full, failures forgotten. */
class WatcherLane {
  readonly #consumer: RecordConsumer;
  readonly #waiting: PublishedBatch[] = [];
  #busy = false;

  constructor(consumer: RecordConsumer) {
    this.#consumer = consumer;
  }

  offer(batch: PublishedBatch): void {
    if (this.#waiting.length === WATCHER_BATCHES_MAX) this.#waiting.shift();
    this.#waiting.push(batch);
    if (!this.#busy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    for (let batch = this.#waiting.shift(); batch !== undefined; batch = this.#waiting.shift()) {
      try {
        await this.#consumer.consume(batch.records, batch);
      } catch {
        // A watcher gets what it can take: what it refuses is gone for it.
      }
    }
    this.#busy = false;
  }
}

function refused(why: string): GatewayError {
  return new GatewayError("recording_unavailable", `Session records cannot be delivered: ${why}.`, {
    hint: "They stay in the gateway's spool and are offered again.",
  });
}
