/**
 * The gateway's own durable buffer of session records. It is what "recorded before released" rests on: bytes leave the gateway
 * only after `durable()` has resolved for the record that holds them. Full or broken means no.
 */
import type { SessionRecord } from "./session-events.ts";
import type { EncodedRecord, ReleasedRecord } from "./spool/record-codec.ts";

/** A place in the spool: records before it are older. Opaque, ordered, survives restarts. */
export type SpoolPosition = number;

export interface Spool {
  /**
   * Appends in order, without waiting, and keeps nothing of what it is given. Throws GatewayError `recording_unavailable` when the
   * spool is full or has failed.
   */
  append(record: SessionRecord): void;
  /** As `append`, of released bytes in `pieces`: hands back the spool's own copy, to be sent on. */
  release(record: Omit<ReleasedRecord, "bytes">, pieces: readonly Buffer[]): ReleasedBytes;
  /**
   * Resolves when every record appended before this call is on disk; rejects with `recording_unavailable` when that cannot be.
   * Calls that overlap share one fsync. Resolves late, on purpose, when the spool fills faster than it is emptied.
   */
  durable(): Promise<void>;
  /** More than half full, or the disk half-way to not keeping up: whoever appends should await `durable` before it goes on, strict or not, or the spool fills and refuses. */
  readonly crowded: boolean;
  /**
   * Durable records from `from` on, in batches; waits for more until `signal` aborts. `next` is where the following batch begins. The
   * bytes of a batch are the spool's, and are written to again once it was trimmed: copy what is to be kept for longer.
   */
  follow(from: SpoolPosition, signal: AbortSignal): AsyncIterable<SpoolBatch>;
  /** Of this directory's records: another when they were made anew, so that no place is ever taken for one of another count. */
  readonly id: string;
  /** Where the records of this run begin. No batch reaches from before it to behind it. */
  readonly runStart: SpoolPosition;
  /** Where the oldest kept record begins. */
  readonly start: SpoolPosition;
  /** Forgets records before `position`: the recorder has them, and nobody looks at them any more. */
  trim(position: SpoolPosition): Promise<void>;
  /** Resolves when everything appended before this call was trimmed: whoever keeps records has it. */
  drained(): Promise<void>;
  close(): Promise<void>;
}

/** Bytes on their way to a caller, in memory of the spool. */
export interface ReleasedBytes {
  readonly bytes: Buffer;
  /** Nobody will read `bytes` any more: the memory is used again. Never to be called where that is not known for certain. */
  sent(): void;
}

export interface SpoolBatch {
  readonly from: SpoolPosition;
  /** Decoded when first looked at, where they were read from files. */
  readonly records: readonly SessionRecord[];
  /** The same records as bytes, one for one. */
  readonly encoded: readonly EncodedRecord[];
  readonly next: SpoolPosition;
}
