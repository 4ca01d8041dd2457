/** Durations as people write them on a command line: `30s`, `15m`, `1h`, `7d`. */

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
/** A year: above it is a slip of the finger. */
const SECONDS_MAX = 366 * 86_400;

/** Whole seconds, or undefined when the text is no duration between one second and 366 days. */
export function parseDurationSeconds(text: string): number | undefined {
  const match = /^([0-9]{1,8})(s|m|h|d)$/.exec(text.trim());
  if (match === null) return undefined;
  const [, amount = "", unit = ""] = match;
  const seconds = Number(amount) * (SECONDS[unit] ?? Number.NaN);
  return seconds >= 1 && seconds <= SECONDS_MAX ? seconds : undefined;
}
