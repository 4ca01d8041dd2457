/** Certificates for tests: a CA and a server certificate for 127.0.0.1 and localhost, as files. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  makeAuthority,
  makeServerCertificate,
  type PemPair,
  readAuthority as openAuthority,
} from "@sluice/control-plane/ca/certificates.ts";
import { systemRandom } from "@sluice/core/system.ts";

export interface CertificateFilesOnDisk {
  readonly directory: string;
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  remove(): Promise<void>;
}

/** Makes `NAME.cert.pem` and `NAME.key.pem`; in a directory of an earlier call they come from the same CA. */
export async function makeCertificate(name: string, directory?: string): Promise<CertificateFilesOnDisk> {
  const folder = directory ?? (await mkdtemp(join(tmpdir(), "sluice-certificates-")));
  const files = {
    directory: folder,
    caFile: join(folder, "ca.pem"),
    certFile: join(folder, `${name}.cert.pem`),
    keyFile: join(folder, `${name}.key.pem`),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
  const authority = directory === undefined ? await newAuthority(folder) : await readAuthority(folder);
  const server = await makeServerCertificate(
    await openAuthority(authority),
    ["127.0.0.1", "localhost"],
    Date.now(),
    systemRandom,
  );
  await writeFile(files.certFile, server.certificate);
  await writeFile(files.keyFile, server.privateKey, { mode: 0o600 });
  return files;
}

async function newAuthority(folder: string): Promise<PemPair> {
  const authority = await makeAuthority(Date.now(), systemRandom);
  await writeFile(join(folder, "ca.pem"), authority.certificate);
  await writeFile(join(folder, "ca.key.pem"), authority.privateKey, { mode: 0o600 });
  return authority;
}

async function readAuthority(folder: string): Promise<PemPair> {
  const [certificate, privateKey] = await Promise.all([
    readFile(join(folder, "ca.pem"), "utf8"),
    readFile(join(folder, "ca.key.pem"), "utf8"),
  ]);
  return { certificate, privateKey };
}
