/** Where a gateway learns what is in force. Co-located: the control plane itself; apart: a stream of signed snapshots. */
import type { Snapshot } from "@sluice/core/snapshot.ts";

export interface SnapshotSource {
  /** The snapshot in force; always a whole, valid one. */
  readonly current: Snapshot;
  /**
   * Calls back on each later snapshot, in order. A listener that throws rejects it: the source goes on with the former one and
   * tells the control plane why. Returns how to stop.
   */
  subscribe(listener: (snapshot: Snapshot) => void): () => void;
  /** Absent: it never ends (the control plane is the same process). */
  readonly lease?: SnapshotLease;
}

/** How long the current snapshot may still be enforced without a word from the control plane; counted in monotonic time. */
export interface SnapshotLease {
  /** Zero or less: over. `strict`: for resources that are recorded strictly. */
  remainingMs(strict: boolean): number;
}
