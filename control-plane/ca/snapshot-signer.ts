/**
 * The key that signs snapshots: Ed25519, one for all replicas, in the store (wrapped) with a certificate that no TLS peer accepts.
 * Replaced at half its life, and at once when another authority signs.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from "node:crypto";
import type { Random } from "@sluice/core/random.ts";
import { nodeUri } from "@sluice/rpc/identity/node-certificate.ts";
import { SNAPSHOT_SIGNER_PREFIX, snapshotSignatureInput } from "@sluice/rpc/signed-content.ts";
import type { Kysely, Transaction } from "kysely";
import type { KeyEncryption } from "../keys/envelope.ts";
import { signerKeyPurpose } from "../keys/purposes.ts";
import type { Tables } from "../store/tables.ts";
import { holdSigning, lockAuthorities, recordCertificate } from "./authority-rows.ts";
import { issue, type SigningAuthority } from "./certificates.ts";

export interface SnapshotSigner {
  /** Changes when another key signs. */
  readonly id: string;
  /** Lower-case hex. */
  readonly serial: string;
  /** DER, for `SignedContent.signer_certificate`. */
  readonly certificate: Uint8Array;
  readonly notAfterMs: number;
  /** Of the authority that issued its certificate. */
  readonly authority: string;
  /** The signature over a serialised SnapshotContent. */
  sign(content: Uint8Array): Uint8Array;
}

export interface SignerRequest {
  readonly db: Kysely<Tables>;
  readonly keys: KeyEncryption;
  readonly known: { readonly fingerprint: string; readonly authority: SigningAuthority } | null;
  readonly lifetimeMs: number;
  readonly nowMs: number;
  readonly random: Random;
}

/** True in the first half of its life under this authority. */
export function isFresh(
  signer: Pick<SnapshotSigner, "authority" | "notAfterMs">,
  authority: string,
  lifetimeMs: number,
  nowMs: number,
): boolean {
  return signer.authority === authority && signer.notAfterMs - nowMs > lifetimeMs / 2;
}

/** The newest one of the store that is fresh and not withdrawn, or a new one. */
export async function openSigner(request: SignerRequest): Promise<SnapshotSigner> {
  const { db, keys, lifetimeMs, nowMs } = request;
  return await db.transaction().execute(async (transaction) => {
    await lockAuthorities(transaction);
    const { fingerprint, authority } = await holdSigning(transaction, keys, request.known);
    const row = await transaction
      .selectFrom("signers")
      .innerJoin("certificates", "certificates.serial", "signers.serial")
      .select(["signers.id", "signers.certificate", "signers.wrapped_key"])
      .where("signers.authority", "=", fingerprint)
      .where("signers.not_after", ">", new Date(nowMs + lifetimeMs / 2))
      .where("certificates.revoked_at", "is", null)
      .orderBy("signers.created_at", "desc")
      .limit(1)
      .executeTakeFirst();
    if (row === undefined) return await makeSigner(transaction, request, fingerprint, authority);
    const key = createPrivateKey(Buffer.from(await keys.unwrap(row.wrapped_key, signerKeyPurpose(row.id))));
    return toSigner(row.id, new X509Certificate(row.certificate), key, fingerprint);
  });
}

async function makeSigner(
  transaction: Transaction<Tables>,
  { keys, lifetimeMs, nowMs, random }: SignerRequest,
  fingerprint: string,
  authority: SigningAuthority,
): Promise<SnapshotSigner> {
  const id = Buffer.from(random.bytes(8)).toString("hex");
  const name = `${SNAPSHOT_SIGNER_PREFIX}${id}`;
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const issued = await issue(authority, {
    subject: name,
    publicKey: publicKey.export({ type: "spki", format: "der" }),
    hosts: [],
    uri: nodeUri("control-plane", name, {}),
    use: "signer",
    lifetimeMs,
    nowMs,
    random,
  });
  const certificate = new X509Certificate(Buffer.from(issued.certificate));
  await recordCertificate(transaction, issued, { authority: fingerprint, role: "control-plane", name, nowMs });
  await transaction
    .insertInto("signers")
    .values({
      id,
      authority: fingerprint,
      serial: issued.serial,
      certificate: certificate.toString(),
      wrapped_key: await keys.wrap(Buffer.from(privateKey.export({ type: "pkcs8", format: "pem" })), signerKeyPurpose(id)),
      created_at: new Date(nowMs),
      not_after: new Date(issued.notAfterMs),
    })
    .execute();
  return toSigner(id, certificate, privateKey, fingerprint);
}

function toSigner(id: string, certificate: X509Certificate, key: KeyObject, authority: string): SnapshotSigner {
  return {
    id,
    serial: certificate.serialNumber.toLowerCase(),
    certificate: new Uint8Array(certificate.raw),
    notAfterMs: certificate.validToDate.getTime(),
    authority,
    sign: (content) => new Uint8Array(sign(null, snapshotSignatureInput(content), key)),
  };
}
