/** The development issuer of this control plane, if it has one, and what the others must know of it: with its CA as text, since they have no such file. */
import { join } from "node:path";
import type { Config } from "@sluice/core/config.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Logger } from "pino";
import type { Authority } from "../ca/authority.ts";
import { readFileIfAny } from "../ca/private-files.ts";
import type { CertificateFiles } from "../interface.ts";
import type { ApplyRequest } from "../publish/publisher.ts";
import { type DevelopmentIssuer, startDevelopmentIssuer } from "./development-issuer.ts";

export interface DevelopmentOptions {
  readonly config: Config;
  readonly dataDirectory: string;
  readonly certificate: CertificateFiles;
  readonly caFile: string;
  readonly authority: Pick<Authority, "caPem">;
  readonly limits: Limits;
  readonly random: Random;
  readonly log: Logger;
}

export interface Development {
  /** Undefined when it is off. */
  readonly issuer: DevelopmentIssuer | undefined;
  /** As of now: changes with the authorities. */
  readonly settings: NonNullable<ApplyRequest["development"]>;
  close(): Promise<void>;
}

export async function openDevelopment(options: DevelopmentOptions): Promise<Development> {
  const directory = join(options.dataDirectory, "issuer");
  const former = await formerIssuer(directory);
  if (!options.config.controlPlane.developmentIssuer) {
    return { issuer: undefined, settings: { provider: null, gone: former }, close: async () => undefined };
  }
  const issuer = await startDevelopmentIssuer({ ...options, directory });
  const gone = former === issuer.issuer ? null : former;
  return {
    issuer,
    get settings() {
      const { caFile: _here, ...provider } = issuer.provider;
      return { provider: { ...provider, caPem: options.authority.caPem() }, gone };
    },
    close: () => issuer.close(),
  };
}

/** The one that this data directory's last process had: it does not count any more when it is off now, or elsewhere. */
async function formerIssuer(directory: string): Promise<string | null> {
  const port = Number((await readFileIfAny(join(directory, "port"))) ?? "0");
  return Number.isInteger(port) && port > 0 ? `https://127.0.0.1:${port}` : null;
}
