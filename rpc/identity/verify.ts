/**
 * Whether a certificate is one of a node of this installation, now: signed by a trusted authority, within its time, not withdrawn.
 * Asked anew wherever trust is used, since a TLS connection outlives what was true when it was made. RFC 5280 as far as the
 * installation's own certificates need it; TLS has checked the rest.
 */
import { createHash, X509Certificate } from "node:crypto";
import type { NodeIdentity } from "../node-identity.ts";
import type { NodeCertificate } from "../nodes.ts";
import { readNodeCertificate, splitPem } from "./node-certificate.ts";

/** Authorities sign nodes themselves; one between is room for an authority of a company's own above. */
const CHAIN_MAX = 3;

/** Why a certificate is not accepted, or the node that it is of. */
export type NodeVerdict =
  | { readonly kind: "node"; readonly node: NodeCertificate }
  | { readonly kind: "refused"; readonly reason: "not_a_node" | "untrusted" | "not_yet_valid" | "expired" | "revoked" };

/** `between`: certificates that came along and are trusted no more than the leaf, DER each. */
export function verifyNode(
  certificate: Uint8Array | X509Certificate,
  identity: Pick<NodeIdentity, "material" | "isRevoked">,
  nowMs: number,
  between: readonly Uint8Array[] = [],
): NodeVerdict {
  const node = readNodeCertificate(certificate);
  if (node === null) return { kind: "refused", reason: "not_a_node" };
  const leaf = certificate instanceof X509Certificate ? certificate : new X509Certificate(Buffer.from(certificate));
  const authorities = splitPem(identity.material.authorities).map((pem) => new X509Certificate(pem));
  const others = between.map((der) => new X509Certificate(Buffer.from(der)));
  if (findAuthority(leaf, others, authorities, nowMs) === null) return { kind: "refused", reason: "untrusted" };
  // First: who is lenient with a certificate that has only run out must hear that it was withdrawn.
  if (identity.isRevoked(node.serial)) return { kind: "refused", reason: "revoked" };
  if (nowMs < node.notBeforeMs) return { kind: "refused", reason: "not_yet_valid" };
  if (nowMs >= node.notAfterMs) return { kind: "refused", reason: "expired" };
  return { kind: "node", node };
}

/** The trusted certificate that `leaf` chains to, through others at most; null when there is none. */
export function findAuthority(
  leaf: X509Certificate,
  others: readonly X509Certificate[],
  trusted: readonly X509Certificate[],
  nowMs: number,
): X509Certificate | null {
  let current = leaf;
  for (let depth = 0; depth < CHAIN_MAX; depth += 1) {
    const below = current;
    const authority = trusted.find((candidate) => hasIssued(candidate, below, nowMs));
    if (authority !== undefined) return authority;
    const next = others.find((candidate) => candidate !== below && hasIssued(candidate, below, nowMs));
    if (next === undefined) return null;
    current = next;
  }
  return null;
}

/** How people and join tokens name a certificate: hex SHA-256 of its DER. */
export function fingerprintOf(certificate: X509Certificate | Uint8Array): string {
  const der = certificate instanceof X509Certificate ? certificate.raw : certificate;
  return createHash("sha256").update(der).digest("hex");
}

function hasIssued(authority: X509Certificate, below: X509Certificate, nowMs: number): boolean {
  return (
    authority.ca &&
    nowMs >= authority.validFromDate.getTime() &&
    nowMs < authority.validToDate.getTime() &&
    below.checkIssued(authority) &&
    below.verify(authority.publicKey)
  );
}
