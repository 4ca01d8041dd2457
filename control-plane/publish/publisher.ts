/**
 * Puts manifests in force, all or nothing: given documents are merged into the stored ones, the whole is checked, written, and
 * only then published to gateways. What is published is always a whole, valid snapshot.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { IdentityProviderSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { parseManifests } from "@sluice/manifest/manifests.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { ManifestFile } from "../interface.ts";
import { applyAlone, readDocuments, writePlan, writeSnapshot } from "../store/manifest-store.ts";
import type { Tables } from "../store/tables.ts";
import { checkManifests, type ManifestFault } from "./check.ts";
import { type Change, type NamedDocument, type Origin, planApply } from "./plan.ts";
import { asFile, splitDocuments } from "./split-documents.ts";

export interface PublisherOptions {
  readonly db: Kysely<Tables>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Added to every snapshot; undefined when the development issuer is off. */
  readonly development: IdentityProviderSpec | undefined;
}

export interface ApplyRequest {
  readonly files: readonly ManifestFile[];
  readonly origin: Origin;
  /** For the history; who applied, as far as known. */
  readonly author: string;
}

export type ApplyResult =
  | { readonly ok: true; readonly version: string; readonly applied: readonly Change[] }
  | { readonly ok: false; readonly faults: readonly ManifestFault[] };

export interface Publisher {
  readonly snapshots: SnapshotSource;
  apply(request: ApplyRequest): Promise<ApplyResult>;
}

/** Nothing is in force, so everything is denied, until the first successful apply (which may be of no files). */
export function createPublisher(options: PublisherOptions): Publisher {
  const { db, clock, log } = options;
  const source = createSource(log);
  // One after the other within this process too, so that snapshots are published in the order in which they were written.
  let last: Promise<unknown> = Promise.resolve();

  const apply = async ({ files, origin, author }: ApplyRequest): Promise<ApplyResult> => {
    const result = await applyAlone(db, async (transaction) => {
      const plan = planApply(nameDocuments(files), await readDocuments(transaction), origin);
      const kept = plan.kept.map((document) => asFile({ ...document, path: keptPath(document.path, files) }));
      const { snapshot, faults } = checkManifests([...files, ...kept], options.development);
      if (snapshot === undefined) return { faults };
      const atMs = clock.nowMs();
      await writePlan(transaction, plan, { author, origin, atMs });
      await writeSnapshot(transaction, snapshot, atMs);
      return { snapshot, changes: plan.changes };
    });
    if (result.snapshot === undefined) return { ok: false, faults: result.faults };
    source.publish(result.snapshot);
    log.info({ version: result.snapshot.version, documents: result.changes.length, origin }, "manifests applied");
    return { ok: true, version: result.snapshot.version, applied: result.changes };
  };

  return {
    snapshots: source,
    apply: (request) => {
      const applied = last.then(() => apply(request));
      last = applied.catch(() => undefined); // its caller is told; the next one is not held up
      return applied;
    },
  };
}

/** Documents with kind and name; others are faults, which checking the whole will report. */
function nameDocuments(files: readonly ManifestFile[]): readonly NamedDocument[] {
  return files.flatMap((file) => {
    const pieces = splitDocuments(file);
    return parseManifests([file]).documents.flatMap(({ kind, name, line }) => {
      const piece = pieces.findLast((one) => one.line <= line);
      return piece === undefined ? [] : [{ ...piece, kind, name }];
    });
  });
}

/** A stored document may come from an older version of a file that is given now: its lines are not that file's lines. */
function keptPath(path: string, files: readonly ManifestFile[]): string {
  return files.some((file) => file.path === path) ? `${path} (as applied earlier)` : path;
}

interface PublishingSource extends SnapshotSource {
  publish(snapshot: Snapshot): void;
}

function createSource(log: Logger): PublishingSource {
  const listeners = new Set<(snapshot: Snapshot) => void>();
  let current: Snapshot = { version: "0".repeat(16), resources: [], classifiers: [], policies: [], identityProviders: [] };
  return {
    get current() {
      return current;
    },
    subscribe: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    publish: (snapshot) => {
      if (snapshot.version === current.version) return;
      current = snapshot;
      for (const listener of listeners) {
        try {
          listener(snapshot);
        } catch (error) {
          log.error({ err: error, version: snapshot.version }, "a subscriber failed to take a snapshot");
        }
      }
    },
  };
}
