/** The bounds of one installation: the defaults, and what its configuration says otherwise. */
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";

/** The longest wait a timer takes, 24 days: a longer one would be over at once. Milliseconds. */
const TIMER_MS_MAX = 0x7fff_ffff;

/** Configured times beyond what a timer can wait count as the longest it can. Defaults stand: lifetimes among them are no timers'. */
export function limitsOf(configured: Partial<Limits>): Limits {
  const entries = Object.entries(configured).map(([name, value]): [string, number] => [
    name,
    /Ms(Max)?$/.test(name) ? Math.min(value, TIMER_MS_MAX) : value,
  ]);
  return { ...defaultLimits, ...Object.fromEntries(entries) };
}
