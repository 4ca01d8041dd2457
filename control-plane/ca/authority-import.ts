/**
 * Takes over an authority that an earlier version kept as two files in the data directory, so that clients keep their CA. The
 * key's file goes once the store has it; the certificate's file stays for clients.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import { fingerprintOf } from "@sluice/rpc/identity/verify.ts";
import type { Logger } from "pino";
import type { PemPair } from "./certificates.ts";
import { readFileIfAny } from "./private-files.ts";

/** Null when there is none. Throws `config_invalid` when the two do not belong together, or the authority has expired. */
export async function readAuthorityFiles(directory: string, nowMs: number): Promise<PemPair | null> {
  const [certificate, privateKey] = await Promise.all([
    readFileIfAny(join(directory, "ca.pem")),
    readFileIfAny(join(directory, "ca-key.pem")),
  ]);
  // Without its key the certificate is what this version writes for clients.
  if (certificate === undefined || privateKey === undefined) return null;
  if (!belongTogether({ certificate, privateKey })) {
    throw new GatewayError(
      "config_invalid",
      `The certificate authority in ${directory} is damaged: its key is another's or no key.`,
      {
        hint: "Restore ca.pem and ca-key.pem from a backup, or remove both to begin anew (clients then need the new ca.pem).",
      },
    );
  }
  if (new X509Certificate(certificate).validToDate.getTime() <= nowMs) {
    throw new GatewayError("config_invalid", `The certificate authority in ${directory} has expired.`, {
      hint: "Remove ca.pem and ca-key.pem to make a new one; clients then need the new ca.pem.",
    });
  }
  return { certificate, privateKey };
}

/** Removes the key's file when the store has this authority: also after a crash between the two. */
export async function forgetAuthorityFiles(
  directory: string,
  stored: readonly { readonly fingerprint: string }[],
  log: Logger,
): Promise<void> {
  const keyFile = join(directory, "ca-key.pem");
  if ((await readFileIfAny(keyFile)) === undefined) return;
  const certificate = await readFileIfAny(join(directory, "ca.pem"));
  const fingerprint = certificate === undefined ? undefined : fingerprintOfPem(certificate);
  if (stored.some((one) => one.fingerprint === fingerprint)) {
    await rm(keyFile);
    log.info({ keyFile }, "the authority's key is in the store now, encrypted; its file was removed");
    return;
  }
  log.warn({ keyFile }, "this file holds the key of an authority that the store does not know: it is not used");
}

function fingerprintOfPem(pem: string): string | undefined {
  try {
    return fingerprintOf(new X509Certificate(pem));
  } catch {
    return undefined;
  }
}

function belongTogether(pair: PemPair): boolean {
  try {
    return new X509Certificate(pair.certificate).checkPrivateKey(createPrivateKey(pair.privateKey));
  } catch {
    return false; // not PEM, or cut short
  }
}
