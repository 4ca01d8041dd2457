/** The real clock and the real randomness. Only each plane's `main.ts` and tests pass these in. */
import { randomBytes } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

export const systemRandom: Random = {
  bytes: (count) => randomBytes(count),
};
