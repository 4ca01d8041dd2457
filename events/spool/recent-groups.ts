/**
 * Durable groups that wait for the follower, kept as the records they were made of, so that it neither reads files nor decodes. Pure.
 * Bounded by bytes: beyond them new ones are not kept, since the follower wants the oldest first; it reads the files where it finds a gap.
 */
import type { SlabRecord } from "./record-codec.ts";
import type { SpoolBatch, SpoolPosition } from "../spool.ts";

interface RecentGroup extends SpoolBatch {
  readonly bytes: number;
  readonly kept: readonly SlabRecord[];
}

export class RecentGroups {
  readonly #bytesMax: number;
  /** By the position at which each begins; a Map keeps the order of insertion. */
  readonly #groups = new Map<SpoolPosition, RecentGroup>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(position: SpoolPosition, next: SpoolPosition, kept: readonly SlabRecord[]): void {
    if (this.#bytes + next - position > this.#bytesMax) {
      for (const { slab } of kept) slab.letGo(); // nobody has seen them here
      return;
    }
    const records = kept.map(({ record }) => record);
    const encoded = kept.map((one) => one.encoded);
    this.#groups.set(position, { from: position, records, encoded, next, bytes: next - position, kept });
    this.#bytes += next - position;
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

  /** Drops groups that end at or before `position`. `unread`: nobody looks at them any more, so that their memory is used again. */
  forgetBefore(position: SpoolPosition, unread: boolean): void {
    for (const [oldest, group] of this.#groups) {
      if (group.next > position) break;
      this.#groups.delete(oldest);
      this.#bytes -= group.bytes;
      if (unread) for (const { slab } of group.kept) slab.letGo();
    }
  }

  clear(): void {
    this.#groups.clear();
    this.#bytes = 0;
  }
}
