/** Carries session records from gateways to whoever keeps or watches them. Embedded when alone, NATS JetStream otherwise. */
import type { SessionRecord } from "./session-events.ts";

export interface RecordConsumer {
  readonly name: string;
  /** Takes a batch. Resolving means it is safe with this consumer; rejecting means it will be offered again (deduplicate by session and sequence). */
  consume(records: readonly SessionRecord[]): Promise<void>;
}

export interface EventBus {
  /** Resolves when every durable consumer has the batch. */
  publish(records: readonly SessionRecord[]): Promise<void>;
  /** Durable consumers are waited for by `publish`; others get what they can take. */
  subscribe(consumer: RecordConsumer, options: { readonly durable: boolean }): () => void;
  close(): Promise<void>;
}
