/**
 * Encrypts the few private keys that live in the store (authorities, snapshot signers) under a key from outside of it, so that a
 * copy of the database signs nothing. Must never write a key to a log or an error, and never to a file but the generated one.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { KeySource } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Logger } from "pino";
import { readFileIfAny, writePrivateFile } from "../ca/private-files.ts";
import { type KeyEncryption, otherSource, seal, unseal, unusable } from "./envelope.ts";
import { commandEncryption } from "./key-command.ts";

export type { KeyEncryption } from "./envelope.ts";

export interface KeyEncryptionOptions {
  readonly source: KeySource;
  /** A generated key serves one machine alone, so only the embedded store may use it. */
  readonly embeddedStore: boolean;
  /** Absolute; a generated key is kept in `keys/store.key` below it. */
  readonly dataDirectory: string;
  readonly readEnvironment: (name: string) => string | undefined;
  readonly random: Random;
  readonly limits: Limits;
  readonly log: Logger;
}

const KEY_BYTES = 32;

/** Rejects with `config_invalid` and a sentence when there is no such key, or it is no key. */
export async function openKeyEncryption(options: KeyEncryptionOptions): Promise<KeyEncryption> {
  const { source, random } = options;
  switch (source.kind) {
    case "generated":
      return localEncryption(await generatedKey(options), "the generated key", random);
    case "file":
      return localEncryption(await fileKey(source.path), `the key in ${source.path}`, random);
    case "env": {
      const text = options.readEnvironment(source.name);
      if (text === undefined) throw missingKey(`The variable ${source.name} that holds the store's encryption key is not set.`);
      return localEncryption(parseKey(Buffer.from(text), `The variable ${source.name}`), `the key in ${source.name}`, random);
    }
    case "command":
      return commandEncryption({ command: source.command, timeoutMs: options.limits.keyCommandTimeoutMs, random });
    default:
      return assertNever(source);
  }
}

/** With a key at hand. Exported for the command's envelope and for changing keys. */
export function localEncryption(key: Uint8Array, name: string, random: Random): KeyEncryption {
  const id = createHash("sha256").update("sluice store key\0").update(key).digest("hex").slice(0, 16);
  return {
    name,
    wrap: async (secret, purpose) => `v1.local.${id}.${seal(key, secret, purpose, random).toString("base64url")}`,
    unwrap: async (text, purpose) => {
      const [version, kind, under, sealed, ...rest] = text.split(".");
      if (version !== "v1" || kind !== "local" || sealed === undefined || rest.length > 0) throw otherSource(name);
      if (under !== id) {
        throw unusable(`The keys in the store are encrypted under another key (${under}) than ${name} (${id}).`);
      }
      return unseal(key, Buffer.from(sealed, "base64url"), purpose);
    },
  };
}

async function generatedKey({ embeddedStore, dataDirectory, random, log }: KeyEncryptionOptions): Promise<Uint8Array> {
  if (!embeddedStore) {
    throw new GatewayError("config_invalid", "A store of your own needs an encryption key of your own.", {
      hint: "Set controlPlane.encryptionKey to a file, a variable or a command, the same for every control plane on this store.",
    });
  }
  const path = join(dataDirectory, "keys", "store.key");
  const kept = await readFileIfAny(path);
  if (kept !== undefined) return parseKey(Buffer.from(kept), `The file ${path}`);
  const made = random.bytes(KEY_BYTES);
  await writePrivateFile(path, `${Buffer.from(made).toString("base64")}\n`);
  log.info({ path }, "encryption key of the store's keys made: keep it with the backups of the store, but not beside them");
  return made;
}

async function fileKey(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw missingKey(`The store's encryption key cannot be read from ${path} (${error.code ?? "no code"}).`);
  });
  return bytes.length === KEY_BYTES ? bytes : parseKey(bytes, `The file ${path}`);
}

function missingKey(sentence: string): GatewayError {
  return new GatewayError("config_invalid", sentence, {
    hint:
      "For a new installation make one with: openssl rand -base64 32. For a store that is in use give the key that it was made with: " +
      "without it the installation's authority is lost.",
  });
}

function parseKey(bytes: Buffer, where: string): Uint8Array {
  const text = bytes.toString("latin1").trim();
  const key = Buffer.from(text, "base64");
  const standard = /^[A-Za-z0-9+/_-]{43}=?$/.test(text);
  if (!standard || key.length !== KEY_BYTES) {
    throw new GatewayError(
      "config_invalid",
      `${where} does not hold 32 bytes in base64, as an encryption key of the store must.`,
      {
        hint: "Make one with: openssl rand -base64 32",
      },
    );
  }
  return key;
}
