/**
 * The bus as the recorder sees it: gateways' batches in, receipts and news of sessions out. Never signs a receipt for a place before the
 * consumer has everything up to it.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { ReceiptRequestSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { RecordConsumer } from "../bus.ts";
import type { Log } from "../log.ts";
import { type NatsConfig, type NatsLink, openNatsLink } from "./connection.ts";
import { consumeRecords, type Consumption, type ReceivedRecords } from "./consume.ts";
import { ProofSigner } from "./proof.ts";
import { encodeReceipt } from "./receipts.ts";
import { publishSessions } from "./sessions.ts";
import { RECEIPT_REQUESTS, receiptsSubject } from "./streams.ts";

export interface RecorderBusOptions {
  readonly config: NatsConfig;
  /** The recorder's identity: its name and key are what receipts are signed with. */
  readonly identity: NodeIdentity;
  /** Gets the batches of one spool at a time, in order; resolves when they are on disk. */
  readonly consumer: RecordConsumer;
  /** Up to where everything of a spool is on disk. */
  readonly placeOf: (gateway: string, spoolId: string) => number | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Limits;
  readonly log: Log;
  /** Called when records were kept, for whoever counts. */
  readonly onKept?: (kept: KeptRecords) => void;
  readonly onReceipt?: () => void;
}

export interface KeptRecords {
  readonly batches: number;
  readonly records: number;
  readonly bytes: number;
  /** How long ago the newest of them was made. */
  readonly lagMs: number;
}

export interface RecorderBus {
  readonly connected: boolean;
  /** Batches that wait for one before them. */
  readonly held: number;
  /** Finishes what is being kept, gives the rest back. */
  close(): Promise<void>;
}

/** Begins at once, also while NATS is away. */
export async function openRecorderBus(options: RecorderBusOptions): Promise<RecorderBus> {
  const { config, identity, random, log } = options;
  const link = await openNatsLink({ config, name: `sluice recorder ${identity.self.name}`, identity, random, log });
  return new Bus(options, link);
}

class Bus implements RecorderBus {
  readonly #options: RecorderBusOptions;
  readonly #link: NatsLink;
  readonly #signer: ProofSigner;
  readonly #consumption: Consumption;
  readonly #closing = new AbortController();
  #answering: NatsConnection | null = null;

  constructor(options: RecorderBusOptions, link: NatsLink) {
    this.#options = options;
    this.#link = link;
    this.#signer = new ProofSigner(options.identity);
    link.onConnection((connection) => this.#answer(connection));
    this.#consumption = consumeRecords({ ...options, link, take: (received) => this.#take(received) });
  }

  get connected(): boolean {
    return this.#link.current !== null;
  }

  get held(): number {
    return this.#consumption.held;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#consumption.close();
    await this.#link.current?.flush().catch(() => undefined); // acknowledgements that do not arrive only make messages come again
    await this.#link.close();
  }

  async #take(received: readonly ReceivedRecords[]): Promise<void> {
    for (const { source, records, encoded } of received) await this.#options.consumer.consume(records, { source, encoded });
    const connection = await this.#link.connected(this.#closing.signal);
    await publishSessions(connection, this.#options.identity.self.name, received, this.#signer);
    for (const { source } of received) {
      connection.publish(receiptsSubject(source.gateway), this.#receiptFor(source.gateway, source.spoolId));
      this.#options.onReceipt?.();
    }
    this.#count(received);
  }

  /** A gateway asks when a receipt may have been lost. */
  #answer(connection: NatsConnection): void {
    if (this.#answering === connection) return; // subscriptions outlive reconnects
    this.#answering = connection;
    connection.subscribe(RECEIPT_REQUESTS, {
      callback: (error, message) => {
        if (error !== null) return;
        try {
          const { gateway, spoolId } = fromBinary(ReceiptRequestSchema, message.data);
          message.respond(this.#receiptFor(gateway, spoolId));
        } catch (cause) {
          this.#options.log.warn({ err: cause }, "A request for a receipt could not be answered.");
        }
      },
    });
  }

  #receiptFor(gateway: string, spoolId: string): Uint8Array {
    const next = this.#options.placeOf(gateway, spoolId) ?? 0;
    return encodeReceipt({ gateway, spoolId, next, recorder: this.#options.identity.self.name }, this.#signer);
  }

  #count(received: readonly ReceivedRecords[]): void {
    const newestMs = Math.max(...received.map(({ records }) => records.at(-1)?.atMs ?? 0));
    this.#options.onKept?.({
      batches: received.length,
      records: received.reduce((sum, { records }) => sum + records.length, 0),
      bytes: received.reduce((sum, { encoded }) => sum + encoded.reduce((bytes, { byteLength }) => bytes + byteLength, 0), 0),
      lagMs: Math.max(0, this.#options.clock.nowMs() - newestMs),
    });
  }
}
