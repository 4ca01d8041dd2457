/**
 * Ids of decisions, many a second: randomness is drawn for a few hundred of them at once. Must never give the same bytes twice.
 * For ids only, which are no secrets: drawn bytes lie in memory until they are used.
 */
import type { Random } from "@sluice/core/random.ts";

/** Bytes drawn at once: 256 ids, 4 KiB for a whole gateway. */
const POOL_BYTES = 4_096;

const pools = new WeakMap<Random, Random>();

/** A source of ids on top of `random`, shared by everybody who asks with the same one. */
export function pooledForIds(random: Random): Random {
  const known = pools.get(random);
  if (known !== undefined) return known;
  let pool: Uint8Array = new Uint8Array(0);
  let at = 0;
  const pooled: Random = {
    bytes: (count) => {
      if (at + count > pool.length) {
        pool = random.bytes(Math.max(POOL_BYTES, count));
        at = 0;
      }
      at += count;
      return pool.subarray(at - count, at);
    },
  };
  pools.set(random, pooled);
  return pooled;
}
