/** Carries session records from gateways to whoever keeps or watches them. Embedded when alone, NATS JetStream otherwise. */
import type { SessionRecord } from "./session-events.ts";
import type { EncodedRecord } from "./spool/record-codec.ts";
import type { SpoolPosition } from "./spool.ts";

export interface RecordConsumer {
  readonly name: string;
  /**
   * Takes a batch. Resolving means it is safe with this consumer; rejecting means it will be offered again (deduplicate by session and
   * sequence). Its bytes are the spool's own: once this has settled nothing may look at them any more.
   */
  consume(records: readonly SessionRecord[], details?: BatchDetails): Promise<void>;
}

/** What comes along with the records of a batch. */
export interface BatchDetails {
  /** The same records as the spool encoded them, one for one: whoever writes them need not encode again. */
  readonly encoded?: readonly EncodedRecord[];
  readonly source?: RecordSource;
}

/** Where a batch comes from, and its place there. */
export interface RecordSource {
  /** The gateway's name; empty where all planes are one process. */
  readonly gateway: string;
  /** Of one spool directory: another spool begins a new count. */
  readonly spoolId: string;
  readonly from: SpoolPosition;
  readonly next: SpoolPosition;
  /** Everything before this place was acknowledged when the batch was offered. */
  readonly kept: SpoolPosition;
  /** Where the gateway's present run began: no session with records before it gets more of them. */
  readonly runStart: SpoolPosition;
}

/** A batch on its way: the records may be decoded only when they are looked at. */
export interface PublishedBatch {
  readonly records: readonly SessionRecord[];
  readonly encoded?: readonly EncodedRecord[];
  readonly source?: RecordSource;
}

export interface EventBus {
  /** Resolves when every durable consumer has the batch; rejects when that took too long, or soon after `signal` aborts. */
  publish(batch: PublishedBatch, signal?: AbortSignal): Promise<void>;
  /** Durable consumers are waited for by `publish`; others get what they can take. */
  subscribe(consumer: RecordConsumer, options: { readonly durable: boolean }): () => void;
  close(): Promise<void>;
}
