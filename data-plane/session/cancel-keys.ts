/**
 * The gateway's own cancel keys: random, long where the protocol allows, known before the caller sees them, compared in constant
 * time. A wrong key tells the asker nothing.
 */
import { timingSafeEqual } from "node:crypto";
import type { Random } from "@sluice/core/random.ts";

/** Bytes of a secret under protocol 3.0 (fixed by the protocol) and 3.2 (up to 256; 32 cannot be guessed). */
const SECRET_BYTES_3_0 = 4;
const SECRET_BYTES_3_2 = 32;

export interface CancelKey {
  readonly processId: number;
  readonly secret: Buffer;
}

export class CancelKeys {
  readonly #random: Random;
  readonly #sessions = new Map<number, { readonly secret: Buffer; readonly cancel: () => void }>();

  constructor(random: Random) {
    this.#random = random;
  }

  issue(protocolMinor: number, cancel: () => void): CancelKey {
    const secret = Buffer.from(this.#random.bytes(protocolMinor >= 2 ? SECRET_BYTES_3_2 : SECRET_BYTES_3_0));
    let processId: number;
    do processId = Buffer.from(this.#random.bytes(4)).readUInt32BE(0) & 0x7fff_ffff;
    while (processId === 0 || this.#sessions.has(processId));
    this.#sessions.set(processId, { secret, cancel });
    return { processId, secret };
  }

  revoke(key: CancelKey): void {
    this.#sessions.delete(key.processId);
  }

  /** Cancels what the session of this key runs; does nothing for a key that is not one. */
  redeem(processId: number, secret: Buffer): void {
    const session = this.#sessions.get(processId);
    if (session === undefined || session.secret.length !== secret.length || !timingSafeEqual(session.secret, secret)) return;
    session.cancel();
  }
}
