/**
 * Snapshots from a control plane elsewhere: verified before they are parsed, put in force as a whole or not at all, kept on disk so
 * that a restart without the control plane goes on with the last one. It must never go back to an older snapshot, enforce one
 * that it could not verify, or let a lease go on that nobody has renewed.
 */
import { createHash } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Snapshot } from "@sluice/core/snapshot.ts";
import { SignedContentSchema, SnapshotContentSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { unpackBody, type VerifiedContent, verifySignedContent } from "@sluice/rpc/signed-content.ts";
import type { SnapshotLease, SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Logger } from "pino";
import { type KeptSnapshot, openKeptSnapshot } from "./kept-snapshot.ts";
import { type BootTime, Lease, readBootTime } from "./lease.ts";
import { loadPolicy } from "./policy-store.ts";
import { parseSnapshot } from "./snapshot-shape.ts";

export interface RemoteSnapshotsOptions {
  readonly identity: NodeIdentity;
  /** Made when absent; for nothing but this. */
  readonly directory: string;
  readonly clock: Clock;
  readonly limits: Pick<Limits, "snapshotBytesMax">;
  readonly log: Logger;
  /** Tells the control plane what became of a snapshot. */
  readonly verdict: (sequence: bigint, version: string, fault: GatewayError | null) => void;
  /** The machine's time since boot; tests pass one that they can set. */
  readonly readBoot?: () => BootTime | null;
}

export interface RemoteSnapshots extends SnapshotSource {
  readonly lease: SnapshotLease;
  /** Of the snapshot in force; 0 while there is none. */
  readonly sequence: bigint;
  /** Takes a serialised SignedContent. Never throws: what is not taken is logged and told to the control plane. */
  receive(signed: Uint8Array): void;
  /** A control plane that is heard of says which snapshot is the newest: when it is the one in force, its lease begins anew. */
  heartbeat(sequence: bigint): void;
  /** Resolves as soon as a snapshot is in force; rejects when the signal aborts before that. */
  ready(signal?: AbortSignal): Promise<void>;
  /** Resolves when what must outlive the process is on disk. */
  close(): Promise<void>;
}

/** How often the time of the last word is written to disk: what a restart loses of a lease at most. Milliseconds. */
const HEARD_KEPT_EVERY_MS = 5_000;

/** Opens what the last process has kept and, where it can be verified, puts it in force for what is left of its lease. */
export async function openRemoteSnapshots(options: RemoteSnapshotsOptions): Promise<RemoteSnapshots> {
  return new RemoteSource(options, await openKeptSnapshot(options.directory, options.log));
}

interface InForce {
  readonly content: VerifiedContent;
  readonly digest: string;
  readonly snapshot: Snapshot;
}

class RemoteSource implements RemoteSnapshots {
  readonly #options: RemoteSnapshotsOptions;
  readonly #kept: KeptSnapshot;
  readonly #lease: Lease;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  readonly #readiness = Promise.withResolvers<void>();
  #inForce: InForce | undefined;
  #floor = 0n;
  #floorDigest = "";
  #heardKeptMs = Number.NEGATIVE_INFINITY;

  constructor(options: RemoteSnapshotsOptions, kept: KeptSnapshot) {
    this.#options = options;
    this.#kept = kept;
    this.#lease = new Lease(options.clock, options.readBoot ?? readBootTime);
    this.#floor = kept.state?.floor ?? 0n;
    this.#floorDigest = kept.state?.digest ?? "";
    if (kept.signed !== null) this.#resume(kept.signed);
  }

  get current(): Snapshot {
    if (this.#inForce === undefined) throw new GatewayError("policy_stale", "No policy has reached this gateway yet.");
    return this.#inForce.snapshot;
  }

  get sequence(): bigint {
    return this.#inForce?.content.sequence ?? 0n;
  }

  get lease(): SnapshotLease {
    return this.#lease;
  }

  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    const own = (snapshot: Snapshot): void => listener(snapshot);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  async ready(signal?: AbortSignal): Promise<void> {
    if (signal === undefined) return await this.#readiness.promise;
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(signal.reason as Error); // what an abort gives is an error
    signal.addEventListener("abort", abort, { once: true });
    try {
      await Promise.race([this.#readiness.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  receive(signed: Uint8Array): void {
    const claimed = claimedBy(signed);
    try {
      const { content, digest, snapshot } = this.#verify(signed);
      if (content.sequence === this.#inForce?.content.sequence) this.#again(content, signed);
      else this.#accept({ content, digest, snapshot: snapshot() }, signed);
      this.#options.verdict(content.sequence, content.version, null);
    } catch (error) {
      const about = { sequence: String(claimed.sequence), version: claimed.version, inForce: String(this.sequence) };
      this.#options.log.error({ err: error, ...about }, "a snapshot was not taken; the former one stays in force");
      // A replica that is behind sends what is old: that says nothing of the snapshot that is the newest.
      if (claimed.sequence >= this.#floor) this.#options.verdict(claimed.sequence, claimed.version, toGatewayError(error));
    }
  }

  heartbeat(sequence: bigint): void {
    if (this.#inForce === undefined || sequence !== this.#inForce.content.sequence) return;
    this.#lease.renew();
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#heardKeptMs < HEARD_KEPT_EVERY_MS) return;
    this.#keep();
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    if (this.#inForce !== undefined) this.#keep();
    await this.#kept.close();
  }

  /** Throws GatewayError for what must not be enforced. The policy itself is read only when it is asked for. */
  #verify(signed: Uint8Array): { content: VerifiedContent; digest: string; snapshot: () => Snapshot } {
    const { identity, clock, limits } = this.#options;
    const content = verifySignedContent(signed, identity, clock.nowMs(), "gateway");
    if (content.sequence < this.#floor) {
      throw new GatewayError(
        "unauthorized",
        `The snapshot is older than one that was in force here: ${content.sequence} after ${this.#floor}.`,
        { hint: 'After restoring the control plane\'s store from a backup, see docs/guides/upgrade.md, "Backup and restore".' },
      );
    }
    const text = unpackBody(content.body, limits.snapshotBytesMax);
    const digest = createHash("sha256").update(text).digest("hex");
    if (content.sequence === this.#floor && this.#floorDigest !== "" && digest !== this.#floorDigest)
      throw new GatewayError("unauthorized", "The snapshot differs from the one that was accepted under the same number.");
    const snapshot = (): Snapshot => {
      const parsed = parseSnapshot(text);
      if (parsed.version !== content.version)
        throw new GatewayError("incompatible", "The snapshot holds another version than the one it says it is.");
      loadPolicy(parsed);
      return parsed;
    };
    return { content, digest, snapshot };
  }

  /** The snapshot in force, sent once more: what it says of leases and trust may be newer. */
  #again(content: VerifiedContent, signed: Uint8Array): void {
    const former = this.#inForce!; // the caller has compared with it
    this.#lease.renew();
    if (content.issuedAtMs < former.content.issuedAtMs) {
      this.#keep();
      return;
    }
    this.#inForce = { ...former, content };
    this.#lease.times = content;
    this.#keep(signed);
    if (content.trust !== null) this.#options.identity.trust(content.trust);
  }

  #accept(next: InForce, signed: Uint8Array): void {
    this.#tell(next.snapshot);
    this.#inForce = next;
    this.#floor = next.content.sequence;
    this.#floorDigest = next.digest;
    this.#lease.times = next.content;
    this.#lease.renew();
    this.#keep(signed);
    if (next.content.trust !== null) this.#options.identity.trust(next.content.trust);
    this.#readiness.resolve();
  }

  /** One that throws rejects the snapshot: those who have taken it get the former one back. */
  #tell(snapshot: Snapshot): void {
    const told: ((snapshot: Snapshot) => void)[] = [];
    for (const listener of this.#listeners) {
      try {
        listener(snapshot);
        told.push(listener);
      } catch (error) {
        const former = this.#inForce?.snapshot;
        if (former !== undefined) for (const one of told) one(former);
        throw error;
      }
    }
  }

  /** What an earlier process kept. Nothing of it is trusted more than if it had just come; only its lease is not new. */
  #resume(signed: Uint8Array): void {
    const { log } = this.#options;
    try {
      const { content, digest, snapshot } = this.#verify(signed);
      this.#inForce = { content, digest, snapshot: snapshot() };
      this.#floor = content.sequence;
      this.#floorDigest = digest;
      this.#lease.times = content;
      if (this.#kept.state?.heard != null) this.#lease.restore(this.#kept.state.heard);
      this.#readiness.resolve();
      log.info(
        {
          sequence: String(content.sequence),
          version: content.version,
          leaseMs: Math.round(this.#lease.remainingMs(false)),
          strictLeaseMs: Math.round(this.#lease.remainingMs(true)),
        },
        "the last snapshot is in force for what is left of its lease, until the control plane is heard of",
      );
    } catch (error) {
      log.error({ err: error }, "the snapshot kept on disk is not taken; waiting for the control plane");
    }
  }

  #keep(signed?: Uint8Array): void {
    this.#heardKeptMs = this.#options.clock.monotonicMs();
    this.#kept.keep({ floor: this.#floor, digest: this.#floorDigest, heard: this.#lease.heard }, signed);
  }
}

/** What a snapshot says it is, verified or not: for telling whoever sent it which one was refused. */
function claimedBy(signed: Uint8Array): { readonly sequence: bigint; readonly version: string } {
  try {
    return fromBinary(SnapshotContentSchema, fromBinary(SignedContentSchema, signed).content);
  } catch {
    return { sequence: 0n, version: "" };
  }
}
