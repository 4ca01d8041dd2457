/**
 * Makes X.509 certificates that psql (verify-full), Node and Java accept: a CA, and under it servers, nodes and signers of
 * snapshots. ECDSA on P-256, the one curve that all of them take. Holds no state, touches no file.
 * Spec: RFC 5280; server names after RFC 9525 (SAN alone, IP addresses as iPAddress); RFC 2986 (requests).
 */
import "reflect-metadata";
import { createPublicKey, KeyObject, webcrypto, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import * as x509 from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 24 * 3_600_000;

/** Ten years: replacing a CA means touching every client. */
export const authorityLifetimeMs: number = 3_650 * dayMs;
/** Ninety days, renewed at half: long enough for a stopped laptop, short enough that a copied key ages. */
export const serverLifetimeMs: number = 90 * dayMs;
/** Begin in the past by this much, for machines whose clock is behind. */
const backdatedMs = 3_600_000;
/** RFC 9336: signs documents. TLS takes no certificate for a peer that is for this alone. */
const documentSigning = "1.3.6.1.5.5.7.3.36";

export interface PemPair {
  readonly certificate: string;
  readonly privateKey: string;
}

/** A CA that is ready to sign. */
export interface SigningAuthority {
  /** PEM. */
  readonly certificate: string;
  readonly parsed: x509.X509Certificate;
  readonly key: webcrypto.CryptoKey;
}

export interface Issued {
  /** DER. */
  readonly certificate: Uint8Array;
  /** Lower-case hex. */
  readonly serial: string;
  readonly notAfterMs: number;
}

/** A self-signed CA that may sign servers and nodes and nothing below them. Its name carries random characters, so that two installations differ. */
export async function makeAuthority(nowMs: number, random: Random): Promise<PemPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const label = Buffer.from(random.bytes(4)).toString("hex");
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    name: `CN=Sluice installation ${label}, O=Sluice`,
    notBefore: new Date(nowMs - backdatedMs),
    notAfter: new Date(nowMs + authorityLifetimeMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false),
    ],
  });
  return { certificate: pemOf(certificate), privateKey: privateKeyPem(keys.privateKey) };
}

export async function readAuthority({ certificate, privateKey }: PemPair): Promise<SigningAuthority> {
  const bytes = x509.PemConverter.decodeFirst(privateKey);
  const key = await webcrypto.subtle.importKey("pkcs8", bytes, algorithm, false, ["sign"]);
  return { certificate, parsed: new x509.X509Certificate(certificate), key };
}

/** A server certificate for `hosts` (names and addresses) with a fresh key. */
export async function makeServerCertificate(
  authority: SigningAuthority,
  hosts: readonly string[],
  nowMs: number,
  random: Random,
): Promise<PemPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const issued = await issue(authority, {
    subject: hosts.find((host) => isIP(host) === 0) ?? "sluice",
    publicKey: await webcrypto.subtle.exportKey("spki", keys.publicKey).then((spki) => new Uint8Array(spki)),
    hosts,
    uri: null,
    use: "server",
    lifetimeMs: serverLifetimeMs,
    nowMs,
    random,
  });
  return { certificate: new X509Certificate(issued.certificate).toString(), privateKey: privateKeyPem(keys.privateKey) };
}

export interface IssueRequest {
  /** Common name: for people who look at a certificate. */
  readonly subject: string;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  readonly hosts: readonly string[];
  readonly uri: string | null;
  /** `node`: TLS in both directions. `signer`: no TLS at all. */
  readonly use: "server" | "node" | "signer";
  readonly lifetimeMs: number;
  readonly nowMs: number;
  readonly random: Random;
}

/** Ends with the authority at the latest. */
export async function issue(authority: SigningAuthority, request: IssueRequest): Promise<Issued> {
  const serial = serialNumber(request.random);
  const notAfterMs = Math.min(request.nowMs + request.lifetimeMs, authority.parsed.notAfter.getTime());
  const publicKey = new x509.PublicKey(request.publicKey);
  const names = [
    ...(request.uri === null ? [] : [new x509.GeneralName("url", request.uri)]),
    ...request.hosts.map((host) => new x509.GeneralName(isIP(host) === 0 ? "dns" : "ip", host)),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial,
    subject: [{ CN: [request.subject] }, { O: ["Sluice"] }],
    issuer: authority.parsed.subject,
    notBefore: new Date(request.nowMs - backdatedMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: algorithm,
    publicKey,
    signingKey: authority.key,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usagesOf(request.use), false),
      new x509.SubjectAlternativeNameExtension(names, false),
      await x509.SubjectKeyIdentifierExtension.create(publicKey, false),
      await x509.AuthorityKeyIdentifierExtension.create(authority.parsed, false),
    ],
  });
  return { certificate: new Uint8Array(certificate.rawData), serial, notAfterMs: Math.floor(notAfterMs / 1_000) * 1_000 };
}

/** The key of a request (SubjectPublicKeyInfo, DER) that is signed with it; nothing else in it counts. Throws `enrolment_refused`. */
export async function readCertificateRequest(der: Uint8Array): Promise<Uint8Array> {
  try {
    const request = new x509.Pkcs10CertificateRequest(Buffer.from(der));
    const spki = new Uint8Array(request.publicKey.rawData);
    const key = createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
    const isP256 = key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1";
    if (isP256 && (await request.verify())) return spki;
  } catch {
    // Not PKCS #10, or of a kind that is not known here.
  }
  throw new GatewayError("enrolment_refused", "The certificate request is not one that is signed with its own P-256 key.");
}

export function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem").trimEnd()}\n`;
}

function usagesOf(use: IssueRequest["use"]): string[] {
  if (use === "signer") return [documentSigning];
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
  return use === "node" ? [serverAuth, clientAuth] : [serverAuth];
}

/** Positive (first bit clear), never zero, 127 bits: RFC 5280 section 4.1.2.2 wants at most 20 bytes. */
function serialNumber(random: Random): string {
  const bytes = Buffer.from(random.bytes(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

function privateKeyPem(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: "pkcs8", format: "pem" }).toString();
}
