/** Where a gateway learns what is in force. Co-located: the control plane itself; apart: a stream of signed snapshots. */
import type { Snapshot } from "@sluice/core/snapshot.ts";

export interface SnapshotSource {
  /** The snapshot in force; always a whole, valid one. */
  readonly current: Snapshot;
  /** Calls back on each later snapshot, in order. Returns how to stop. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void;
}
