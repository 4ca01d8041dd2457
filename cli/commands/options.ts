/** Option parsers that several commands share. */
import { UsageError } from "../context.ts";
import { parseDurationSeconds } from "../durations.ts";

/** For options that may be given several times. */
export function collect(value: string, earlier: readonly string[] | undefined): readonly string[] {
  return [...(earlier ?? []), value];
}

/** Seconds of `--ttl`. Throws UsageError. */
export function parseTtl(text: string): number {
  const seconds = parseDurationSeconds(text);
  if (seconds === undefined)
    throw new UsageError(`--ttl ${text} is not a duration between one second and 366 days: use for example 30s, 15m, 1h or 7d.`);
  return seconds;
}

/** `--claim name=value` pairs. */
export function parseClaims(pairs: readonly string[]): Readonly<Record<string, string>> {
  return parsePairs(pairs, "--claim");
}

/** `k=v` pairs of an option; values stay texts. Throws UsageError on a missing name or a name given twice. */
export function parsePairs(pairs: readonly string[], option: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at <= 0) throw new UsageError(`${option} ${pair} must have the form name=value.`);
    const name = pair.slice(0, at);
    if (Object.hasOwn(found, name)) throw new UsageError(`${option} ${name} is given twice.`);
    found[name] = pair.slice(at + 1);
  }
  return found;
}
