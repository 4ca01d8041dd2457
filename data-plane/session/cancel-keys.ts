/**
 * The gateway's own cancel keys: random, long where the protocol allows, known before the caller sees them, compared in constant
 * time. A wrong key tells the asker nothing, nor does one of another gateway, which is passed on.
 * The process id says whose key it is: the gateway's slot (12 bits) above what is random (19 bits); never 0, never negative.
 */
import { timingSafeEqual } from "node:crypto";
import type { Random } from "@sluice/core/random.ts";

/** Bytes of a secret under protocol 3.0 (fixed by the protocol) and 3.2 (up to 256; 32 cannot be guessed). */
const SECRET_BYTES_3_0 = 4;
const SECRET_BYTES_3_2 = 32;
/** Half a million: fifty times the sessions that one gateway holds. */
const SESSION_BITS = 19;
const SESSION_MASK = (1 << SESSION_BITS) - 1;
const SLOT_MAX = 4_095;

export interface CancelKey {
  readonly processId: number;
  readonly secret: Buffer;
}

export interface CancelKeysOptions {
  /** Among several gateways, 1 to 4,095; 0, also when absent: alone. */
  readonly slot?: number;
  /** Whether one more request of this source is looked at; all are when absent. */
  readonly limiter?: { admits(source: string): boolean };
}

/** Passes a request on to the gateway of this slot. Returns at once, whatever comes of it. */
export type ForwardCancel = (slot: number, processId: number, secret: Buffer) => void;

export class CancelKeys {
  readonly #random: Random;
  readonly #limiter: CancelKeysOptions["limiter"];
  readonly #sessions = new Map<number, { readonly secret: Buffer; readonly cancel: () => void }>();
  #slot = 0;
  #forward: ForwardCancel | null = null;

  constructor(random: Random, { slot = 0, limiter }: CancelKeysOptions = {}) {
    this.#random = random;
    this.#limiter = limiter;
    this.slot = slot;
  }

  get slot(): number {
    return this.#slot;
  }

  /** For keys issued from now on; those before stay good. */
  set slot(slot: number) {
    if (!Number.isInteger(slot) || slot < 0 || slot > SLOT_MAX) throw new RangeError("a gateway's slot is from 0 to 4,095");
    this.#slot = slot;
  }

  /** Null: keys of other gateways are nobody's. */
  forwardBy(forward: ForwardCancel | null): void {
    this.#forward = forward;
  }

  issue(protocolMinor: number, cancel: () => void): CancelKey {
    const secret = Buffer.from(this.#random.bytes(protocolMinor >= 2 ? SECRET_BYTES_3_2 : SECRET_BYTES_3_0));
    let processId: number;
    do {
      const session = Buffer.from(this.#random.bytes(4)).readUInt32BE(0) & SESSION_MASK;
      processId = (this.#slot << SESSION_BITS) | session;
    } while (processId === 0 || this.#sessions.has(processId));
    this.#sessions.set(processId, { secret, cancel });
    return { processId, secret };
  }

  revoke(key: CancelKey): void {
    this.#sessions.delete(key.processId);
  }

  /** Cancels what the session of this key runs, here or on another gateway. `from`: the address it came from. Returns nothing either way. */
  redeem(processId: number, secret: Buffer, from = ""): void {
    if (this.#limiter?.admits(from) === false) return;
    if (this.#sessions.has(processId)) {
      this.redeemHere(processId, secret);
      return;
    }
    const slot = processId >>> SESSION_BITS;
    if (slot !== 0 && slot <= SLOT_MAX && slot !== this.#slot) this.#forward?.(slot, processId, secret);
  }

  /** Only for sessions of this gateway; does nothing for a key that is not one. */
  redeemHere(processId: number, secret: Buffer): void {
    const session = this.#sessions.get(processId);
    if (session === undefined || session.secret.length !== secret.length || !timingSafeEqual(session.secret, secret)) return;
    session.cancel();
  }
}
