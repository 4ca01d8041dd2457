/**
 * The recorder's signing key: made on the first start, kept in `keys/` beside the recordings, the private half readable by its user only.
 * Public halves of earlier keys stay there, since recordings they signed must stay provable. Never logs or returns key material but
 * the public halves.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdir, open, readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import { keyIdOf, parsePublicKeys, type Signer } from "./format/checkpoint.ts";

export interface RecorderKeys {
  readonly signer: Signer;
  /** The signing key's public half first, then earlier ones. */
  readonly publicKeys: readonly KeyObject[];
}

const PRIVATE_NAME = "signing.pem";
const PUBLIC_SUFFIX = ".pub.pem";

/**
 * `given`: an Ed25519 private key from elsewhere; without it the stored one is used, and made when there is none. Throws `config_invalid`
 * when a stored or given key is no Ed25519 key.
 */
export async function openRecorderKeys(directory: string, given?: KeyObject): Promise<RecorderKeys> {
  const folder = join(directory, "keys");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const privateKey = given ?? (await storedKey(folder)) ?? (await makeKey(folder));
  if (privateKey.type !== "private" || privateKey.asymmetricKeyType !== "ed25519") throw unusable();
  const publicKey = createPublicKey(privateKey);
  const keyId = keyIdOf(publicKey);
  const publicName = `${keyId.toString("hex")}${PUBLIC_SUFFIX}`;
  const names = (await readdir(folder)).filter((name) => name.endsWith(PUBLIC_SUFFIX));
  if (!names.includes(publicName)) await writeNew(folder, publicName, exportPublic(publicKey), 0o644);
  const earlier: KeyObject[] = [];
  for (const name of names.filter((name) => name !== publicName).sort())
    earlier.push(...parsePublicKeys(await readFile(join(folder, name), "utf8")));
  return { signer: { keyId, privateKey }, publicKeys: [publicKey, ...earlier] };
}

async function storedKey(folder: string): Promise<KeyObject | null> {
  let pem: string;
  try {
    pem = await readFile(join(folder, PRIVATE_NAME), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null; // a system error; anything else has no code
    throw error;
  }
  try {
    return createPrivateKey(pem);
  } catch {
    throw unusable(); // without the cause: it may quote the file
  }
}

async function makeKey(folder: string): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync("ed25519");
  await writeNew(folder, PRIVATE_NAME, privateKey.export({ type: "pkcs8", format: "pem" }).toString(), 0o600);
  return privateKey;
}

/** Whole or not at all: written beside, synced, then renamed. */
async function writeNew(folder: string, name: string, text: string, mode: number): Promise<void> {
  const temporary = join(folder, `.${name}.new`);
  const file = await open(temporary, "w", mode);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(folder, name));
  const directory = await open(folder, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function exportPublic(key: KeyObject): string {
  return key.export({ type: "spki", format: "pem" }).toString();
}

function unusable(): GatewayError {
  return new GatewayError("config_invalid", "The recorder's signing key is not an Ed25519 private key in PEM form.", {
    hint: `Restore ${PRIVATE_NAME} in the recordings' keys folder from a backup, or move it away so that a new key is made.`,
  });
}
