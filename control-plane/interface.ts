/**
 * What the composition root gives the control plane and gets from it. The control plane never sees a result row and never
 * holds a target secret; everything it needs from other planes comes in through the interfaces named here.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Config } from "@sluice/core/config.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { BindingsReport } from "@sluice/rpc/bindings.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { Meter } from "@sluice/telemetry/meter.ts";
import type { Logger } from "pino";
import type { EndSession } from "./nodes/session-commands.ts";
import type { SessionIndexConsumer } from "./store/session-index.ts";

export interface ControlPlaneOptions {
  readonly config: Config;
  /** Absolute. The certificate authority, the embedded store and the development issuer's keys live below it. */
  readonly dataDirectory: string;
  /** Texts of the manifests that the configuration names; applied at each start. */
  readonly manifestFiles: readonly ManifestFile[];
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Variables of the environment, for the key that encrypts keys in the store. Absent: there are none. */
  readonly readEnvironment?: (name: string) => string | undefined;
  /** Public key (JWK as JSON) of the agent of the same process, for whoever seals secrets. Absent: there is none. */
  readonly sealingKey?: string;
  /** The gateway of the same process, asked on each `policy explain`; it may start after the control plane. Null: connected gateways are asked. */
  readonly explainer: (() => DecisionExplainer) | null;
  /** The recorder of the same process. Null: recorders of the directory are asked. */
  readonly recordings: RecordingReader | null;
  /** Where it declares what it counts. */
  readonly meter?: Meter;
}

/** A file as it was read: `path` is for messages only. */
export interface ManifestFile {
  readonly path: string;
  readonly text: string;
}

/** Files in PEM. `certFile` holds the certificate alone; its issuer is the installation's CA. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface ControlPlane {
  /** `https://host:port` of the admin API. */
  readonly adminUrl: string;
  /** Bearer token of the admin API. Belongs in the ready file and nowhere else. */
  readonly adminToken: string;
  /** PEM of the installation's CA: verifies admin, issuer and the gateway's own certificate. */
  readonly caFile: string;
  /** Issuer URL of the development issuer; undefined when it is off. */
  readonly issuerUrl: string | undefined;
  readonly snapshots: SnapshotSource;
  /** Of the newest snapshot; 0 before the first. */
  snapshotSequence(): number;
  /** To be subscribed to the bus as a durable consumer; `consumeFrom` for records of gateways elsewhere. */
  readonly sessionIndex: SessionIndexConsumer;
  /** `host:port` where nodes enrol and hold their control streams, as bound; null when no other process may join. */
  readonly nodesAddress: string | null;
  /** What it proves itself with to nodes and on the event bus; null when no other process may join. */
  readonly nodeIdentity: NodeIdentity | null;
  /** True when the store answers. */
  ready(): Promise<boolean>;
  /** For the gateway of the same process: columns that keep their label. Rejects when the store does not answer. */
  takeBindings(
    gateway: { readonly name: string; readonly labels: Readonly<Record<string, string>> },
    report: BindingsReport,
  ): Promise<void>;
  /** For the gateway of the same process: an administrator ends a session. Returns how to stop. */
  onEndSession(listener: (command: EndSession) => void): () => void;
  /** For 127.0.0.1, ::1, localhost and the listeners' hosts. Both files are replaced in place when renewed. */
  readonly gatewayCertificate: CertificateFiles;
  /** Finishes requests that run (bounded), then stops the store. Safe to call twice. */
  close(): Promise<void>;
}
