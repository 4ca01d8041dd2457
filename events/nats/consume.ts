/**
 * The recorder's end of the bus: batches of all gateways, each gateway's in order, each checked to be its gateway's own. Never hands on a
 * batch before everything of its spool that went before it, and never acknowledges one before the handler has it: what is not taken stays
 * with JetStream, and with the gateway until it has a receipt.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type ConsumerMessages, jetstream, type JsMsg } from "@nats-io/jetstream";
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { RecordSource } from "../bus.ts";
import type { Log } from "../log.ts";
import { type BatchPiece, checkBatch, decodePiece, type UnpackedRecords, unpackRecords } from "./batch-codec.ts";
import type { NatsConfig, NatsLink } from "./connection.ts";
import { watchForgotten } from "./forgotten.ts";
import { Pieces, type WholeBatch } from "./pieces.ts";
import { ACK_WAIT_MS, ensureStreams, RECORDER_CONSUMER, RECORDS_STREAM } from "./streams.ts";

/** Batches of one spool, in order and without a gap between them. */
export interface ReceivedRecords extends UnpackedRecords {
  /** Of all of them together. */
  readonly source: RecordSource;
}

export interface ConsumeOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly identity: NodeIdentity;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly log: Log;
  /** Up to where everything of a spool was taken; undefined when it is not known. */
  readonly placeOf: (gateway: string, spoolId: string) => number | undefined;
  /** Resolves when everything is safe. What it throws is logged, and the same is offered again until it is taken. */
  readonly take: (received: readonly ReceivedRecords[]) => Promise<void>;
}

export interface Consumption {
  /** Batches that wait for one before them, as last seen. */
  readonly held: number;
  /** Lets what was begun be finished; the rest is given back. */
  close(): Promise<void>;
}

/** Taken together at most about this much: each taking costs a sync for every session in it. */
const GATHER_BYTES = 8 * 1024 * 1024;
/** What may wait in memory to be taken. */
const PULL_BYTES = 32 * 1024 * 1024;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
/** Given back for so long when one before it is missing, longer each time. */
const HOLD_FIRST_MS = 250;
const HOLD_MAX_MS = 60_000;
/** About a day: then the gateway and its disk are gone, and what there is, is kept, with the gap in the recordings. */
const HOLDS_MAX = 1_440;
/** Pieces of a batch of which others never came: after about this many times they are dropped; the gateway has no receipt and sends again. */
const INCOMPLETE_MAX = 60;

/** Begins at once and goes on until closed, whatever NATS does. */
export function consumeRecords(options: ConsumeOptions): Consumption {
  const feed = new Feed(options);
  feed.start();
  return feed;
}

class Feed implements Consumption {
  readonly #options: ConsumeOptions;
  readonly #closing = new AbortController();
  readonly #pieces = new Pieces();
  #gathered: Gathered[] = [];
  #gatheredBytes = 0;
  #heldNow = 0;
  #messages: ConsumerMessages | null = null;
  #running: Promise<void> = Promise.resolve();
  held = 0;

  constructor(options: ConsumeOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#messages?.stop();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { link, config, log } = this.#options;
    const working = setInterval(() => this.#sayWorking(), ACK_WAIT_MS / 3);
    const watch = watchForgotten({ ...this.#options, stream: RECORDS_STREAM, consumer: RECORDER_CONSUMER });
    for (let retryMs = RETRY_FIRST_MS; !signal.aborted; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      try {
        const connection = await link.connected(signal);
        await ensureStreams(connection, config, { owner: true });
        const consumer = await jetstream(connection).consumers.get(RECORDS_STREAM, RECORDER_CONSUMER);
        const bytes = Math.max(PULL_BYTES, 2 * (connection.info?.max_payload ?? 0));
        this.#messages = await consumer.consume({ max_bytes: bytes, abort_on_missing_resource: true });
        retryMs = RETRY_FIRST_MS;
        if (!signal.aborted) await this.#read(this.#messages);
      } catch (error) {
        if (signal.aborted) break;
        log.warn({ err: error, retryMs }, "Session records could not be read from NATS; trying again.");
      }
      this.#giveBack();
      await delay(retryMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
    }
    clearInterval(working);
    await watch();
    this.#giveBack();
  }

  async #read(messages: ConsumerMessages): Promise<void> {
    const iterator = messages[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = iterator.next();
        if (!(await isHere(next)) || this.#gatheredBytes >= GATHER_BYTES) {
          await this.#takeGathered();
          this.held = this.#heldNow;
          this.#heldNow = 0;
        }
        const { done, value } = await next;
        if (done === true) return;
        if (this.#closing.signal.aborted) value.nak();
        else await this.#gather(value);
      }
    } finally {
      messages.stop();
    }
  }

  async #gather(message: JsMsg): Promise<void> {
    const piece = decodePiece(message.data);
    if (piece === null) return this.#drop([message], "it is no batch of records");
    const whole = this.#pieces.add(piece, message);
    if (whole !== null) return this.#gatherWhole(whole);
    if (message.info.deliveryCount > INCOMPLETE_MAX) this.#drop(this.#pieces.forget(piece), "a part of it never came");
  }

  async #gatherWhole({ piece, packed, messages }: WholeBatch): Promise<void> {
    const { identity, limits } = this.#options;
    const [first] = messages;
    if (first === undefined) return;
    const refusal = checkBatch(piece, packed, identity, first.time.getTime());
    if (refusal !== null) return this.#drop(messages, refusal, piece);
    const reached = this.#reached(piece.source);
    if (piece.source.from > reached) {
      if (first.info.deliveryCount <= HOLDS_MAX) return this.#hold(messages);
      this.#options.log.error(
        { gateway: piece.source.gateway, place: piece.source.from },
        "Records of a gateway never came, and those behind them are kept without them.",
      );
    }
    const unpacked = await unpackRecords(packed, limits.busBatchBytesMax);
    if (typeof unpacked === "string") return this.#drop(messages, unpacked, piece);
    // Behind a gap that nobody fills any more, what there is, is kept; but its place does not count as reached.
    const source = piece.source.from > reached ? { ...piece.source, from: reached, next: reached } : piece.source;
    this.#gathered.push({ source, unpacked, messages });
    this.#gatheredBytes += unpacked.encoded.reduce((bytes, { byteLength }) => bytes + byteLength, 0);
  }

  /** Up to where everything of a batch's spool is taken or gathered. */
  #reached(source: RecordSource): number {
    const { gateway, spoolId } = source;
    const known = this.#options.placeOf(gateway, spoolId);
    if (known !== undefined && source.kept > known)
      this.#options.log.error(
        { gateway, place: known, kept: source.kept },
        "A gateway has receipts for records that this recorder does not have: its directory was put back from a copy, or there are two recorders.",
      );
    let reached = Math.max(known ?? 0, source.kept);
    for (const { source: before } of this.#gathered)
      if (before.gateway === gateway && before.spoolId === spoolId) reached = Math.max(reached, before.next);
    return reached;
  }

  async #takeGathered(): Promise<void> {
    const gathered = this.#gathered;
    if (gathered.length === 0) return;
    const received = merge(gathered);
    const { signal } = this.#closing;
    for (let retryMs = RETRY_FIRST_MS; !signal.aborted; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
      try {
        await this.#options.take(received);
        for (const { messages } of gathered) for (const message of messages) message.ack();
        this.#gathered = [];
        this.#gatheredBytes = 0;
        return;
      } catch (error) {
        this.#options.log.error({ err: error, retryMs }, "Session records could not be kept; trying again.");
        await delay(retryMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
      }
    }
  }

  /** Not sent again while the recorder is at it. Pieces of unfinished batches are, so that somebody counts how often. */
  #sayWorking(): void {
    for (const { messages } of this.#gathered) for (const message of messages) message.working();
  }

  /** One before it is missing: a message that comes again, or that its gateway sends again. */
  #hold(messages: readonly JsMsg[]): void {
    this.#heldNow += 1;
    for (const message of messages)
      message.nak(Math.min(HOLD_FIRST_MS * 2 ** Math.min(16, message.info.deliveryCount - 1), HOLD_MAX_MS));
  }

  #drop(messages: readonly JsMsg[], reason: string, piece?: BatchPiece): void {
    for (const message of messages) message.term(); // servers before 2.11 understand no reason, and then not the word
    this.#options.log.error(
      { subject: messages[0]?.subject, gateway: piece?.source.gateway, reason },
      "A message with session records was not accepted. A gateway that sent it still has them.",
    );
  }

  #giveBack(): void {
    for (const { messages } of this.#gathered) for (const message of messages) message.nak();
    for (const message of this.#pieces.clear()) message.nak();
    this.#gathered = [];
    this.#gatheredBytes = 0;
  }
}

/**
 * Whether a message is at hand. Not asked of the library: it counts more than there are once anything but a message went through its
 * queue, and what is gathered would wait for messages that nobody sends while it waits. Also settles what `next` may reject with.
 */
async function isHere(next: Promise<unknown>): Promise<boolean> {
  const settled = next.then(
    () => true,
    () => true,
  );
  return await Promise.race([settled, new Promise<false>((resolve) => void setImmediate(resolve, false))]);
}

interface Gathered {
  readonly source: RecordSource;
  readonly unpacked: UnpackedRecords;
  readonly messages: readonly JsMsg[];
}

/** Batches of one spool put together, but never of two of its gateway's runs: which sessions died with the earlier one is told by that. */
function merge(gathered: readonly Gathered[]): readonly ReceivedRecords[] {
  const byRun = Map.groupBy(gathered, ({ source: { gateway, spoolId, next, runStart } }) =>
    [gateway, spoolId, runStart, next <= runStart].join("/"),
  );
  return [...byRun.values()].flatMap((batches) => {
    const [first] = batches;
    if (first === undefined) return [];
    const next = Math.max(...batches.map(({ source }) => source.next));
    return [
      {
        source: { ...first.source, next },
        records: batches.flatMap(({ unpacked }) => unpacked.records),
        encoded: batches.flatMap(({ unpacked }) => unpacked.encoded),
      },
    ];
  });
}
