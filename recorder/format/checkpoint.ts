/**
 * Checkpoints: the recorder's Ed25519 signature over how far a recording has come. Pure. The signed message names the session, so that a
 * checkpoint of one recording proves nothing about another, and begins with words of its own, so that the key signs nothing else by accident.
 *
 *   payload: 32 bytes key id | u8 state (1 open, 2 closed, 3 lost) | u64 sequence expected next | 64 bytes signature
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import { HASH_BYTES } from "./layout.ts";

export interface CheckpointClaim {
  readonly sessionId: SessionId;
  /** The checkpoint block's own index: how many blocks are before it. */
  readonly index: number;
  readonly nextSequence: number;
  /** Hash of the block before. */
  readonly head: Buffer;
  /** `lost`: the recorder gave the session up; nothing follows. */
  readonly state: "open" | "closed" | "lost";
}

/** A signing key and the public half, which verifiers need. */
export interface Signer {
  readonly keyId: Buffer;
  readonly privateKey: KeyObject;
}

const SIGNATURE_BYTES = 64;
export const CHECKPOINT_PAYLOAD_BYTES: number = HASH_BYTES + 1 + 8 + SIGNATURE_BYTES;
const STATE_AT = HASH_BYTES;
const SEQUENCE_AT = STATE_AT + 1;
const SIGNATURE_AT = SEQUENCE_AT + 8;
const CONTEXT = "sluice recording checkpoint v1\0";

/** The id of a public (or private) key: SHA-256 of the public half's SPKI in DER. */
export function keyIdOf(key: KeyObject): Buffer {
  const publicKey = key.type === "public" ? key : createPublicKey(key);
  return createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest();
}

/** Makes a checkpoint's payload. */
export function signCheckpoint(claim: CheckpointClaim, signer: Signer): Buffer {
  const payload = Buffer.alloc(CHECKPOINT_PAYLOAD_BYTES);
  signer.keyId.copy(payload);
  payload[STATE_AT] = stateByte(claim.state);
  payload.writeBigUInt64BE(BigInt(claim.nextSequence), SEQUENCE_AT);
  sign(null, message(claim), signer.privateKey).copy(payload, SIGNATURE_AT);
  return payload;
}

/**
 * Compares a checkpoint's payload with what was read before it. Returns null when a trusted key signed exactly that, else in words what
 * is wrong. `trusted` is by key id in hex.
 */
export function checkCheckpoint(payload: Buffer, claim: CheckpointClaim, trusted: ReadonlyMap<string, KeyObject>): string | null {
  if (payload.length !== CHECKPOINT_PAYLOAD_BYTES) return "is a checkpoint of the wrong length";
  if (payload[STATE_AT] !== stateByte(claim.state))
    return `is a checkpoint that does not say "${claim.state}", as the records do`;
  if (Number(payload.readBigUInt64BE(SEQUENCE_AT)) !== claim.nextSequence) return "is a checkpoint for another number of records";
  if (trusted.size === 0) return "is signed, but no trusted public key was given to check it with";
  const key = trusted.get(payload.toString("hex", 0, HASH_BYTES));
  if (key === undefined) return "is signed by a key that is not trusted";
  return verify(null, message(claim), key, payload.subarray(SIGNATURE_AT)) ? null : "has a signature that is wrong";
}

/** Reads the public keys of a file with one or more PEM blocks. Throws `config_invalid` when there is none or one is not Ed25519. */
export function parsePublicKeys(pem: string): KeyObject[] {
  const blocks = pem.match(/-----BEGIN PUBLIC KEY-----[^-]*-----END PUBLIC KEY-----/g) ?? [];
  const keys = blocks.flatMap((block) => parseKey(block) ?? []);
  if (keys.length > 0 && keys.length === blocks.length) return keys;
  throw new GatewayError("config_invalid", "The key file does not hold Ed25519 public keys in PEM form.", {
    hint: "It is the `.pub.pem` file in the `keys` folder beside the recordings, copied when it was known to be right.",
  });
}

function parseKey(block: string): KeyObject | null {
  try {
    const key = createPublicKey(block);
    return key.asymmetricKeyType === "ed25519" ? key : null;
  } catch {
    return null;
  }
}

/** What a checkpoint says of itself, before anything is checked. */
export function claimsLost(payload: Buffer): boolean {
  return payload.length === CHECKPOINT_PAYLOAD_BYTES && payload[STATE_AT] === stateBytes.lost;
}

/** Whether it says that nothing follows. */
export function claimsEnd(payload: Buffer): boolean {
  return payload.length === CHECKPOINT_PAYLOAD_BYTES && payload[STATE_AT] !== stateBytes.open;
}

const stateBytes = { open: 1, closed: 2, lost: 3 } as const;

function stateByte(state: CheckpointClaim["state"]): number {
  return stateBytes[state];
}

function message(claim: CheckpointClaim): Buffer {
  const context = Buffer.from(`${CONTEXT}${claim.sessionId}\0`, "latin1");
  const numbers = Buffer.alloc(13);
  numbers.writeUInt32BE(claim.index, 0);
  numbers.writeBigUInt64BE(BigInt(claim.nextSequence), 4);
  numbers[12] = stateByte(claim.state);
  return Buffer.concat([context, numbers, claim.head]);
}
