/**
 * What nodes sign on the bus, and how it is checked: the bus's servers and whoever may write to them are trusted with nothing. A
 * signature covers words of its own kind and every field with its length before it, so that no message passes for another.
 */
import { createPrivateKey, createSign, createVerify, type KeyObject, X509Certificate } from "node:crypto";
import { verifyNode } from "@sluice/rpc/identity/verify.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";

export type SignedField = string | number | Uint8Array;

export interface Proof {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly signature: Uint8Array;
}

/** Signs with the key in force. */
export class ProofSigner {
  readonly #identity: NodeIdentity;
  #material = "";
  #key: KeyObject | null = null;
  #certificate: Uint8Array = new Uint8Array();

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
  }

  sign(context: string, fields: readonly SignedField[]): Proof {
    const { privateKey, certificateChain } = this.#identity.material;
    if (this.#key === null || this.#material !== privateKey + certificateChain) {
      this.#key = createPrivateKey(privateKey);
      this.#certificate = new X509Certificate(certificateChain).raw;
      this.#material = privateKey + certificateChain;
    }
    const signing = createSign("sha256");
    feed(signing, context, fields);
    return { certificate: this.#certificate, signature: signing.sign(this.#key) };
  }
}

/**
 * Null when `proof` is of the node `name` in `role`, of this installation, valid at `atMs`, not withdrawn, and over exactly these fields;
 * else in words why not.
 */
export function checkProof(
  identity: NodeIdentity,
  expected: { readonly role: NodeRole; readonly name: string; readonly atMs: number },
  context: string,
  fields: readonly SignedField[],
  proof: Proof,
): string | null {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(proof.certificate);
  } catch {
    return "it has no certificate";
  }
  const verdict = verifyNode(certificate, identity, expected.atMs);
  if (verdict.kind === "refused") return `its sender's certificate is not accepted (${verdict.reason})`;
  const { node } = verdict;
  if (node.role !== expected.role || node.name !== expected.name) return `its sender is the ${node.role} ${node.name}`;
  const verifying = createVerify("sha256");
  feed(verifying, context, fields);
  return verifying.verify(certificate.publicKey, proof.signature) ? null : "its signature is wrong";
}

/** What is signed: the context and a NUL, then each field behind its length in eight bytes; numbers are eight bytes themselves. */
function feed(into: { update(bytes: Uint8Array | string): unknown }, context: string, fields: readonly SignedField[]): void {
  into.update(`${context}\0`);
  for (const field of fields) {
    const bytes = typeof field === "number" ? uint64(field) : typeof field === "string" ? Buffer.from(field) : field;
    into.update(uint64(bytes.length));
    into.update(bytes);
  }
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
