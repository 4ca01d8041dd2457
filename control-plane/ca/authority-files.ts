/**
 * What the authority leaves on disk for callers and for the servers of this process: `ca.pem` with everything that is trusted, and
 * pairs of server certificates, each replaced in place. The authority's own key is not among them.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { isIP } from "node:net";
import { dirname, join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import type { Logger } from "pino";
import type { CertificateFiles } from "../interface.ts";
import type { Authority } from "./authority.ts";
import type { PemPair } from "./certificates.ts";
import { readFileIfAny, writePrivateFile } from "./private-files.ts";

export interface AuthorityFilesOptions {
  /** Absolute; made when missing. */
  readonly directory: string;
  readonly authority: Pick<Authority, "caPem" | "issueServer" | "onChange" | "trust">;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface AuthorityFiles {
  /** PEM of every trusted authority, for clients; replaced when that changes. */
  readonly caFile: string;
  /**
   * The certificate called `name` for these hosts (names or IP addresses). The one on disk serves until half its life is over, the
   * hosts changed or another authority signs; then both files are replaced. Call again from time to time to renew; `renewed` says
   * that it was.
   */
  issueServerCertificate(request: {
    readonly name: string;
    readonly hosts: readonly string[];
  }): Promise<CertificateFiles & { readonly renewed: boolean }>;
  /** Resolves when `caFile` holds what was trusted at the call. */
  settled(): Promise<void>;
  close(): void;
}

export async function openAuthorityFiles({ directory, authority, clock, log }: AuthorityFilesOptions): Promise<AuthorityFiles> {
  await mkdir(dirname(directory), { recursive: true, mode: 0o700 });
  // Others may come for ca.pem; the keys beside it are for this user alone.
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const caFile = join(directory, "ca.pem");
  const writeTrusted = async (): Promise<void> => {
    const trusted = authority.caPem();
    if ((await readFileIfAny(caFile)) === trusted) return;
    await writePrivateFile(caFile, trusted, { mode: 0o644 });
    log.info({ caFile, authorities: authority.trust().authorities.length }, "certificates of the trusted authorities written");
  };
  await writeTrusted();
  let last: Promise<void> = Promise.resolve();
  const stop = authority.onChange(() => {
    last = last
      .then(writeTrusted)
      .catch((error: unknown) => log.error({ err: error, caFile }, "the trusted authorities could not be written"));
  });

  return {
    caFile,
    issueServerCertificate: async ({ name, hosts }) => {
      if (!/^[a-z0-9-]+$/.test(name)) throw new Error("a certificate's name is a file name: lower-case letters, digits, hyphens");
      const files = { certFile: join(directory, `${name}.pem`), keyFile: join(directory, `${name}-key.pem`) };
      const present = await readPair(files.certFile, files.keyFile);
      const signing = authority.trust().authorities[0];
      if (present !== undefined && signing !== undefined && serves(present, signing, hosts, clock.nowMs())) {
        return { ...files, renewed: false };
      }
      const pair = await authority.issueServer(hosts);
      // The key first: who reads between the two sees an old certificate with a new key, refuses the pair and reads again.
      await writePrivateFile(files.keyFile, pair.privateKey);
      await writePrivateFile(files.certFile, pair.certificate, { mode: 0o644 });
      log.info({ certificate: name, hosts }, "server certificate issued");
      return { ...files, renewed: true };
    },
    settled: async () => await last,
    close: stop,
  };
}

async function readPair(certFile: string, keyFile: string): Promise<PemPair | undefined> {
  const [certificate, privateKey] = await Promise.all([readFileIfAny(certFile), readFileIfAny(keyFile)]);
  return certificate === undefined || privateKey === undefined ? undefined : { certificate, privateKey };
}

/** True while the pair is whole, signed by the authority that signs now, for exactly these hosts, and in the first half of its life. */
function serves(pair: PemPair, signing: string, hosts: readonly string[], nowMs: number): boolean {
  if (!belongTogether(pair)) return false;
  const certificate = new X509Certificate(pair.certificate);
  if (!certificate.verify(new X509Certificate(signing).publicKey)) return false;
  const covers = hosts.every(
    (host) => (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined,
  );
  const fromMs = certificate.validFromDate.getTime();
  const toMs = certificate.validToDate.getTime();
  return covers && nowMs >= fromMs && nowMs < fromMs + (toMs - fromMs) / 2;
}

function belongTogether(pair: PemPair): boolean {
  try {
    return new X509Certificate(pair.certificate).checkPrivateKey(createPrivateKey(pair.privateKey));
  } catch {
    return false; // not PEM, or cut short
  }
}
