/**
 * The snapshot in force, compiled once and swapped as a whole. A snapshot that does not compile is not taken: the former one
 * stays, and the control plane has said so to whoever applied it.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
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
}

export class PolicyStore {
  #current: PolicyInForce;
  readonly #listeners = new Set<(policy: PolicyInForce) => void>();
  readonly #stop: () => void;

  constructor(source: SnapshotSource, log: Logger) {
    this.#current = load(source.current);
    this.#stop = source.subscribe((snapshot) => {
      try {
        this.#current = load(snapshot);
      } catch (error) {
        log.error({ err: error, version: snapshot.version }, "a policy snapshot does not compile; the former one stays in force");
        return;
      }
      log.info({ version: snapshot.version }, "a policy snapshot is in force");
      for (const listener of this.#listeners) listener(this.#current);
    });
  }

  get current(): PolicyInForce {
    return this.#current;
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

function load(snapshot: Snapshot): PolicyInForce {
  const { compiled, faults } = compileSnapshot(snapshot);
  if (faults.length > 0) {
    throw new GatewayError(
      "config_invalid",
      `The policy snapshot has faults: ${faults.map((fault) => `${fault.kind} ${fault.name} ${fault.path.join(".")}: ${fault.message}`).join("; ")}`,
    );
  }
  return {
    snapshot,
    compiled,
    detectors: snapshot.classifiers.flatMap((classifier) =>
      classifier.values === undefined ? [] : [compileDetector(classifier.entity, classifier.values)],
    ),
    resources: new Map(snapshot.resources.map((resource) => [resource.name, resource])),
  };
}
