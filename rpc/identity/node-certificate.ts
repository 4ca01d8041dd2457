/**
 * Reads and writes what a certificate says of a node: one URI `sluice://ROLE/NAME?LABEL=VALUE…`, labels sorted and percent-encoded
 * (RFC 3986), and nothing else of that kind. Reading verifies nothing: chain and validity are TLS's business, or the caller's.
 * Must never take two spellings for one node: what does not encode back to the same text is no node.
 */
import "reflect-metadata";
import { createPrivateKey, createPublicKey, webcrypto, X509Certificate } from "node:crypto";
import { Pkcs10CertificateRequestGenerator } from "@peculiar/x509";
import type { NodeCertificate, NodeRole } from "../nodes.ts";

/** RFC 1035: what may stand between two dots of a host's name. */
export const dnsLabelPattern: RegExp = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Elliptic-curve keys of nodes: P-256 is what every TLS stack speaks. */
export const nodeKeyAlgorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
export const nodeSigningAlgorithm = { name: "ECDSA", hash: "SHA-256" } as const;

const roles: readonly NodeRole[] = ["control-plane", "gateway", "agent", "recorder"];

/** PEM text, or DER (PEM as bytes will do too). Null when it is no certificate, an authority's, or not one of a node. */
export function readNodeCertificate(pemOrDer: string | Uint8Array | X509Certificate): NodeCertificate | null {
  const certificate = pemOrDer instanceof X509Certificate ? pemOrDer : parse(pemOrDer);
  if (certificate === null || certificate.ca) return null;
  const node = parseNodeUri(nodeUriOf(certificate.subjectAltName));
  if (node === null) return null;
  return {
    ...node,
    serial: canonicalSerial(certificate.serialNumber),
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
  };
}

/** The URI of a node's certificate. Throws when the name is not a DNS label: such a certificate could never be read back. */
export function nodeUri(role: NodeRole, name: string, labels: Readonly<Record<string, string>>): string {
  if (!dnsLabelPattern.test(name)) throw new Error("a node's name is a DNS label: up to 63 lower-case letters, digits, hyphens");
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const query = pairs.map(([label, value]) => `${encode(label)}=${encode(value)}`).join("&");
  return `sluice://${role}/${name}${query === "" ? "" : `?${query}`}`;
}

/** Null for anything but exactly what `nodeUri` writes. */
export function parseNodeUri(uri: string | null): Pick<NodeCertificate, "role" | "name" | "labels"> | null {
  const match = /^sluice:\/\/([a-z-]+)\/([a-z0-9-]+)(?:\?(.+))?$/.exec(uri ?? "");
  const role = roles.find((known) => known === match?.[1]);
  const name = match?.[2];
  if (role === undefined || name === undefined || !dnsLabelPattern.test(name)) return null;
  try {
    const pairs = (match?.[3]?.split("&") ?? []).map((pair) => pair.split("=").map(decodeURIComponent));
    const labels = Object.fromEntries(pairs.map(([label = "", value = ""]) => [label, value]));
    return nodeUri(role, name, labels) === uri ? { role, name, labels } : null;
  } catch {
    return null;
  }
}

/** Serial numbers as they are compared everywhere: lower-case hex, whole bytes, without leading zero bytes. */
export function canonicalSerial(hex: string): string {
  const digits = hex.toLowerCase().replace(/^0+(?=.)/, "");
  return digits.length % 2 === 0 ? digits : `0${digits}`;
}

/** A new key (PEM, PKCS #8) and a request (PKCS #10, DER) signed with it. The request says nothing but the key. */
export async function makeKeyAndRequest(): Promise<{
  readonly privateKeyPem: string;
  readonly certificateRequestDer: Uint8Array;
}> {
  const { privateKey } = await webcrypto.subtle.generateKey(nodeKeyAlgorithm, true, ["sign", "verify"]);
  const privateKeyPem = toPem("PRIVATE KEY", Buffer.from(await webcrypto.subtle.exportKey("pkcs8", privateKey)));
  return { privateKeyPem, certificateRequestDer: await makeRequest(privateKeyPem) };
}

/** A request (PKCS #10, DER) for a key that is there already. */
export async function makeRequest(privateKeyPem: string): Promise<Uint8Array> {
  const key = createPrivateKey(privateKeyPem);
  const publicKey = createPublicKey(key);
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: "CN=sluice",
    keys: {
      privateKey: key.toCryptoKey(nodeKeyAlgorithm, false, ["sign"]),
      publicKey: publicKey.toCryptoKey(nodeKeyAlgorithm, true, ["verify"]),
    },
    signingAlgorithm: nodeSigningAlgorithm,
  });
  return new Uint8Array(request.rawData);
}

/** RFC 7468. */
export function toPem(label: "CERTIFICATE" | "PRIVATE KEY", der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** The certificates in a PEM text, one text each, in order. */
export function splitPem(pem: string): readonly string[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((one) => `${one}\n`);
}

function parse(pemOrDer: string | Uint8Array): X509Certificate | null {
  try {
    return new X509Certificate(typeof pemOrDer === "string" ? pemOrDer : Buffer.from(pemOrDer));
  } catch {
    return null;
  }
}

/**
 * The one URI among the alternative names. Node writes them as `KIND:value` with commas between, and quotes a value that holds
 * anything odd: ours never does, so a text with a quote is not ours.
 */
function nodeUriOf(names: string | undefined): string | null {
  if (names === undefined || names.includes('"')) return null;
  const uris = names.split(", ").filter((name) => name.startsWith("URI:"));
  return uris.length === 1 && uris[0] !== undefined ? uris[0].slice("URI:".length) : null;
}

/** Only RFC 3986's unreserved characters stay as they are. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
