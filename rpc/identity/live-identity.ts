/**
 * A node's identity in memory: what it proves itself with and whom it trusts, both replaced while it runs. Keeps nothing on disk
 * and asks nobody: `open.ts` does that for nodes that enrol, the control plane for itself.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { IdentityMaterial, NodeIdentity, TrustBundle } from "../node-identity.ts";
import type { NodeCertificate } from "../nodes.ts";
import { canonicalSerial, readNodeCertificate } from "./node-certificate.ts";

/** An identity whose owner brings new material himself. Throws `config_invalid` when it is not a node's certificate. */
export function fixedIdentity(material: IdentityMaterial, trust: Pick<TrustBundle, "revokedSerials"> = nobody): LiveIdentity {
  return new LiveIdentity(material, trust.revokedSerials);
}

export class LiveIdentity implements NodeIdentity {
  #material: IdentityMaterial;
  #self: NodeCertificate;
  #revokedSerials: ReadonlySet<string>;
  readonly #listeners = new Set<() => void>();

  constructor(material: IdentityMaterial, revokedSerials: ReadonlySet<string>) {
    this.#material = material;
    this.#self = read(material);
    this.#revokedSerials = revokedSerials;
  }

  get self(): NodeCertificate {
    return this.#self;
  }

  get material(): IdentityMaterial {
    return this.#material;
  }

  get revokedSerials(): ReadonlySet<string> {
    return this.#revokedSerials;
  }

  onChange(listener: () => void): () => void {
    // Wrapped, so that one function given twice is told twice and each return stops its own.
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  isRevoked(serial: string): boolean {
    return this.#revokedSerials.has(canonicalSerial(serial));
  }

  /** Listeners hear of it when anything in it is new, revocations as well. A bundle without authorities would trust nobody: ignored. */
  trust(bundle: TrustBundle): void {
    if (bundle.authorities.length === 0) return;
    const authorities = bundle.authorities.map((pem) => (pem.endsWith("\n") ? pem : `${pem}\n`)).join("");
    const revoked = new Set([...bundle.revokedSerials].map(canonicalSerial));
    if (authorities === this.#material.authorities && isSameSet(revoked, this.#revokedSerials)) return;
    this.#material = { ...this.#material, authorities };
    this.#revokedSerials = revoked;
    this.#tell();
  }

  /** New certificate, key or authorities. Throws `config_invalid` when it is not a node's certificate. */
  replace(material: IdentityMaterial): void {
    this.#self = read(material);
    this.#material = material;
    this.#tell();
  }

  close(): void {
    this.#listeners.clear();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

const nobody: Pick<TrustBundle, "revokedSerials"> = { revokedSerials: new Set() };

function read(material: IdentityMaterial): NodeCertificate {
  const self = readNodeCertificate(material.certificateChain);
  if (self !== null) return self;
  throw new GatewayError("config_invalid", "The certificate of this process is not one of a node.", {
    hint: "Certificates of nodes come from the control plane: enrol with a join token (`sluice nodes join-token create`).",
  });
}

function isSameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((one) => b.has(one));
}
