/**
 * The agent's own key for sealed secrets: made on first use, kept in its data directory (0600), never sent anywhere. After a
 * rotation the former keys still open what was sealed to them. Never puts a key or a secret into an error.
 */
import { chmod, chown, link, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { calculateJwkThumbprint, exportJWK, flattenedDecrypt, generateKeyPair, importJWK, type JWK } from "jose";
import { GatewayError } from "@sluice/core/errors.ts";
import { CONTENT_ALGORITHM, KEY_ALGORITHM, SEALED_CHARS_MAX, SEALED_TYPE, TARGETS_HEADER } from "./sealed.ts";

export interface SealingKey {
  /** Public half of the newest key, JWK as JSON: what others seal to. */
  readonly publicJwk: string;
  /** What was sealed, and the targets it was sealed for. Throws GatewayError `secret_unavailable`. */
  decrypt(sealed: string): Promise<{ readonly secret: string; readonly targets: string }>;
}

/** Opens the keys in `directory`; makes directory and key when there are none. Throws GatewayError `config_invalid`. */
export async function openSealingKey(directory: string): Promise<SealingKey> {
  const path = join(directory, FILE);
  const jwks = (await readKeys(path)) ?? (await makeFirst(directory, path));
  return await sealingKeyOf(jwks, path);
}

/** Adds a new key, which others seal to from the next start on; the former ones still open. */
export async function rotateSealingKey(directory: string): Promise<SealingKey> {
  const path = join(directory, FILE);
  const former = (await readKeys(path)) ?? [];
  const jwks = [await newKey(), ...former].slice(0, KEYS_MAX);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const draft = await writeDraft(path, jwks);
  const owner = await stat(path).catch(() => undefined);
  if (owner !== undefined) await chown(draft, owner.uid, owner.gid); // rotated by root, it is still the agent's
  await rename(draft, path);
  return await sealingKeyOf(jwks, path);
}

const FILE = "sealing-keys.json";
/** Rotated yearly, what is older than this was sealed in another decade. */
const KEYS_MAX = 16;

async function sealingKeyOf(jwks: readonly JWK[], path: string): Promise<SealingKey> {
  const newest = jwks[0];
  if (newest === undefined) throw broken(path);
  const keys = new Map<string, Awaited<ReturnType<typeof importJWK>>>();
  try {
    for (const jwk of jwks) keys.set(await calculateJwkThumbprint(jwk), await importJWK(jwk, KEY_ALGORITHM));
  } catch {
    throw broken(path);
  }
  const { kty, crv, x, y } = newest;
  const publicJwk = JSON.stringify({ kty, crv, x, y, use: "enc", kid: await calculateJwkThumbprint(newest) });
  return { publicJwk, decrypt: (sealed) => decrypt(sealed, keys) };
}

async function decrypt(
  sealed: string,
  keys: ReadonlyMap<string, Awaited<ReturnType<typeof importJWK>>>,
): Promise<{ readonly secret: string; readonly targets: string }> {
  const { recipients, ...jwe } = parseSealed(sealed);
  const mine = recipients.find(({ header }) => keys.has(header.kid));
  const key = mine === undefined ? undefined : keys.get(mine.header.kid);
  if (mine === undefined || key === undefined) {
    throw new GatewayError("secret_unavailable", "The sealed secret was not sealed to this agent's key.", {
      hint: "Seal it again (sluice seal) with labels that this agent carries.",
    });
  }
  try {
    const { plaintext, protectedHeader = {} } = await flattenedDecrypt({ ...jwe, ...mine }, key, {
      keyManagementAlgorithms: [KEY_ALGORITHM],
      contentEncryptionAlgorithms: [CONTENT_ALGORITHM],
    });
    const targets = protectedHeader[TARGETS_HEADER];
    if (protectedHeader.typ !== SEALED_TYPE || typeof targets !== "string") throw notSealed();
    return { secret: new TextDecoder("utf-8", { fatal: true }).decode(plaintext), targets };
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw new GatewayError("secret_unavailable", "The sealed secret cannot be opened: it was changed since it was sealed.", {
      hint: "Seal it again: sluice seal.",
    });
  }
}

interface SealedShape {
  readonly protected: string;
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
  readonly recipients: readonly {
    readonly encrypted_key: string;
    readonly header: { readonly kid: string; readonly alg: string };
  }[];
}

/** Only the members that `sealSecret` makes: nothing else is looked at, and none of the sender's choice of algorithms counts. */
function parseSealed(sealed: string): SealedShape {
  if (sealed.length > SEALED_CHARS_MAX) throw notSealed();
  try {
    const value = JSON.parse(Buffer.from(sealed, "base64url").toString("utf8")) as Partial<SealedShape>; // each member is checked here
    const { protected: header, iv, ciphertext, tag, recipients } = value;
    if (![header, iv, ciphertext, tag].every((text) => typeof text === "string") || !Array.isArray(recipients)) throw notSealed();
    for (const one of recipients as readonly Partial<SealedShape["recipients"][number]>[]) {
      if (typeof one.encrypted_key !== "string" || typeof one.header?.kid !== "string") throw notSealed();
    }
    return { protected: header, iv, ciphertext, tag, recipients } as SealedShape; // just checked
  } catch {
    throw notSealed();
  }
}

function notSealed(): GatewayError {
  return new GatewayError("secret_unavailable", "The sealed secret is not what `sluice seal` prints.", {
    hint: "Copy the whole text, or seal it again.",
  });
}

async function readKeys(path: string): Promise<readonly JWK[] | undefined> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return undefined;
    throw new GatewayError("config_invalid", `The agent cannot read its sealing keys in ${path}.`, {
      hint: "Check that the agent's account may read it.",
      cause,
    });
  });
  if (text === undefined) return undefined;
  try {
    const { keys } = JSON.parse(text) as { readonly keys: readonly JWK[] }; // ours; what is wrong with it shows below
    if (Array.isArray(keys) && keys.length > 0) return keys;
  } catch {
    // a parser's message repeats what it read
  }
  throw broken(path);
}

function broken(path: string): GatewayError {
  return new GatewayError("config_invalid", `The agent's sealing keys in ${path} are damaged.`, {
    hint: "Restore the file from a backup; without it, remove the file and seal the secrets again.",
  });
}

/** Two processes that start at once agree on one key: the second finds the first one's. */
async function makeFirst(directory: string, path: string): Promise<readonly JWK[]> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const jwks = [await newKey()];
  const draft = await writeDraft(path, jwks);
  try {
    await link(draft, path);
    return jwks;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause; // what fs rejects with
    return (await readKeys(path)) ?? jwks;
  } finally {
    await rm(draft, { force: true });
  }
}

async function writeDraft(path: string, keys: readonly JWK[]): Promise<string> {
  const draft = `${path}.${await calculateJwkThumbprint(keys[0]!)}`; // each writer has made a key of its own
  const file = await open(draft, "wx", 0o600);
  try {
    await chmod(draft, 0o600); // whatever the umask
    await file.writeFile(`${JSON.stringify({ keys }, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  return draft;
}

async function newKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair(KEY_ALGORITHM, { crv: "P-256", extractable: true });
  return await exportJWK(privateKey);
}
