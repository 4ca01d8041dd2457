/**
 * The nodes connected to this replica, and what they are all told: snapshots, trust, directory, heartbeats. One node of a (role, name):
 * the newer connection replaces the older. What happens here is kept in the store for the other replicas, in few statements.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { TrustBundle } from "@sluice/rpc/node-identity.ts";
import { trustToProto } from "@sluice/rpc/trust.ts";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { SnapshotFeed } from "../publish/snapshot-feed.ts";
import type { Audience, SnapshotSigning } from "../publish/sign.ts";
import type { Changes } from "../store/changes.ts";
import type { StoredSnapshot } from "../store/snapshot-store.ts";
import { readNewestSequence } from "../store/snapshot-store.ts";
import type { Tables } from "../store/tables.ts";
import type { ConnectedNode } from "./connected-node.ts";
import { type Directory, type DirectoryView, openDirectory } from "./directory.ts";
import * as nodeStore from "./node-store.ts";

export interface NodeHubOptions {
  readonly db: Kysely<Tables>;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly log: Logger;
  /** This control plane's own name, different from every other's. */
  readonly replica: string;
  readonly feed: SnapshotFeed;
  /** Takes what is the newest in the store, when this replica was not told of it. */
  readonly reload: () => Promise<void>;
  readonly signing: SnapshotSigning;
  readonly trust: () => TrustBundle;
  /** Calls back after authorities or revocations changed. Returns how to stop. */
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly times: NodeTimes;
  /** Those connected here, by role and name: kept by the hub, read by others. */
  readonly connected: Map<string, ConnectedNode>;
}

/** Milliseconds. */
export interface NodeTimes {
  readonly heartbeatMs: number;
  /** How often what nodes report is written to the store. */
  readonly reportMs: number;
  /** A node that was away for this long is left out of the directory. */
  readonly goneMs: number;
  /** A stream that takes nothing, or on which nothing comes, for this long is ended. */
  readonly stuckMs: number;
}

export interface NodeHub {
  readonly nodes: ReadonlyMap<string, ConnectedNode>;
  readonly directory: Directory;
  /** Replaces an older connection of the same node, and gives the new one all that is in force. */
  add(node: ConnectedNode): void;
  remove(node: ConnectedNode): Promise<void>;
  /** Writes what it reports at once and tells everybody. */
  changed(node: ConnectedNode): Promise<void>;
  close(): Promise<void>;
}

/** Topics of `store/changes.ts`. */
const NODES_TOPIC = "nodes";
const LEFT_TOPIC = "node-left";

/** A replica that could not ask the store this many times does not renew leases: another may have published since. */
const UNCONFIRMED_MAX = 4;

export async function openNodeHub(options: NodeHubOptions): Promise<NodeHub> {
  const hub = new Hub(options, await openDirectory({ db: options.db, log: options.log, changes: options.changes }));
  hub.start();
  return hub;
}

class Hub implements NodeHub {
  readonly nodes: Map<string, ConnectedNode>;
  readonly directory: Directory;
  readonly #options: NodeHubOptions;
  readonly #startedAtMs: number;
  readonly #stops: (() => void)[] = [];
  /** When the store last said that our newest snapshot is the newest. */
  #confirmedAtMs: number | undefined;
  #writing: Promise<void> | undefined;
  /** Nodes that left whose leaving is being written. */
  readonly #leaving = new Set<Promise<void>>();
  #closed = false;

  constructor(options: NodeHubOptions, directory: Directory) {
    this.#options = options;
    this.directory = directory;
    this.nodes = options.connected;
    this.#startedAtMs = options.clock.monotonicMs();
  }

  start(): void {
    const { feed, changes, onTrustChange, times } = this.#options;
    const every = (ms: number, work: () => void): void => {
      const timer = setInterval(work, ms);
      this.#stops.push(() => clearInterval(timer));
    };
    this.#confirmedAtMs = this.#options.clock.monotonicMs();
    this.#stops.push(
      feed.onNewest((stored) => this.#each((node) => this.#sendSnapshot(node, stored))),
      onTrustChange(() => void this.#trustChanged()),
      this.directory.onChange((view) => {
        this.#each((node) => {
          if (viewOf(node) === view) this.#sendDirectory(node);
        });
      }),
      changes.onChange(LEFT_TOPIC, (payload) => this.#reclaim(payload)),
    );
    every(times.heartbeatMs, () => this.#beat());
    every(times.reportMs, () => void this.#lookAtStore());
  }

  add(node: ConnectedNode): void {
    const { log } = this.#options;
    const older = this.nodes.get(node.key);
    this.nodes.set(node.key, node);
    if (older !== undefined) {
      log.warn(
        { node: node.key },
        "a newer connection of this node replaces the older: two processes with one identity, or a half-open connection",
      );
      older.end(
        new GatewayError("unauthorized", "Another process connected with the identity of this node.", {
          hint: "Each process needs a name and a data directory of its own.",
        }),
      );
    }
    this.#sendTrust(node);
    const { newest } = this.#options.feed;
    if (newest !== null) this.#sendSnapshot(node, newest);
    this.#sendDirectory(node);
    log.info({ node: node.key, capability: node.capability, version: node.hello.softwareVersion }, "node connected");
    this.#announce();
  }

  async remove(node: ConnectedNode): Promise<void> {
    if (this.nodes.get(node.key) !== node) return; // replaced
    this.nodes.delete(node.key);
    this.#options.log.info({ node: node.key }, "node disconnected");
    const leaving = this.#writeLeft(node);
    this.#leaving.add(leaving);
    await leaving;
    this.#leaving.delete(leaving);
  }

  async #writeLeft(node: ConnectedNode): Promise<void> {
    const { db, replica, log, changes } = this.#options;
    try {
      await nodeStore.writeLeft(db, replica, node.certificate, node.status.draining);
      await changes.notify(db, LEFT_TOPIC, node.key);
      await changes.notify(db, NODES_TOPIC, "");
    } catch (error) {
      log.warn({ err: error, node: node.key }, "the store does not know yet that a node has left");
    }
  }

  async changed(node: ConnectedNode): Promise<void> {
    const { db, replica, changes, log } = this.#options;
    try {
      await nodeStore.writeReports(db, replica, [node.report()], true);
      await changes.notify(db, NODES_TOPIC, "");
    } catch (error) {
      log.warn({ err: error, node: node.key }, "what a node reports could not be stored; it is written again in a moment");
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const stop of this.#stops.splice(0)) stop();
    this.#each((node) => {
      node.end(null);
      void this.remove(node);
    });
    await this.directory.close();
    await Promise.all(this.#leaving);
    await this.#writing?.catch(() => undefined); // logged where it happened
  }

  #each(work: (node: ConnectedNode) => void): void {
    for (const node of this.nodes.values()) work(node);
  }

  #announce(): void {
    const { changes, db, log } = this.#options;
    changes
      .notify(db, NODES_TOPIC, "")
      .catch((error: unknown) => log.warn({ err: error }, "other replicas do not hear of a node"));
  }

  #beat(): void {
    const { clock, feed, times, log } = this.#options;
    const isConfirmed =
      this.#confirmedAtMs !== undefined && clock.monotonicMs() - this.#confirmedAtMs <= UNCONFIRMED_MAX * times.reportMs;
    const snapshotSequence = isConfirmed ? (feed.newest?.sequence ?? 0n) : 0n;
    const nowMs = BigInt(Math.trunc(clock.nowMs()));
    this.#each((node) => {
      if (node.outbox.stuckForMs() > times.stuckMs || node.silentForMs() > times.stuckMs) {
        log.warn({ node: node.key }, "a node takes nothing or says nothing: its stream is ended");
        node.end(
          new GatewayError("node_unreachable", "This node did not keep up with its control stream.", { hint: "Connect again." }),
        );
        return;
      }
      node.outbox.latest({ case: "heartbeat", value: { snapshotSequence, nowMs } });
    });
  }

  /** Writes reports, and asks for what may have been missed. One at a time: a slow store must not pile up statements. */
  async #lookAtStore(): Promise<void> {
    if (this.#writing !== undefined) return;
    this.#writing = this.#writeReports();
    try {
      await this.#writing;
    } catch (error) {
      this.#options.log.warn({ err: error }, "the store does not answer: leases of snapshots are not renewed until it does");
    } finally {
      this.#writing = undefined;
    }
  }

  async #writeReports(): Promise<void> {
    const { db, replica, clock, feed, times, changes } = this.#options;
    const askedAtMs = clock.monotonicMs();
    const newest = await readNewestSequence(db);
    if (newest !== null && feed.newest !== null && newest <= feed.newest.sequence) this.#confirmedAtMs = askedAtMs;
    else await this.#options.reload();
    if (await this.#options.signing.refresh()) this.#sendSnapshots();
    await nodeStore.writeReports(
      db,
      replica,
      [...this.nodes.values()].map((node) => node.report()),
      false,
    );
    // After a start, nodes get the time to come back before they are taken to be gone.
    if (this.#closed || askedAtMs - this.#startedAtMs < times.goneMs) return;
    if (await nodeStore.forgetGone(db, times.goneMs)) await changes.notify(db, NODES_TOPIC, "");
  }

  /** Another replica lost a node that is still connected here: the store must not say that it has left. */
  #reclaim(key: string | null): void {
    if (key !== null) {
      const node = this.nodes.get(key);
      if (node !== undefined) void this.changed(node);
      return;
    }
    void this.#lookAtStore();
  }

  async #trustChanged(): Promise<void> {
    const { revokedSerials } = this.#options.trust();
    this.#each((node) => {
      if (revokedSerials.has(node.certificate.serial)) {
        node.end(new GatewayError("unauthorized", "The certificate of this node was withdrawn.", { hint: "Enrol it again." }));
        return;
      }
      this.#sendTrust(node);
    });
    try {
      await this.#options.signing.refresh();
      this.#sendSnapshots();
    } catch (error) {
      // Asked for again with the next look at the store.
      this.#options.log.error({ err: error }, "no signer of snapshots after a change of authorities");
    }
  }

  #sendSnapshots(): void {
    const { newest } = this.#options.feed;
    if (newest !== null) this.#each((node) => this.#sendSnapshot(node, newest));
  }

  #sendTrust(node: ConnectedNode): void {
    node.outbox.latest({ case: "trust", value: trustToProto(this.#options.trust()) });
  }

  #sendSnapshot(node: ConnectedNode, stored: StoredSnapshot): void {
    const audience = audienceOf(node);
    if (audience === null) return;
    node.outbox.latest({ case: "snapshot", value: this.#options.signing.contentFor(stored, audience) });
  }

  #sendDirectory(node: ConnectedNode): void {
    node.outbox.latest({ case: "directory", value: this.directory.messages[viewOf(node)] });
  }
}

function viewOf({ certificate }: ConnectedNode): DirectoryView {
  return certificate.role === "agent" ? "agents" : "others";
}

/** Recorders enforce nothing. */
function audienceOf({ certificate }: ConnectedNode): Audience | null {
  if (certificate.role === "gateway") return { kind: "gateway" };
  return certificate.role === "agent" ? { kind: "agent", labels: certificate.labels } : null;
}
