/**
 * The gateway's own durable buffer of session records. It is what "recorded before released" rests on: bytes leave the gateway
 * only after `durable()` has resolved for the record that holds them. Full or broken means no.
 */
import type { SessionRecord } from "./session-events.ts";
import type { EncodedRecord } from "./spool/record-codec.ts";

/** A place in the spool: records before it are older. Opaque, ordered, survives restarts. */
export type SpoolPosition = number;

export interface Spool {
  /**
   * Appends in order, without waiting. The record's `bytes` must never be written to afterwards. Throws GatewayError
   * `recording_unavailable` when the spool is full or has failed.
   */
  append(record: SessionRecord): void;
  /**
   * Resolves when every record appended before this call is on disk; rejects with `recording_unavailable` when that cannot be.
   * Calls that overlap share one fsync. Resolves late, on purpose, when the spool fills faster than it is emptied.
   */
  durable(): Promise<void>;
  /** More than half full, or the disk half-way to not keeping up: whoever appends should await `durable` before it goes on, strict or not, or the spool fills and refuses. */
  readonly crowded: boolean;
  /** Durable records from `from` on, in batches; waits for more until `signal` aborts. `next` is where the following batch begins. */
  follow(from: SpoolPosition, signal: AbortSignal): AsyncIterable<SpoolBatch>;
  /** Of this directory's records: another when they were made anew, so that no place is ever taken for one of another count. */
  readonly id: string;
  /** Where the records of this run begin. No batch reaches from before it to behind it. */
  readonly runStart: SpoolPosition;
  /** Where the oldest kept record begins. */
  readonly start: SpoolPosition;
  /** Forgets records before `position`: the recorder has them. */
  trim(position: SpoolPosition): Promise<void>;
  /** Resolves when everything appended before this call was trimmed: whoever keeps records has it. */
  drained(): Promise<void>;
  close(): Promise<void>;
}

export interface SpoolBatch {
  readonly from: SpoolPosition;
  /** Decoded when first looked at, where they were read from files. */
  readonly records: readonly SessionRecord[];
  /** The same records as bytes, one for one. */
  readonly encoded: readonly EncodedRecord[];
  readonly next: SpoolPosition;
}
