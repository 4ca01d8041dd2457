/**
 * Snapshots as they travel: bytes that the control plane signed, verified by gateways and agents before anything in them is
 * parsed. Knows nothing of sequences that were seen before and of leases: whoever keeps the snapshot keeps those.
 * Signature: Ed25519 (RFC 8032) over a fixed prefix and the content; the signer's certificate comes from a trusted authority.
 */
import { verify, X509Certificate } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { fromBinary } from "@bufbuild/protobuf";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import {
  SignedContentSchema,
  SnapshotContent_Audience,
  type SnapshotContent,
  SnapshotContentSchema,
} from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { CAPABILITY } from "./capabilities.ts";
import { type NodeVerdict, verifyNode } from "./identity/verify.ts";
import type { NodeIdentity, TrustBundle } from "./node-identity.ts";

export type SnapshotAudience = "gateway" | "agent";

export interface VerifiedContent {
  readonly sequence: bigint;
  /** Content hash of the policy. */
  readonly version: string;
  readonly issuedAtMs: number;
  readonly leaseMs: number;
  readonly strictLeaseMs: number;
  /** JSON (UTF-8), zstd; see `unpackBody`. */
  readonly body: Uint8Array;
  /** Null when it says nothing of trust. */
  readonly trust: TrustBundle | null;
}

/** Names of the role control-plane that begin like this belong to snapshot signers; what the control plane dials and serves with cannot sign. */
export const SNAPSHOT_SIGNER_PREFIX = "snapshot-signer-";
const SIGNATURE_PREFIX: Buffer = Buffer.from("sluice snapshot v1\0");
const SIGNATURE_BYTES = 64;

/** What the signature covers. */
export function snapshotSignatureInput(content: Uint8Array): Buffer {
  return Buffer.concat([SIGNATURE_PREFIX, content]);
}

/**
 * Takes a serialised SignedContent. Throws GatewayError `protocol_violation` (not such a message), `unauthorized` (not signed by
 * a signer that is trusted now) or `incompatible` (meant for newer or other nodes).
 */
export function verifySignedContent(
  bytes: Uint8Array,
  identity: Pick<NodeIdentity, "material" | "isRevoked">,
  nowMs: number,
  audience: SnapshotAudience,
): VerifiedContent {
  const signed = parsed(() => fromBinary(SignedContentSchema, bytes));
  requireSignature(signed.content, signed.signature, signerOf(signed.signerCertificate, identity, nowMs));
  const content = parsed(() => fromBinary(SnapshotContentSchema, signed.content));
  if (content.audience !== audienceValues[audience]) {
    throw new GatewayError("incompatible", `The snapshot was made for other nodes than ${audience}s.`);
  }
  if (content.capabilityMin > CAPABILITY) {
    throw new GatewayError(
      "incompatible",
      `The snapshot needs nodes of version ${content.capabilityMin} or later; this is ${CAPABILITY}.`,
      {
        hint: "Upgrade this node. docs/guides/upgrade.md says in which order.",
      },
    );
  }
  return fromProto(content);
}

/** The JSON text of a body. Throws `protocol_violation` when it is damaged or larger than `bytesMax`. */
export function unpackBody(body: Uint8Array, bytesMax: number): string {
  const plain = parsed(() => zstdDecompressSync(body, { maxOutputLength: bytesMax }));
  return parsed(() => new TextDecoder("utf-8", { fatal: true }).decode(plain));
}

const audienceValues: Readonly<Record<SnapshotAudience, SnapshotContent_Audience>> = {
  gateway: SnapshotContent_Audience.GATEWAY,
  agent: SnapshotContent_Audience.AGENT,
};

function signerOf(der: Uint8Array, identity: Pick<NodeIdentity, "material" | "isRevoked">, nowMs: number): X509Certificate {
  const certificate = parsed(() => new X509Certificate(der));
  const verdict = verifyNode(certificate, identity, nowMs);
  if (verdict.kind === "refused") throw refusedSigner(verdict.reason);
  const { role, name } = verdict.node;
  if (role !== "control-plane" || !name.startsWith(SNAPSHOT_SIGNER_PREFIX)) throw refusedSigner("not_a_node");
  return certificate;
}

function requireSignature(content: Uint8Array, signature: Uint8Array, signer: X509Certificate): void {
  const { publicKey } = signer;
  const valid =
    publicKey.asymmetricKeyType === "ed25519" &&
    signature.length === SIGNATURE_BYTES &&
    verify(null, snapshotSignatureInput(content), publicKey, signature);
  if (!valid) throw refused("Its signature does not fit its content.");
}

function fromProto(content: SnapshotContent): VerifiedContent {
  const { sequence, version, issuedAtMs, leaseMs, strictLeaseMs, body, trust } = content;
  return {
    sequence,
    version,
    issuedAtMs: Number(issuedAtMs),
    leaseMs: Number(leaseMs),
    strictLeaseMs: Number(strictLeaseMs),
    body,
    trust:
      trust === undefined || trust.authorities.length === 0
        ? null
        : {
            authorities: parsed(() => trust.authorities.map((der) => new X509Certificate(der).toString())),
            revokedSerials: new Set(trust.revokedSerials),
          },
  };
}

function parsed<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (cause) {
    throw new GatewayError("protocol_violation", "What should be a signed snapshot is damaged or no such thing.", { cause });
  }
}

function refusedSigner(reason: Extract<NodeVerdict, { kind: "refused" }>["reason"]): GatewayError {
  switch (reason) {
    case "not_a_node":
      return refused("It was signed with a certificate that is not a snapshot signer's.");
    case "untrusted":
      return refused("Its signer's certificate was not issued by an authority that this node trusts.");
    case "not_yet_valid":
    case "expired":
      return refused(
        "Its signer's certificate is not valid at this time.",
        "Check that this host's clock agrees with the control plane's.",
      );
    case "revoked":
      return refused("Its signer's certificate was withdrawn.");
    default:
      return assertNever(reason);
  }
}

function refused(why: string, hint?: string): GatewayError {
  return new GatewayError("unauthorized", `The snapshot is not accepted. ${why}`, hint === undefined ? {} : { hint });
}
