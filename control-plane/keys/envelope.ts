/**
 * How a private key is wrapped for the store: AES-256-GCM (NIST SP 800-38D) with its purpose as associated data, so that a wrapped
 * key which is moved to another row does not open.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";

export interface KeyEncryption {
  /** For people: where the key comes from. */
  readonly name: string;
  /** `purpose` is part of what is protected: the same one must be given to `unwrap`. */
  wrap(key: Uint8Array, purpose: string): Promise<string>;
  /** Throws `config_invalid` when it was wrapped under another key, for another purpose, or was changed. */
  unwrap(text: string, purpose: string): Promise<Uint8Array>;
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Nonce, ciphertext, tag. A random nonce of 96 bits is safe: a key wraps a handful of times in its life. */
export function seal(key: Uint8Array, secret: Uint8Array, purpose: string, random: Random): Buffer {
  const nonce = random.bytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES }).setAAD(associated(purpose));
  return Buffer.concat([nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
}

export function unseal(key: Uint8Array, sealed: Uint8Array, purpose: string): Uint8Array {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const text = sealed.subarray(NONCE_BYTES, -TAG_BYTES);
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(associated(purpose)).setAuthTag(sealed.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(text), decipher.final()]);
  } catch {
    throw unusable(`A key in the store (${purpose}) does not open: it was changed, moved, or wrapped under another key.`);
  }
}

/** The configured source cannot have wrapped this. */
export function otherSource(name: string): GatewayError {
  return unusable(`The keys in the store were not encrypted under ${name}: another kind of key was configured when they were.`);
}

/** Something about the configured key is wrong. */
export function unusable(text: string): GatewayError {
  return new GatewayError("config_invalid", text, {
    hint: "Set controlPlane.encryptionKey to the key that this store was made with. Without it the installation's authority is lost.",
  });
}

function associated(purpose: string): Buffer {
  return Buffer.from(`sluice key v1\0${purpose}`);
}
