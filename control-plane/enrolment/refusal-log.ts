/** Refusals in the log, a bounded number a second: strangers must not be able to fill the disk of whoever keeps it. */
import type { Clock } from "@sluice/core/clock.ts";
import type { Logger } from "pino";

export interface RefusalLog {
  /** What is left out is counted, and said with the next line. */
  note(about: Readonly<Record<string, unknown>>): void;
}

const LINES_PER_SECOND = 20;

export function createRefusalLog(clock: Clock, log: Logger): RefusalLog {
  let sinceMs = Number.NEGATIVE_INFINITY;
  let lines = 0;
  let leftOut = 0;
  return {
    note: (about) => {
      if (clock.monotonicMs() - sinceMs >= 1_000) {
        sinceMs = clock.monotonicMs();
        lines = 0;
      }
      if (lines >= LINES_PER_SECOND) {
        leftOut += 1;
        return;
      }
      lines += 1;
      log.warn(leftOut === 0 ? about : { ...about, leftOut }, "enrolment refused");
      leftOut = 0;
    },
  };
}
