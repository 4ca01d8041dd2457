/**
 * What a node proves itself with, renewed while it runs. Made by `rpc/identity/` for gateways, agents and recorders (enrolment over the
 * wire), by the control plane for itself. The private key never leaves the process and its data directory.
 */
import type { NodeCertificate } from "./nodes.ts";

export interface NodeIdentity {
  readonly self: NodeCertificate;
  /** In force now; changes at renewal. */
  readonly material: IdentityMaterial;
  /** Calls back after the certificate or the trusted authorities changed. Returns how to stop. */
  onChange(listener: () => void): () => void;
  /** Withdrawn before its end. */
  isRevoked(serial: string): boolean;
  /** Takes what the control plane says of authorities and revocations; keeps it on disk. */
  trust(bundle: TrustBundle): void;
  close(): void;
}

export interface IdentityMaterial {
  /** PEM: the node's certificate first. */
  readonly certificateChain: string;
  /** PEM, PKCS #8. */
  readonly privateKey: string;
  /** PEM of all trusted authorities. */
  readonly authorities: string;
}

export interface TrustBundle {
  /** PEM each, the one that signs now first. */
  readonly authorities: readonly string[];
  readonly revokedSerials: ReadonlySet<string>;
}
