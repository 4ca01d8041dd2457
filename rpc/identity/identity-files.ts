/**
 * A node's identity on disk: node.pem, node-key.pem, authorities.pem, trust.json, and node-key.next.pem while a certificate for a
 * new key is being asked for. A crash at any point leaves either the former or the new identity whole: the new key is there before
 * it is certified, the certificate replaces the former in one step, and the key that fits it is taken.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { IdentityMaterial, TrustBundle } from "../node-identity.ts";
import { canonicalSerial, splitPem } from "./node-certificate.ts";

export interface StoredIdentity {
  readonly material: IdentityMaterial;
  readonly revokedSerials: ReadonlySet<string>;
}

/** `damaged`: files are there that do not make an identity; `why` is for people. */
export type LoadedIdentity =
  | { readonly kind: "stored"; readonly identity: StoredIdentity }
  | { readonly kind: "none" }
  | { readonly kind: "damaged"; readonly why: string };

export class IdentityFiles {
  readonly directory: string;
  /** One change after the other: trust may come in while a certificate is being renewed. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(directory: string) {
    this.directory = directory;
  }

  async load(): Promise<LoadedIdentity> {
    const [chain, key, nextKey, authorities, trust] = await Promise.all(
      ["node.pem", "node-key.pem", "node-key.next.pem", "authorities.pem", "trust.json"].map((name) => this.#read(name)),
    );
    // The certificate makes the identity: without it nothing was finished.
    if (chain === undefined) return { kind: "none" };
    if (authorities === undefined || splitPem(authorities).length === 0)
      return { kind: "damaged", why: "authorities.pem is missing" };
    const fits = [key, nextKey].find((candidate) => candidate !== undefined && belongTogether(chain, candidate));
    if (fits === undefined) return { kind: "damaged", why: "the key that belongs to node.pem is missing" };
    if (fits === nextKey) await this.#promoteKey();
    return {
      kind: "stored",
      identity: {
        material: { certificateChain: chain, privateKey: fits, authorities },
        revokedSerials: parseRevoked(trust),
      },
    };
  }

  /** The key of an enrolment that was begun and of which nothing more is known. */
  async pendingKey(): Promise<string | undefined> {
    const key = await this.#read("node-key.next.pem");
    try {
      if (key !== undefined) createPrivateKey(key);
      return key;
    } catch {
      return undefined;
    }
  }

  /** Before the request for a certificate is sent. */
  begin(privateKey: string): Promise<void> {
    return this.#inTurn(async () => {
      await mkdir(this.directory, { recursive: true, mode: 0o700 });
      await this.#write("node-key.next.pem", privateKey, 0o600);
    });
  }

  /** The certificate for the key of `begin` is there. */
  finish(certificateChain: string, trust: TrustBundle): Promise<void> {
    return this.#inTurn(async () => {
      await this.#writeTrust(trust);
      await this.#write("node.pem", certificateChain, 0o644);
      await this.#promoteKey();
    });
  }

  /** The request was refused: its key is of no use. */
  abandon(): Promise<void> {
    return this.#inTurn(() => rm(join(this.directory, "node-key.next.pem"), { force: true }));
  }

  saveTrust(trust: TrustBundle): Promise<void> {
    return this.#inTurn(() => this.#writeTrust(trust));
  }

  async #inTurn(change: () => Promise<void>): Promise<void> {
    const mine = this.#last.then(change);
    this.#last = mine.catch(() => undefined);
    await mine;
  }

  async #writeTrust(trust: TrustBundle): Promise<void> {
    await this.#write("authorities.pem", trust.authorities.map((pem) => `${pem.trimEnd()}\n`).join(""), 0o644);
    await this.#write("trust.json", `${JSON.stringify({ version: 1, revokedSerials: [...trust.revokedSerials] })}\n`, 0o644);
  }

  async #promoteKey(): Promise<void> {
    await rename(join(this.directory, "node-key.next.pem"), join(this.directory, "node-key.pem"));
    await this.#syncDirectory();
  }

  async #read(name: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.directory, name), "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  /** Whole or not at all, also through a loss of power. */
  async #write(name: string, text: string, mode: number): Promise<void> {
    const target = join(this.directory, name);
    const unfinished = `${target}.new`;
    await rm(unfinished, { force: true }); // left over from a crash, perhaps with another mode
    const file = await open(unfinished, "wx", mode);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, target);
    await this.#syncDirectory();
  }

  async #syncDirectory(): Promise<void> {
    const directory = await open(this.directory, "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }
}

function belongTogether(chain: string, key: string): boolean {
  try {
    return new X509Certificate(chain).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

/** Revocations are told again at the next connection: a file that cannot be read is as good as an empty one until then. */
function parseRevoked(text: string | undefined): ReadonlySet<string> {
  try {
    const { revokedSerials } = JSON.parse(text ?? "{}") as { readonly revokedSerials?: unknown }; // our own file; looked at below
    if (!Array.isArray(revokedSerials)) return new Set();
    return new Set(revokedSerials.filter((serial) => typeof serial === "string").map(canonicalSerial));
  } catch {
    return new Set();
  }
}
