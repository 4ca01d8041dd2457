/**
 * Puts manifests in force, all or nothing: given documents are merged into the stored ones, the whole is checked, written, and
 * only then published. The snapshot is written in the same transaction by the replica that changed something; the others are told and
 * load it. What is published is always a whole, valid snapshot, and the same on every replica.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { IdentityProviderSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { type ManifestSet, parseManifests } from "@sluice/manifest/manifests.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Kysely, Transaction } from "kysely";
import type { Logger } from "pino";
import type { ManifestFile } from "../interface.ts";
import type { Changes } from "../store/changes.ts";
import { readBindings } from "../store/binding-store.ts";
import { applyAlone, readDocuments, writeForgotten, writePlan } from "../store/manifest-store.ts";
import * as snapshotStore from "../store/snapshot-store.ts";
import type { Tables } from "../store/tables.ts";
import { checkManifests, type ManifestFault } from "./check.ts";
import { type Change, type NamedDocument, type Origin, planApply } from "./plan.ts";
import { createSnapshotFeed, type SnapshotFeed } from "./snapshot-feed.ts";
import { createPaces } from "./paces.ts";
import { asFile, splitDocuments } from "./split-documents.ts";

export interface PublisherOptions {
  readonly db: Kysely<Tables>;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface ApplyRequest {
  readonly files: readonly ManifestFile[];
  readonly origin: Origin;
  /** For the history; who applied, as far as known. */
  readonly author: string;
  /** The built-in issuer of this replica, kept with what the others have; `gone`: the address of one that it had. */
  readonly development?: { readonly provider: IdentityProviderSpec | null; readonly gone: string | null };
}

export type ApplyResult =
  | { readonly ok: true; readonly version: string; readonly applied: readonly Change[] }
  | { readonly ok: false; readonly faults: readonly ManifestFault[] };

export interface Publisher {
  readonly snapshots: SnapshotSource;
  readonly feed: SnapshotFeed;
  apply(request: ApplyRequest): Promise<ApplyResult>;
  /** Changes who is disabled (in `work`) and publishes that, in one transaction. The policy stays what it is. */
  changeDisabled(author: string, work: (transaction: Transaction<Tables>) => Promise<void>): Promise<void>;
  /**
   * Changes which columns keep their label (in `work`) and publishes that, in one transaction; what `work` says of it stands in the
   * history under `resource`, unless it is of none. Returns its count.
   */
  changeBindings(author: string, work: BindingsWork, resource: string): Promise<number>;
  /**
   * A node has seen a snapshot of this sequence. When the store knows only older ones, it was restored from a backup: what is in force
   * is published anew with a later sequence, since nodes never go back.
   */
  outgrow(sequence: bigint): Promise<void>;
  /** Takes what is the newest in the store: for when this replica may have missed that it changed. */
  reload(): Promise<void>;
  close(): void;
}

export type BindingsWork = (transaction: Transaction<Tables>) => Promise<{ readonly count: number; readonly text: string }>;

/** Topic of `store/changes.ts`: a snapshot came into force. The payload is its sequence. */
const TOPIC = "snapshot";
/** How far a node may move the sequence: more than any backup is old, and a node that lies can do so for ages. */
const OUTGROWN_MAX = 1_000_000n;

/** Nothing is in force, so everything is denied, until the first successful apply (which may be of no files). */
export function createPublisher(options: PublisherOptions): Publisher {
  const { db, changes, clock, log } = options;
  const feed = createSnapshotFeed(log);

  const write = async (transaction: Transaction<Tables>, snapshot: Snapshot, author: string) => {
    const disabled = await snapshotStore.readDisabled(transaction);
    const bindings = await readBindings(transaction, snapshot);
    const whole = {
      ...policyOf(snapshot),
      ...(disabled.length === 0 ? {} : { disabled }),
      ...(bindings.length === 0 ? {} : { bindings }),
    };
    const { stored, isNew } = await snapshotStore.writeSnapshot(transaction, whole, { author, atMs: clock.nowMs() });
    if (isNew) await changes.notify(transaction, TOPIC, String(stored.sequence));
    return stored;
  };

  const apply = async ({ files, origin, author, development }: ApplyRequest): Promise<ApplyResult> => {
    const given = parseManifests(files); // the costly part, so before the lock
    const documents = nameDocuments(files, given);
    const apply = applyAlone(db, async (transaction) => {
      if (development?.provider) await snapshotStore.writeDevelopmentIssuer(transaction, development.provider);
      if (development?.gone) await snapshotStore.forgetDevelopmentIssuer(transaction, development.gone);
      const plan = planApply(documents, await readDocuments(transaction), origin);
      const kept = plan.kept.map((document) => asFile({ ...document, path: keptPath(document.path, files) }));
      const issuers = await snapshotStore.readDevelopmentIssuers(transaction);
      const { snapshot, faults } = checkManifests([...files, ...kept], issuers, kept.length === 0 ? given : undefined);
      if (snapshot === undefined) throw new Refused(faults);
      await writePlan(transaction, plan, { author, origin, atMs: clock.nowMs() });
      return { stored: await write(transaction, snapshot, author), changes: plan.changes };
    });
    const result = await apply.catch((error: unknown) => {
      if (error instanceof Refused) return error;
      throw error;
    });
    if (result instanceof Refused) return { ok: false, faults: result.faults };
    feed.take(result.stored);
    const { version } = result.stored.snapshot;
    log.info(
      { version, sequence: Number(result.stored.sequence), documents: result.changes.length, origin },
      "manifests applied",
    );
    return { ok: true, version, applied: result.changes };
  };

  const changeDisabled = async (author: string, work: (transaction: Transaction<Tables>) => Promise<void>): Promise<void> => {
    const stored = await applyAlone(db, async (transaction) => {
      await work(transaction);
      const newest = await snapshotStore.readNewestSnapshot(transaction);
      return newest === undefined ? undefined : await write(transaction, newest.snapshot, author);
    });
    if (stored !== undefined) feed.take(stored);
  };

  const changeBindings = async (author: string, work: BindingsWork, resource: string): Promise<number> => {
    const { stored, count } = await applyAlone(db, async (transaction) => {
      const { count, text } = await work(transaction);
      if (count > 0) await writeForgotten(transaction, { resource, text, author, atMs: clock.nowMs() });
      const newest = await snapshotStore.readNewestSnapshot(transaction);
      return { count, stored: newest === undefined ? undefined : await write(transaction, newest.snapshot, author) };
    });
    if (stored !== undefined) feed.take(stored);
    return count;
  };

  const moves = createPaces(clock, log);
  const outgrow = async (sequence: bigint): Promise<void> => {
    if (feed.newest === null || sequence <= feed.newest.sequence) return;
    const newest = await snapshotStore.readNewestSequence(db);
    if (newest === null) return;
    if (sequence <= newest) return await load(); // this replica had not heard of it yet
    if (sequence - newest > OUTGROWN_MAX) {
      log.error(
        { sequence: String(sequence) },
        "a node claims to have seen a snapshot that is too far from any of ours: ignored",
      );
      return;
    }
    await moves.run(sequence, moveOn);
  };
  const moveOn = async (sequence: bigint): Promise<void> => {
    const stored = await applyAlone(db, async (transaction) => {
      const newest = await snapshotStore.readNewestSnapshot(transaction);
      if (newest === undefined || sequence <= newest.sequence) return newest; // another replica was first
      log.warn(
        { from: Number(newest.sequence), past: Number(sequence) },
        "the store is older than what nodes have seen: sequence moved on",
      );
      const renewed = await snapshotStore.renewSnapshot(transaction, newest, sequence, clock.nowMs());
      await changes.notify(transaction, TOPIC, String(renewed.sequence));
      return renewed;
    });
    if (stored !== undefined) feed.take(stored);
  };

  const load = async (): Promise<void> => {
    try {
      const newest = await snapshotStore.readNewestSnapshot(db);
      if (newest !== undefined && feed.newest !== null) feed.take(newest);
    } catch (error) {
      // The store is away: the change is announced again, as "maybe missed", once it is back.
      log.warn({ err: error }, "a newer snapshot could not be loaded");
    }
  };
  const stop = changes.onChange(TOPIC, (sequence) => {
    const isKnown = sequence !== null && feed.newest !== null && BigInt(sequence) <= feed.newest.sequence;
    if (!isKnown) void load();
  });

  const close = (): void => {
    stop();
    moves.close();
  };
  return { snapshots: feed.source, feed, apply, changeDisabled, changeBindings, outgrow, reload: load, close };
}

/** Thrown so that the transaction leaves nothing behind. */
class Refused extends Error {
  readonly faults: readonly ManifestFault[];

  constructor(faults: readonly ManifestFault[]) {
    super("the manifests have faults");
    this.faults = faults;
  }
}

/** Without what is kept apart from documents and added to each snapshot anew. */
function policyOf(snapshot: Snapshot): Snapshot {
  const { disabled: _disabled, bindings: _bindings, ...rest } = snapshot;
  return rest;
}

/** Documents with kind and name; others are faults, which checking the whole will report. */
function nameDocuments(files: readonly ManifestFile[], { documents }: ManifestSet): readonly NamedDocument[] {
  const named = Map.groupBy(documents, ({ file }) => file);
  const paths = new Set(files.map(({ path }) => path));
  return files.flatMap((file) => {
    const pieces = splitDocuments(file);
    // Of files with one path only their own parse tells which document is whose.
    const own = paths.size === files.length ? (named.get(file.path) ?? []) : parseManifests([file]).documents;
    return own.flatMap(({ kind, name, line }) => {
      const piece = pieces.findLast((one) => one.line <= line);
      return piece === undefined ? [] : [{ ...piece, kind, name }];
    });
  });
}

/** A stored document may come from an older version of a file that is given now: its lines are not that file's lines. */
function keptPath(path: string, files: readonly ManifestFile[]): string {
  return files.some((file) => file.path === path) ? `${path} (as applied earlier)` : path;
}
