/** Pauses between attempts: doubled each time within bounds, half of each by chance, so that many agents do not come at once. */
import type { Random } from "@sluice/core/random.ts";

const FIRST_MS = 100;
const LAST_MS = 5_000;

/** `failures`: in a row, 1 after the first. */
export function backoffMs(failures: number, random: Random): number {
  const wholeMs = Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return (wholeMs * (1 + fraction(random))) / 2;
}

/** From 0 to 1. */
export function fraction(random: Random): number {
  const [byte = 0] = random.bytes(1);
  return byte / 255;
}
