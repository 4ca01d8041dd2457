/** Tells this replica what is in force. Nothing is in force, so everything is denied, until the first snapshot; it never goes back to an older one. */
import type { Snapshot } from "@sluice/core/snapshot.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Logger } from "pino";
import type { StoredSnapshot } from "../store/snapshot-store.ts";

export interface SnapshotFeed {
  /** For a gateway in the same process. */
  readonly source: SnapshotSource;
  /** Null before the first. */
  readonly newest: StoredSnapshot | null;
  /** Calls back with each newer one, in order. Returns how to stop. */
  onNewest(listener: (stored: StoredSnapshot) => void): () => void;
  /** Does nothing when it is not newer than the newest. */
  take(stored: StoredSnapshot): void;
}

const nothing: Snapshot = { version: "0".repeat(16), resources: [], classifiers: [], policies: [], identityProviders: [] };

export function createSnapshotFeed(log: Logger): SnapshotFeed {
  const listeners = new Set<(stored: StoredSnapshot) => void>();
  let newest: StoredSnapshot | null = null;
  const onNewest = (listener: (stored: StoredSnapshot) => void): (() => void) => {
    const own = (stored: StoredSnapshot): void => listener(stored); // one function given twice is told twice
    listeners.add(own);
    return () => void listeners.delete(own);
  };
  return {
    source: {
      get current() {
        return newest?.snapshot ?? nothing;
      },
      subscribe: (listener) => onNewest(({ snapshot }) => listener(snapshot)),
    },
    get newest() {
      return newest;
    },
    onNewest,
    take: (stored) => {
      if (newest !== null && stored.sequence <= newest.sequence) return;
      newest = stored;
      for (const listener of listeners) {
        try {
          listener(stored);
        } catch (error) {
          log.error({ err: error, version: stored.snapshot.version }, "a subscriber failed to take a snapshot");
        }
      }
    },
  };
}
