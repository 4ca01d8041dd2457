/**
 * The snapshot in force, compiled once and swapped as a whole. A snapshot that does not compile is not taken: the former one
 * stays, and the source hears why.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { DisabledPrincipal, ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { compileDetector, type Detector } from "@sluice/inspect/dlp/detect.ts";
import { type CompiledSnapshot, compileSnapshot } from "@sluice/inspect/policy/compile.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Logger } from "pino";

export interface PolicyInForce {
  readonly snapshot: Snapshot;
  readonly compiled: CompiledSnapshot;
  /** Every classifier's value detector: by entity for masking, all of them for statement texts in recordings. */
  readonly detectors: readonly Detector[];
  readonly resources: ReadonlyMap<string, ResourceSpec>;
  /** Why this principal may not be here at all; null: it may. */
  readonly disabled: (principal: Principal) => DisabledPrincipal | null;
}

export class PolicyStore {
  readonly #source: SnapshotSource;
  #current: PolicyInForce;
  readonly #listeners = new Set<(policy: PolicyInForce) => void>();
  readonly #stop: () => void;

  constructor(source: SnapshotSource, log: Logger) {
    this.#source = source;
    this.#current = loadPolicy(source.current);
    this.#stop = source.subscribe((snapshot) => {
      this.#current = loadPolicy(snapshot);
      log.info({ version: snapshot.version }, "a policy snapshot is in force");
      for (const listener of this.#listeners) {
        try {
          listener(this.#current);
        } catch (error) {
          log.error({ err: error, version: snapshot.version }, "a part of the gateway failed to follow a policy change");
        }
      }
    });
  }

  get current(): PolicyInForce {
    return this.#current;
  }

  /** Nobody has said for too long that this is still the policy. `strict`: for a resource that is recorded strictly. */
  isStale(strict: boolean): boolean {
    return this.#source.lease !== undefined && this.#source.lease.remainingMs(strict) <= 0;
  }

  /** Calls back after each change. Returns how to stop. */
  onChange(listener: (policy: PolicyInForce) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#stop();
    this.#listeners.clear();
  }
}

/** Compiles a snapshot, once. Throws `config_invalid` with every fault. */
export function loadPolicy(snapshot: Snapshot): PolicyInForce {
  const known = loaded.get(snapshot);
  if (known !== undefined) return known;
  const { compiled, faults } = compileSnapshot(snapshot);
  if (faults.length > 0) {
    throw new GatewayError(
      "config_invalid",
      `The policy snapshot has faults: ${faults.map((fault) => `${fault.kind} ${fault.name} ${fault.path.join(".")}: ${fault.message}`).join("; ")}`,
    );
  }
  const policy: PolicyInForce = {
    snapshot,
    compiled,
    detectors: snapshot.classifiers.flatMap((classifier) =>
      classifier.values === undefined ? [] : [compileDetector(classifier.entity, classifier.values)],
    ),
    resources: new Map(snapshot.resources.map((resource) => [resource.name, resource])),
    disabled: disabledIn(snapshot.disabled ?? []),
  };
  loaded.set(snapshot, policy);
  return policy;
}

const loaded = new WeakMap<Snapshot, PolicyInForce>();

/** Asked for every session at every change: by map, not by search. */
function disabledIn(entries: readonly DisabledPrincipal[]): PolicyInForce["disabled"] {
  if (entries.length === 0) return () => null;
  const owners = new Map<string, DisabledPrincipal>();
  const subjects = new Map<string, DisabledPrincipal[]>();
  for (const entry of entries) {
    if (typeof entry.owner === "string" && entry.owner !== "") owners.set(entry.owner, entry);
    if (typeof entry.subject === "string") subjects.set(entry.subject, [...(subjects.get(entry.subject) ?? []), entry]);
  }
  return ({ subject, issuer, owner }) =>
    subjects.get(subject)?.find((entry) => typeof entry.issuer !== "string" || entry.issuer === issuer) ??
    owners.get(owner) ??
    null;
}
