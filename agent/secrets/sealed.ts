/**
 * Sealed secrets: encrypted to the agents that may open them, so that manifests and the control plane carry what they cannot
 * read. RFC 7516 general JSON serialisation (base64url of it), ECDH-ES+A256KW with P-256 for each agent, A256GCM for the secret.
 * The protected header says which targets it was sealed for; who changes that can no longer open it.
 */
import { calculateJwkThumbprint, GeneralEncrypt, importJWK, type JWK } from "jose";
import { GatewayError } from "@sluice/core/errors.ts";

export const SEALED_TYPE = "sluice-sealed";
export const TARGETS_HEADER = "sluice-targets";
export const KEY_ALGORITHM = "ECDH-ES+A256KW";
export const CONTENT_ALGORITHM = "A256GCM";
/** The outside of a sealed secret for a hundred agents is under this. Characters. */
export const SEALED_CHARS_MAX = 131_072;

export interface SealingRecipient {
  /** For messages. */
  readonly agent: string;
  /** Public JWK, as JSON. */
  readonly jwk: string;
}

/** `targetPattern`: `host:port`, `*` for any run of characters. Throws GatewayError when a key is none. */
export async function sealSecret(
  secret: string,
  recipients: readonly SealingRecipient[],
  targetPattern: string,
): Promise<string> {
  if (recipients.length === 0) {
    throw new GatewayError("secret_unavailable", "There is no agent to seal the secret to.", {
      hint: "Start an agent that carries the labels, and try again.",
    });
  }
  const encryption = new GeneralEncrypt(new TextEncoder().encode(secret)).setProtectedHeader({
    enc: CONTENT_ALGORITHM,
    typ: SEALED_TYPE,
    [TARGETS_HEADER]: targetPattern,
  });
  for (const { agent, jwk } of recipients) {
    const key = await publicKey(agent, jwk);
    encryption.addRecipient(key.key).setUnprotectedHeader({ alg: KEY_ALGORITHM, kid: key.kid });
  }
  return Buffer.from(JSON.stringify(await encryption.encrypt()), "utf8").toString("base64url");
}

async function publicKey(
  agent: string,
  text: string,
): Promise<{ readonly kid: string; readonly key: Awaited<ReturnType<typeof importJWK>> }> {
  try {
    const { kty, crv, x, y } = JSON.parse(text) as JWK; // checked by what follows
    if (kty !== "EC" || crv !== "P-256") throw new Error("another kind of key");
    const jwk = { kty, crv, ...(x === undefined ? {} : { x }), ...(y === undefined ? {} : { y }) };
    return { kid: await calculateJwkThumbprint(jwk), key: await importJWK(jwk, KEY_ALGORITHM) };
  } catch (cause) {
    throw new GatewayError("secret_unavailable", `The key of agent ${agent} cannot be sealed to.`, {
      hint: "Agent and command line may be of versions too far apart.",
      cause,
    });
  }
}
