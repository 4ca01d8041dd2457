/**
 * Makes X.509 certificates that psql (verify-full), Node and Java accept: a CA and server certificates under it. ECDSA on P-256,
 * the one curve that all of them take. Holds no state, touches no file.
 * Spec: RFC 5280; server names after RFC 9525 (SAN alone, IP addresses as iPAddress).
 */
import "reflect-metadata";
import { KeyObject, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import type { Random } from "@sluice/core/random.ts";
import * as x509 from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 24 * 3_600_000;

/** Ten years: replacing a CA means touching every client, and this one's key never leaves the machine. */
export const authorityLifetimeMs: number = 3_650 * dayMs;
/** Ninety days, renewed at half: long enough for a stopped laptop, short enough that a copied key ages. */
export const serverLifetimeMs: number = 90 * dayMs;
/** Begin in the past by this much, for clients whose clock is behind. */
const backdatedMs = 3_600_000;

export interface PemPair {
  readonly certificate: string;
  readonly privateKey: string;
}

/** A self-signed CA that may sign servers and nothing below them. Its name carries random characters, so that two installations differ. */
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
  return { certificate: certificate.toString("pem"), privateKey: privateKeyPem(keys.privateKey) };
}

/** A server certificate for `hosts` (names and addresses) with a fresh key, signed by `authority`. */
export async function makeServerCertificate(
  authority: PemPair,
  hosts: readonly string[],
  nowMs: number,
  random: Random,
): Promise<PemPair> {
  const issuer = new x509.X509Certificate(authority.certificate);
  const signingKey = await importPrivateKey(authority.privateKey);
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const names = hosts.map((host) => new x509.GeneralName(isIP(host) === 0 ? "dns" : "ip", host));
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(random),
    subject: `CN=${hosts.find((host) => isIP(host) === 0) ?? "sluice"}, O=Sluice`,
    issuer: issuer.subject,
    notBefore: new Date(nowMs - backdatedMs),
    notAfter: new Date(Math.min(nowMs + serverLifetimeMs, issuer.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth], false),
      new x509.SubjectAlternativeNameExtension(names, false),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false),
      await x509.AuthorityKeyIdentifierExtension.create(issuer, false),
    ],
  });
  return { certificate: certificate.toString("pem"), privateKey: privateKeyPem(keys.privateKey) };
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

async function importPrivateKey(pem: string): Promise<webcrypto.CryptoKey> {
  const bytes = x509.PemConverter.decodeFirst(pem);
  return await webcrypto.subtle.importKey("pkcs8", bytes, algorithm, false, ["sign"]);
}
