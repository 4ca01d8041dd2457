/**
 * The gateway's server certificate, from files or from its identity as a node, followed when it changes: new connections get the new
 * one, running ones keep theirs. A pair that does not load is reported and the last good one stays in force.
 */
import { readFile, stat } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import { GatewayError } from "@sluice/core/errors.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { Logger } from "pino";

/** How often the files are looked at. Milliseconds; certificates change rarely, a few seconds late is no harm. */
const CHECK_INTERVAL_MS = 2_000;

export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** What new TLS connections of callers are made with. */
export interface ServerCertificate {
  readonly context: SecureContext;
  close(): void;
}

/** Where it comes from. */
export type CertificateSource = CertificateFiles | Pick<NodeIdentity, "material" | "onChange">;

/** Throws `config_invalid` when it cannot be used. */
export async function openCertificate(source: CertificateSource, log: Logger): Promise<ServerCertificate> {
  return "certFile" in source ? await ReloadingCertificate.load(source, log) : new IdentityCertificate(source, log);
}

/** The node's own certificate, which is renewed while it runs. */
class IdentityCertificate implements ServerCertificate {
  #context: SecureContext;
  readonly #stop: () => void;

  constructor(identity: Pick<NodeIdentity, "material" | "onChange">, log: Logger) {
    let chain = identity.material.certificateChain;
    this.#context = contextOf(identity);
    this.#stop = identity.onChange(() => {
      if (identity.material.certificateChain === chain) return;
      try {
        this.#context = contextOf(identity);
        chain = identity.material.certificateChain;
        log.info("callers are shown the renewed certificate");
      } catch (error) {
        log.warn({ err: error }, "the renewed certificate cannot be used; the former one stays in force");
      }
    });
  }

  get context(): SecureContext {
    return this.#context;
  }

  close(): void {
    this.#stop();
  }
}

export class ReloadingCertificate implements ServerCertificate {
  #context: SecureContext;
  #stamp: string;
  readonly #files: CertificateFiles;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;

  private constructor(files: CertificateFiles, log: Logger, context: SecureContext, stamp: string) {
    this.#files = files;
    this.#log = log;
    this.#context = context;
    this.#stamp = stamp;
    this.#timer = setInterval(() => void this.reload(), CHECK_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Loads the pair. Throws `config_invalid` with the file's name when it cannot be used. */
  static async load(files: CertificateFiles, log: Logger): Promise<ReloadingCertificate> {
    const stamp = await stampOf(files);
    return new ReloadingCertificate(files, log, await readContext(files), stamp);
  }

  get context(): SecureContext {
    return this.#context;
  }

  /** Looks at the files now. Never throws: a bad new pair is logged and the old one is kept. */
  async reload(): Promise<void> {
    try {
      const stamp = await stampOf(this.#files);
      if (stamp === this.#stamp) return;
      this.#context = await readContext(this.#files);
      this.#stamp = stamp;
      this.#log.info({ certFile: this.#files.certFile }, "the gateway's certificate was reloaded");
    } catch (error) {
      this.#log.warn(
        { err: error, certFile: this.#files.certFile },
        "the changed certificate cannot be used; the former one stays in force",
      );
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

function contextOf({ material }: Pick<NodeIdentity, "material">): SecureContext {
  return createSecureContext({ cert: material.certificateChain, key: material.privateKey, minVersion: "TLSv1.2" });
}

async function stampOf(files: CertificateFiles): Promise<string> {
  try {
    const [cert, key] = await Promise.all([stat(files.certFile), stat(files.keyFile)]);
    return `${cert.mtimeMs}/${cert.size}/${cert.ino} ${key.mtimeMs}/${key.size}/${key.ino}`;
  } catch (cause) {
    throw unusable(files, cause);
  }
}

async function readContext(files: CertificateFiles): Promise<SecureContext> {
  try {
    const [cert, key] = await Promise.all([readFile(files.certFile), readFile(files.keyFile)]);
    return createSecureContext({ cert, key, minVersion: "TLSv1.2" });
  } catch (cause) {
    throw unusable(files, cause);
  }
}

function unusable(files: CertificateFiles, cause: unknown): GatewayError {
  return new GatewayError("config_invalid", `The certificate ${files.certFile} with key ${files.keyFile} cannot be used.`, {
    cause,
    hint: "Both must be readable PEM files, and the key must belong to the certificate.",
  });
}
