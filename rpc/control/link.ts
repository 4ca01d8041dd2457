/**
 * A node's link to the control plane: one stream to each replica, made again whenever it ends. Every replica tells the same, so
 * what comes twice is handed on twice. Must never let a fault of a handler, or of one replica, end another stream.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Logger } from "pino";
import { CAPABILITY } from "../capabilities.ts";
import type { BindingsReport } from "../bindings.ts";
import type { ControlHandlers, ControlLink } from "../control-link.ts";
import { toFault } from "../fault.ts";
import type { IdentityLimits } from "../identity/enrol.ts";
import type { NodeIdentity } from "../node-identity.ts";
import type { DirectoryNode } from "../nodes.ts";
import packageFacts from "../package.json" with { type: "json" };
import { statusToProto } from "./messages.ts";
import { type Report, ReplicaStream } from "./replica-stream.ts";

export interface ControlLinkOptions {
  readonly identity: NodeIdentity;
  /** host:port of each control plane. */
  readonly addresses: readonly string[];
  readonly handlers: ControlHandlers;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly limits?: Partial<IdentityLimits>;
  /** What this node claims to speak at best; for tests of mixed versions. */
  readonly capability?: number;
}

/** Begins at once and never gives up. */
export function openControlLink(options: ControlLinkOptions): ControlLink {
  return new ReplicatedLink(options);
}

class ReplicatedLink implements ControlLink {
  readonly #options: ControlLinkOptions;
  readonly #streams: readonly ReplicaStream[];
  readonly #listeners = new Set<(nodes: readonly DirectoryNode[]) => void>();
  #directory: readonly DirectoryNode[] = [];
  #directoryText = "[]";
  /** Told again to a replica that was away when it was first told. */
  #verdict: Report | undefined;

  constructor(options: ControlLinkOptions) {
    this.#options = options;
    const { identity, handlers, clock, random, log } = options;
    const limits = { ...defaultLimits, ...options.limits };
    const startedAtMs = clock.nowMs();
    this.#streams = options.addresses.map(
      (address) =>
        new ReplicaStream({
          address,
          identity,
          handlers,
          clock,
          random,
          log,
          limits,
          own: { capability: options.capability ?? CAPABILITY, softwareVersion: packageFacts.version, startedAtMs },
          directory: (nodes) => this.#takeDirectory(nodes),
          welcomed: (stream) => {
            if (this.#verdict !== undefined) stream.send(this.#verdict);
          },
        }),
    );
  }

  get connected(): number {
    return this.#streams.filter((stream) => stream.connected).length;
  }

  get directory(): readonly DirectoryNode[] {
    return this.#directory;
  }

  onDirectory(listener: (nodes: readonly DirectoryNode[]) => void): () => void {
    const own = (nodes: readonly DirectoryNode[]): void => listener(nodes);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  statusChanged(): void {
    const { handlers, identity } = this.#options;
    this.#sendAll({ case: "status", value: statusToProto(handlers.status(), identity.self) });
  }

  verdict(sequence: bigint, version: string, fault: GatewayError | null): void {
    const outcome = fault === null ? { accepted: true } : { accepted: false, fault: toFault(fault) };
    this.#verdict = { case: "snapshotVerdict", value: { sequence, version, ...outcome } };
    this.#sendAll(this.#verdict);
  }

  agentWanted(resource: string): void {
    this.#sendAll({ case: "agentWanted", value: { resource } });
  }

  boundColumns(report: BindingsReport): void {
    const value = { ...report, columns: [...report.columns] };
    this.#streams.find((stream) => stream.connected)?.send({ case: "boundColumns", value });
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    await Promise.all(this.#streams.map((stream) => stream.close()));
  }

  #sendAll(report: Report): void {
    for (const stream of this.#streams) if (stream.connected) stream.send(report);
  }

  #takeDirectory(nodes: readonly DirectoryNode[]): void {
    // Replicas tell the same one after the other: listeners hear of it once.
    const text = JSON.stringify(nodes);
    if (text === this.#directoryText) return;
    this.#directory = nodes;
    this.#directoryText = text;
    for (const listener of this.#listeners) {
      try {
        listener(nodes);
      } catch (error) {
        this.#options.log.error({ err: error }, "a listener to the directory of nodes failed");
      }
    }
  }
}
