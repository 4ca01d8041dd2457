/**
 * The newest durable groups, kept as the records they were made of, so that a follower at the spool's end neither reads files nor
 * decodes. Pure. Bounded by bytes: the oldest go first, and a follower that finds a gap reads the files instead.
 */
import type { SessionRecord } from "../session-events.ts";
import type { EncodedRecord } from "./record-codec.ts";
import type { SpoolBatch, SpoolPosition } from "../spool.ts";

interface RecentGroup extends SpoolBatch {
  readonly bytes: number;
}

export class RecentGroups {
  readonly #bytesMax: number;
  /** By the position at which each begins; a Map keeps the order of insertion. */
  readonly #groups = new Map<SpoolPosition, RecentGroup>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(position: SpoolPosition, next: SpoolPosition, records: readonly SessionRecord[], encoded: readonly EncodedRecord[]): void {
    this.#groups.set(position, { from: position, records, encoded, next, bytes: next - position });
    this.#bytes += next - position;
    for (const [oldest, group] of this.#groups) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#groups.delete(oldest);
      this.#bytes -= group.bytes;
    }
  }

  /** Consecutive groups from exactly `position`, about `batchBytesMax` of them; null when that group is not kept. */
  from(position: SpoolPosition, batchBytesMax: number): SpoolBatch | null {
    const first = this.#groups.get(position);
    if (first === undefined) return null;
    let last = first;
    const parts = [first];
    while (last.next - position < batchBytesMax) {
      const following = this.#groups.get(last.next);
      if (following === undefined) break;
      parts.push(following);
      last = following;
    }
    if (parts.length === 1) return first;
    const records = parts.flatMap((part) => part.records);
    return { from: position, records, encoded: parts.flatMap((part) => part.encoded), next: last.next };
  }

  /** Drops groups that end at or before `position`: nobody reads them any more, and their bytes should die young. */
  forgetBefore(position: SpoolPosition): void {
    for (const [oldest, group] of this.#groups) {
      if (group.next > position) break;
      this.#groups.delete(oldest);
      this.#bytes -= group.bytes;
    }
  }

  clear(): void {
    this.#groups.clear();
    this.#bytes = 0;
  }
}
