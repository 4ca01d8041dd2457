/**
 * The bus as a gateway sees it when the recorder is another process: batches go into a JetStream stream, and are done when the recorder's
 * signed receipt has come. Never done for any other reason: JetStream acknowledges before its disk has anything, and whoever may write to
 * the bus may write anything. Holds at most what `publish` was given and has not resolved.
 */
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { JetStreamApiCodes, jetstream } from "@nats-io/jetstream";
import { type NatsConnection, RequestError } from "@nats-io/transport-node";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { ReceiptRequestSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { EventBus, PublishedBatch, RecordSource } from "../bus.ts";
import type { Log } from "../log.ts";
import { encodeRecord, type EncodedRecord } from "../spool/record-codec.ts";
import { encodeBatch } from "./batch-codec.ts";
import { type NatsConfig, type NatsLink, openNatsLink } from "./connection.ts";
import { ProofSigner } from "./proof.ts";
import { readReceipt } from "./receipts.ts";
import { ensureStreams, isApiError, RECEIPT_REQUESTS, receiptsSubject, RECORDS_STREAM, recordsSubject } from "./streams.ts";

export interface NatsBusOptions {
  readonly config: NatsConfig;
  /** This gateway's name, as its certificate says it. */
  readonly gateway: string;
  /** Of the spool whose records are published: `Spool.id`. */
  readonly spoolId: string;
  readonly identity: NodeIdentity;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly limits: Limits;
}

/** A bus that also tells how it is. */
export interface NatsBus extends EventBus {
  readonly connected: boolean;
  /** Everything of the spool before this place has a receipt. */
  readonly receipted: number;
}

/** After this without a receipt the recorder is asked, then at growing intervals. */
const ASK_FIRST_MS = 1_000;
const ASK_MAX_MS = 5_000;
const REQUEST_TIMEOUT_MS = 3_000;
/** JetStream's own code for a stream that has no room. */
const STREAM_FULL = 10077;
const STREAM_FULL_MESSAGES = 10073;

const ROLLED_BACK =
  "The recorder has more of this spool than there is: it was put back from a copy. Nothing is forgotten on its word; move `spool-id` out of the spool's directory and start again.";

/** Returns at once, also while NATS is away. Throws `config_invalid` when a file that the configuration names cannot be read. */
export async function openNatsBus(options: NatsBusOptions): Promise<NatsBus> {
  const { config, gateway, identity, random, log } = options;
  const link = await openNatsLink({ config, name: `sluice gateway ${gateway}`, identity, random, log });
  return new Bus(options, link);
}

/** A batch that was sent and has no receipt yet. */
interface Sent {
  readonly next: number;
  /** What was said to have receipts when it was sent. */
  readonly kept: number;
  /** The stream's numbers of its messages. */
  readonly sequences: readonly number[];
}

/** A batch of which some messages may be in the stream: tried again as the same ones, which JetStream knows by their id. */
interface Unsent {
  readonly next: number;
  readonly id: string;
  readonly messages: readonly Uint8Array[];
}

class Bus implements NatsBus {
  readonly #options: NatsBusOptions;
  readonly #link: NatsLink;
  readonly #signer: ProofSigner;
  readonly #closing = new AbortController();
  /** Another one after each start: a message of an earlier run may have been signed differently. */
  readonly #run: string;
  /** By the batch's place. */
  readonly #sent = new Map<string, Sent>();
  readonly #unsent = new Map<string, Unsent>();
  #first: Promise<unknown> | null = null;
  readonly #waiting = new Set<() => void>();
  #sending: Promise<unknown> = Promise.resolve();
  /** No receipt can be for more: as far as the spool is known to reach. */
  #end = 0;
  #receipted = 0;
  /** What the recorder last said, when asked or not. */
  #answered = 0;
  #messages = 0;
  #subscribed: NatsConnection | null = null;
  /** On which the streams were found. */
  #prepared: NatsConnection | null = null;

  constructor(options: NatsBusOptions, link: NatsLink) {
    this.#options = options;
    this.#link = link;
    this.#signer = new ProofSigner(options.identity);
    this.#run = Buffer.from(options.random.bytes(8)).toString("hex");
    link.onConnection((connection) => this.#listen(connection));
  }

  get connected(): boolean {
    return this.#link.current !== null;
  }

  get receipted(): number {
    return this.#receipted;
  }

  async publish(batch: PublishedBatch, given?: AbortSignal): Promise<void> {
    const { source } = batch;
    if (source === undefined || source.spoolId !== this.#options.spoolId) throw new Error("a batch of another spool");
    const timeout = AbortSignal.timeout(this.#options.limits.busReceiptTimeoutMs);
    const signal = AbortSignal.any([timeout, this.#closing.signal, ...(given === undefined ? [] : [given])]);
    const place = `${source.from}-${source.next}`;
    this.#end = Math.max(this.#end, source.runStart, source.next);
    // What the recorder has of an earlier run need not be sent again.
    this.#first ??= this.#link.connected(signal).then((connection) => this.#ask(connection, signal));
    await this.#first.catch(() => (this.#first = null)); // the link was closed, or this took too long: the loop finds out
    let askMs = this.#sent.has(place) ? 0 : ASK_FIRST_MS; // offered again: the recorder is asked at once
    for (; this.#receipted < source.next; askMs = Math.min(Math.max(askMs * 2, ASK_FIRST_MS), ASK_MAX_MS)) {
      const connection = await this.#link.connected(signal);
      if (!this.#sent.has(place)) await this.#inTurn(() => this.#send(connection, place, source, batch, signal));
      if (await this.#reached(source.next, askMs, signal)) break;
      if (signal.aborted) throw noReceipt();
      if (!(await this.#ask(connection, signal))) continue;
      if (this.#receipted < source.next && (await this.#isGone(connection, place, source))) this.#sent.delete(place);
    }
    for (const known of [this.#sent, this.#unsent])
      for (const [place, { next }] of known) if (next <= this.#receipted) known.delete(place);
  }

  subscribe(): () => void {
    throw new Error("a gateway's bus has no consumers: they are elsewhere");
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#sending.catch(() => undefined); // its publisher was told
    await this.#link.close();
  }

  /** One after the other, so that batches stand in the stream in their order. */
  #inTurn<Value>(task: () => Promise<Value>): Promise<Value> {
    const done = this.#sending.then(task);
    this.#sending = done.catch(() => undefined); // whoever waits for it is told
    return done;
  }

  async #send(
    connection: NatsConnection,
    place: string,
    source: RecordSource,
    batch: PublishedBatch,
    signal: AbortSignal,
  ): Promise<void> {
    if (signal.aborted) throw noReceipt();
    // Pieces of several unfinished batches could fill a stream that then never has room for the rest of any.
    for (const { next } of this.#unsent.values()) if (next <= source.from) throw undelivered(new Error("those before them wait"));
    const { config } = this.#options;
    const { id, messages } = this.#unsent.get(place) ?? (await this.#prepare(connection, source, batch));
    this.#unsent.set(place, { id, messages, next: source.next });
    try {
      // Without the recorder's consumer a stream keeps nothing, and says that it took it.
      if (this.#prepared !== connection) await ensureStreams(connection, config, { owner: false });
      this.#prepared = connection;
      let sequences = await this.#sendAll(connection, messages, id);
      if (sequences === null) {
        await ensureStreams(connection, config, { owner: false });
        sequences = await this.#sendAll(connection, messages, id);
      }
      if (sequences === null) throw new Error("no stream takes session records");
      this.#sent.set(place, { next: source.next, kept: source.kept, sequences });
      this.#unsent.delete(place);
    } catch (error) {
      throw undelivered(error);
    }
  }

  async #prepare(
    connection: NatsConnection,
    source: RecordSource,
    batch: PublishedBatch,
  ): Promise<Pick<Unsent, "id" | "messages">> {
    const encoded: readonly EncodedRecord[] = batch.encoded ?? batch.records.map(encodeRecord);
    const messages = await encodeBatch(source, encoded, this.#signer, connection.info?.max_payload ?? 0);
    this.#messages += 1;
    return { id: `${this.#run}.${this.#messages}`, messages };
  }

  /** One after the other: a batch of many pieces must not fill the connection's buffer. Null when there is no stream. */
  async #sendAll(connection: NatsConnection, messages: readonly Uint8Array[], id: string): Promise<readonly number[] | null> {
    const client = jetstream(connection, { timeout: REQUEST_TIMEOUT_MS });
    const sequences: number[] = [];
    try {
      for (const [part, message] of messages.entries())
        sequences.push((await client.publish(recordsSubject(this.#options.gateway), message, { msgID: `${id}.${part}` })).seq);
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined;
      if (cause instanceof RequestError && cause.isNoResponders()) return null; // nobody listens on the subject
      throw error;
    }
    return sequences;
  }

  /** Whether everything before `next` has a receipt, at the latest after `ms`. */
  async #reached(next: number, ms: number, signal: AbortSignal): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.#receipted >= next) resolve();
    };
    const stop = new AbortController();
    this.#waiting.add(look);
    look();
    try {
      await Promise.race([promise, delay(ms, undefined, { signal: AbortSignal.any([signal, stop.signal]) })]);
    } catch {
      // Aborted: the caller looks at the signal.
    } finally {
      stop.abort();
      this.#waiting.delete(look);
    }
    return this.#receipted >= next;
  }

  /** Asks the recorder how far it is, since a receipt may have been lost. False when it does not answer. */
  async #ask(connection: NatsConnection, signal: AbortSignal): Promise<boolean> {
    const { gateway, spoolId } = this.#options;
    const request = toBinary(ReceiptRequestSchema, create(ReceiptRequestSchema, { gateway, spoolId }));
    try {
      const answer = await connection.request(RECEIPT_REQUESTS, request, { timeout: REQUEST_TIMEOUT_MS });
      return !signal.aborted && this.#take(answer.data);
    } catch {
      return false; // away: the stream keeps what it has, and the caller asks again
    }
  }

  /**
   * Whether a batch must be sent anew: a message of it is not in the stream any more although there is no receipt, or the recorder does not
   * know what went before it and the batch did not say that it had been receipted.
   */
  async #isGone(connection: NatsConnection, place: string, source: RecordSource): Promise<boolean> {
    const sent = this.#sent.get(place);
    if (sent === undefined) return true;
    if (source.from === source.kept && sent.kept < source.kept && this.#answered < source.from) return true;
    try {
      const manager = await ensureStreams(connection, this.#options.config, { owner: false });
      for (const seq of sent.sequences) if ((await manager.streams.getMessage(RECORDS_STREAM, { seq })) === null) return true;
      return false;
    } catch (error) {
      return isApiError(error, JetStreamApiCodes.NoMessageFound);
    }
  }

  #listen(connection: NatsConnection): void {
    if (this.#subscribed === connection) return; // subscriptions outlive reconnects
    this.#subscribed = connection;
    connection.subscribe(receiptsSubject(this.#options.gateway), {
      callback: (error, message) => {
        if (error === null) this.#take(message.data);
      },
    });
  }

  #take(bytes: Uint8Array): boolean {
    const { identity, clock, log, gateway, spoolId } = this.#options;
    const claim = readReceipt(bytes, identity, clock);
    if (typeof claim === "string") {
      log.warn({ reason: claim }, "A receipt for session records was not accepted.");
      return false;
    }
    if (claim.gateway !== gateway || claim.spoolId !== spoolId) return false;
    if (claim.next > this.#end) {
      // Before the first batch nothing is known of the spool's end.
      if (this.#end > 0) log.error({ place: claim.next, end: this.#end }, ROLLED_BACK);
      return false;
    }
    this.#answered = claim.next;
    if (claim.next > this.#receipted) {
      this.#receipted = claim.next;
      for (const look of this.#waiting) look();
    }
    return true;
  }
}

function undelivered(cause: unknown): GatewayError {
  if (cause instanceof GatewayError) return cause;
  if (isApiError(cause, STREAM_FULL) || isApiError(cause, STREAM_FULL_MESSAGES))
    return new GatewayError(
      "recording_unavailable",
      `Session records cannot be delivered: the stream ${RECORDS_STREAM} is full.`,
      {
        cause,
        hint: "The recorder does not take records, or not fast enough. They stay in the gateway's spool and are offered again.",
      },
    );
  return new GatewayError("recording_unavailable", "Session records cannot be delivered: NATS did not take them.", {
    cause,
    hint: "They stay in the gateway's spool and are offered again.",
  });
}

function noReceipt(): GatewayError {
  return new GatewayError("recording_unavailable", "Session records were not receipted by the recorder in time.", {
    hint: "They stay in the gateway's spool until the recorder has them. Look at the recorder and at its connection to NATS.",
  });
}
