/**
 * Derives SCRAM keys away from the event loop and remembers them, since every login of a pool asks for the same ones.
 * Holds keys in memory alone and no password; what it is asked by is a keyed hash, so that the map tells nothing of it.
 */
import { createHmac, pbkdf2 } from "node:crypto";
import { promisify } from "node:util";
import type { Random } from "@sluice/core/random.ts";
import { saslPrepare } from "./saslprep.ts";
import { type ScramChallenge, type ScramKeys, scramKeysOf } from "./scram.ts";

const derive = promisify(pbkdf2);
const SALTED_PASSWORD_BYTES = 32;

export class ScramKeyCache {
  readonly #hashKey: Uint8Array;
  readonly #keysMax: number;
  /** In order of last use; promises, so that logins at the same time derive once. */
  readonly #keys = new Map<string, Promise<ScramKeys>>();

  constructor(random: Random, keysMax: number) {
    this.#hashKey = random.bytes(32);
    this.#keysMax = keysMax;
  }

  async keysFor(password: string, challenge: ScramChallenge): Promise<ScramKeys> {
    const name = createHmac("sha256", this.#hashKey)
      .update(`${challenge.iterations}:${challenge.salt.toString("base64")}:${password}`)
      .digest("base64");
    const keys = this.#keys.get(name) ?? deriveKeys(password, challenge);
    this.#keys.delete(name);
    this.#keys.set(name, keys);
    if (this.#keys.size > this.#keysMax) {
      for (const oldest of this.#keys.keys()) {
        this.#keys.delete(oldest);
        break;
      }
    }
    try {
      return await keys;
    } catch (error) {
      this.#keys.delete(name);
      throw error;
    }
  }
}

async function deriveKeys(password: string, challenge: ScramChallenge): Promise<ScramKeys> {
  const prepared = saslPrepare(password);
  return scramKeysOf(await derive(prepared, challenge.salt, challenge.iterations, SALTED_PASSWORD_BYTES, "sha256"));
}
