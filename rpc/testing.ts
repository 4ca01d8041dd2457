/** For tests alone: an authority that issues certificates of nodes, as the control plane's does, and identities made of them. */
import "reflect-metadata";
import { KeyObject, randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import type { Catalog } from "@sluice/core/catalog.ts";
import { decompressCatalog, type EncodedCatalog } from "./encoded-catalog.ts";
import { nodeKeyAlgorithm, nodeSigningAlgorithm, nodeUri } from "./identity/node-certificate.ts";
import { fixedIdentity, type LiveIdentity } from "./identity/live-identity.ts";
import type { IdentityMaterial, TrustBundle } from "./node-identity.ts";
import { type NodeRole, serverNameOf } from "./nodes.ts";

export interface TestNode {
  readonly role: NodeRole;
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Besides the name under which nodes dial it. */
  readonly hosts?: readonly string[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

export interface TestAuthority {
  /** PEM. */
  readonly certificate: string;
  /** A certificate with a key of its own. */
  issue(node: TestNode): Promise<IdentityMaterial>;
  /** A certificate (DER) for a request's key. */
  sign(node: TestNode, certificateRequestDer: Uint8Array): Promise<Uint8Array>;
  /** For any public key: snapshot signers. DER. */
  signKey(node: TestNode, publicKey: webcrypto.CryptoKey): Promise<Uint8Array>;
  trust(revokedSerials?: readonly string[]): TrustBundle;
}

const hourMs = 3_600_000;
const algorithm = { ...nodeKeyAlgorithm, ...nodeSigningAlgorithm };

export async function makeTestAuthority(name = "Test installation"): Promise<TestAuthority> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const own = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - hourMs),
    notAfter: new Date(Date.now() + 1_000 * hourMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false),
    ],
  });
  const certificate = pemOf(own);

  const signKey = async (node: TestNode, publicKey: webcrypto.CryptoKey): Promise<Uint8Array> => {
    const hosts = [serverNameOf(node.role, node.name), ...(node.hosts ?? [])];
    const names = hosts.map((host) => new x509.GeneralName(isIP(host) === 0 ? "dns" : "ip", host));
    const issued = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${node.name}`,
      issuer: own.subject,
      notBefore: new Date(node.notBeforeMs ?? Date.now() - hourMs),
      notAfter: new Date(node.notAfterMs ?? Date.now() + 24 * hourMs),
      signingAlgorithm: algorithm,
      publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth], false),
        new x509.SubjectAlternativeNameExtension(
          [new x509.GeneralName("url", nodeUri(node.role, node.name, node.labels ?? {})), ...names],
          false,
        ),
        await x509.AuthorityKeyIdentifierExtension.create(own, false),
      ],
    });
    return new Uint8Array(issued.rawData);
  };

  return {
    certificate,
    signKey,
    issue: async (node) => {
      const pair = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
      const der = await signKey(node, pair.publicKey);
      return {
        certificateChain: pemOf(new x509.X509Certificate(Buffer.from(der))),
        privateKey: KeyObject.from(pair.privateKey).export({ type: "pkcs8", format: "pem" }).toString(),
        authorities: certificate,
      };
    },
    sign: async (node, request) => {
      const parsed = new x509.Pkcs10CertificateRequest(Buffer.from(request));
      if (!(await parsed.verify())) throw new Error("the request is not signed with its own key");
      const publicKey = await webcrypto.subtle.importKey("spki", parsed.publicKey.rawData, algorithm, true, ["verify"]);
      return await signKey(node, publicKey);
    },
    trust: (revokedSerials = []) => ({ authorities: [certificate], revokedSerials: new Set(revokedSerials) }),
  };
}

/** A node of this authority. `replace` gives it another certificate. */
export async function testIdentity(
  role: NodeRole,
  name: string,
  labels: Readonly<Record<string, string>>,
  authority: TestAuthority,
): Promise<LiveIdentity> {
  return fixedIdentity(await authority.issue({ role, name, labels }));
}

function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem").trimEnd()}\n`;
}

function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

/** What an encoded catalog holds, taken at its word. */
export function catalogIn({ bytes }: EncodedCatalog): Catalog {
  return JSON.parse(decompressCatalog(bytes, 1024 ** 3).toString("utf8")) as Catalog; // tests know what they sent
}
