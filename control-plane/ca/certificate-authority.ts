/**
 * The installation's own certificate authority, kept in one directory: made once, its key readable by this user alone. Issues
 * the server certificates of admin, issuer and gateway. Must never sign anything for a stranger: there is no enrolment here.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { isIP } from "node:net";
import { dirname, join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Logger } from "pino";
import type { CertificateFiles } from "../interface.ts";
import { makeAuthority, makeServerCertificate, type PemPair, readAuthority } from "./certificates.ts";
import { readFileIfAny, writePrivateFile } from "./private-files.ts";

export interface CertificateAuthorityOptions {
  /** Absolute; made when missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export interface CertificateAuthority {
  /** PEM of the CA's certificate, for clients. */
  readonly caFile: string;
  /**
   * The certificate called `name` for these hosts (names or IP addresses). The one on disk serves until half its life is over or
   * the hosts changed; then both files are replaced. Call again from time to time to renew; `renewed` says that it was.
   */
  issueServerCertificate(request: {
    readonly name: string;
    readonly hosts: readonly string[];
  }): Promise<CertificateFiles & { readonly renewed: boolean }>;
}

/** Opens the authority in `directory`, or makes one. Throws `config_invalid` when the files there do not belong together. */
export async function ensureCertificateAuthority(options: CertificateAuthorityOptions): Promise<CertificateAuthority> {
  const { directory, clock, random, log } = options;
  await mkdir(dirname(directory), { recursive: true, mode: 0o700 });
  // Others may come for ca.pem; the keys beside it are for this user alone.
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const caFile = join(directory, "ca.pem");
  const authority = await loadOrMake(options, caFile);

  return {
    caFile,
    issueServerCertificate: async ({ name, hosts }) => {
      if (!/^[a-z0-9-]+$/.test(name)) throw new Error("a certificate's name is a file name: lower-case letters, digits, hyphens");
      const files = { certFile: join(directory, `${name}.pem`), keyFile: join(directory, `${name}-key.pem`) };
      const present = await readPair(files.certFile, files.keyFile);
      if (present !== undefined && serves(present, authority, hosts, clock.nowMs())) return { ...files, renewed: false };
      const pair = await makeServerCertificate(await readAuthority(authority), hosts, clock.nowMs(), random);
      // The key first: who reads between the two sees an old certificate with a new key, refuses the pair and reads again.
      await writePrivateFile(files.keyFile, pair.privateKey);
      await writePrivateFile(files.certFile, pair.certificate, { mode: 0o644 });
      log.info({ certificate: name, hosts }, "server certificate issued");
      return { ...files, renewed: true };
    },
  };
}

async function loadOrMake(options: CertificateAuthorityOptions, caFile: string): Promise<PemPair> {
  const { directory, clock, random, log } = options;
  const keyFile = join(directory, "ca-key.pem");
  const certificate = await readFileIfAny(caFile);
  if (certificate === undefined) {
    // The certificate is written last: without one there is no authority yet, whatever a crash left of its key.
    const made = await makeAuthority(clock.nowMs(), random);
    await writePrivateFile(keyFile, made.privateKey);
    await writePrivateFile(caFile, made.certificate, { mode: 0o644 });
    log.info({ caFile }, "certificate authority of this installation made");
    return made;
  }
  const privateKey = await readFileIfAny(keyFile);
  if (privateKey === undefined || !belongTogether({ certificate, privateKey })) {
    throw new GatewayError(
      "config_invalid",
      `The certificate authority in ${directory} is damaged: its key is missing or another's.`,
      {
        hint: "Restore ca.pem and ca-key.pem from a backup, or remove both to begin anew (clients then need the new ca.pem).",
      },
    );
  }
  if (Date.parse(new X509Certificate(certificate).validTo) <= clock.nowMs()) {
    throw new GatewayError("config_invalid", `The certificate authority in ${directory} has expired.`, {
      hint: "Remove ca.pem and ca-key.pem to make a new one; clients then need the new ca.pem.",
    });
  }
  return { certificate, privateKey };
}

async function readPair(certFile: string, keyFile: string): Promise<PemPair | undefined> {
  const [certificate, privateKey] = await Promise.all([readFileIfAny(certFile), readFileIfAny(keyFile)]);
  return certificate === undefined || privateKey === undefined ? undefined : { certificate, privateKey };
}

/** True while the pair is whole, ours, for exactly these hosts, and in the first half of its life. */
function serves(pair: PemPair, authority: PemPair, hosts: readonly string[], nowMs: number): boolean {
  if (!belongTogether(pair)) return false;
  const certificate = new X509Certificate(pair.certificate);
  if (!certificate.verify(new X509Certificate(authority.certificate).publicKey)) return false;
  const covers = hosts.every(
    (host) => (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined,
  );
  const fromMs = Date.parse(certificate.validFrom);
  const toMs = Date.parse(certificate.validTo);
  return covers && nowMs >= fromMs && nowMs < fromMs + (toMs - fromMs) / 2;
}

function belongTogether(pair: PemPair): boolean {
  try {
    return new X509Certificate(pair.certificate).checkPrivateKey(createPrivateKey(pair.privateKey));
  } catch {
    return false; // not PEM, or cut short
  }
}
