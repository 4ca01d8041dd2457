/** Repeatable numbers for demo data: the same seed gives the same data on every machine. Never for secrets. */

export interface RandomNumbers {
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number;
  pick<Item>(items: readonly Item[]): Item;
  /** True in about `share` of all calls (0 to 1). */
  chance(share: number): boolean;
}

/** The 32-bit xorshift generator with the shifts 13, 17, 5 (Marsaglia, "Xorshift RNGs", 2003). */
export function createRandomNumbers(seed: number): RandomNumbers {
  let state = seed >>> 0 === 0 ? 1 : seed >>> 0; // zero would stay zero for ever
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  const between = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1));
  return {
    between,
    pick: (items) => {
      const item = items[between(0, items.length - 1)];
      if (item === undefined) throw new RangeError("nothing to pick from");
      return item;
    },
    chance: (share) => next() < share,
  };
}
