/**
 * Lets the sequence of snapshots be moved on at a pace that slows down: nodes that have seen more than a restored store come one after
 * the other, and each move is a snapshot for everybody, so that a node which lies about what it has seen must not cause many.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Logger } from "pino";

export interface Paces {
  /** At once, or once the pause after the last move is over, for the highest sequence that was asked for until then. */
  run(sequence: bigint, move: (sequence: bigint) => Promise<void>): Promise<void>;
  close(): void;
}

/** Doubled with each move. Milliseconds. */
const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 10 * 60_000;
/** After this long without a move it begins anew. */
const QUIET_MS = 3_600_000;

export function createPaces(clock: Clock, log: Pick<Logger, "warn">): Paces {
  let pauseMs = 0;
  let lastMs = Number.NEGATIVE_INFINITY;
  let waiting: { sequence: bigint; readonly timer: NodeJS.Timeout } | undefined;
  const begin = (): void => {
    const nowMs = clock.monotonicMs();
    pauseMs = nowMs - lastMs > QUIET_MS ? PAUSE_MS_MIN : Math.min(pauseMs * 2, PAUSE_MS_MAX);
    lastMs = nowMs;
  };
  return {
    run: async (sequence, move) => {
      if (waiting !== undefined) {
        if (sequence > waiting.sequence) waiting.sequence = sequence;
        return;
      }
      const leftMs = lastMs + pauseMs - clock.monotonicMs();
      if (leftMs <= 0) {
        begin();
        return await move(sequence);
      }
      const timer = setTimeout(() => {
        const asked = waiting?.sequence ?? sequence;
        waiting = undefined;
        begin();
        move(asked).catch((error: unknown) => log.warn({ err: error }, "the sequence of snapshots could not be moved on"));
      }, leftMs).unref();
      waiting = { sequence, timer };
    },
    close: () => clearTimeout(waiting?.timer),
  };
}
