/** The log of everything `sluice up` and the demo run: JSON lines on standard error (or into a file), without data or secrets. */
import pino, { type Logger } from "pino";
import { UsageError } from "./context.ts";

const LEVELS: ReadonlySet<string> = new Set(["trace", "debug", "info", "warn", "error", "fatal", "silent"]);

/**
 * Takes the level by name ("info" when absent) and where to write (standard error when absent). Written synchronously: the
 * last line before an end must not be lost, and the rate is low. Throws UsageError on an unknown level.
 */
export function createLog(level: string | undefined, file?: string): Logger {
  const name = level === undefined || level === "" ? "info" : level;
  if (!LEVELS.has(name)) throw new UsageError(`SLUICE_LOG_LEVEL=${name} is no level: use one of ${[...LEVELS].join(", ")}.`);
  const destination =
    file === undefined
      ? pino.destination({ fd: 2, sync: true })
      : pino.destination({ dest: file, sync: true, mkdir: true, mode: 0o600 });
  return pino({ level: name, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination);
}
