/** For tests alone: an authority without a store, kept in one directory with its key, for servers that a test talks to. */
import { join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { pino } from "pino";
import { type AuthorityFiles, openAuthorityFiles } from "./authority-files.ts";
import { readAuthorityFiles } from "./authority-import.ts";
import { makeAuthority, makeServerCertificate, type PemPair, readAuthority } from "./certificates.ts";
import { writePrivateFile } from "./private-files.ts";

/** The same authority again for the same directory. */
export async function openTestAuthorityFiles(directory: string, clock: Clock = systemClock): Promise<AuthorityFiles> {
  const pair = (await readAuthorityFiles(directory, clock.nowMs())) ?? (await makePair(directory, clock));
  const signing = await readAuthority(pair);
  return await openAuthorityFiles({
    directory,
    authority: {
      caPem: () => pair.certificate,
      issueServer: async (hosts) => await makeServerCertificate(signing, hosts, clock.nowMs(), systemRandom),
      onChange: () => () => undefined,
      trust: () => ({ authorities: [pair.certificate], revokedSerials: new Set() }),
    },
    clock,
    log: pino({ level: "silent" }),
  });
}

async function makePair(directory: string, clock: Clock): Promise<PemPair> {
  const made = await makeAuthority(clock.nowMs(), systemRandom);
  await writePrivateFile(join(directory, "ca-key.pem"), made.privateKey);
  await writePrivateFile(join(directory, "ca.pem"), made.certificate, { mode: 0o644 });
  return made;
}
