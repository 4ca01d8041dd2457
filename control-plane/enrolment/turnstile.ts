/** Lets a bounded number through at a time; others wait in order, and above a bound they are turned away. */
import { GatewayError } from "@sluice/core/errors.ts";

export interface Turnstile {
  /** Throws `too_many_connections` when too many wait already. Who goes away while waiting costs nothing further. */
  pass<Result>(signal: AbortSignal, work: () => Promise<Result>): Promise<Result>;
}

export function createTurnstile(insideMax: number, waitingMax: number): Turnstile {
  let inside = 0;
  const waiting: (() => void)[] = [];
  const leave = (): void => {
    const next = waiting.shift();
    if (next === undefined) inside -= 1;
    else next(); // takes over the place
  };
  return {
    pass: async (signal, work) => {
      if (inside < insideMax) inside += 1;
      else if (waiting.length >= waitingMax) {
        throw new GatewayError("too_many_connections", "Too many nodes enrol or renew at this moment.", {
          hint: "Try again in some seconds.",
        });
      } else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        signal.throwIfAborted();
        return await work();
      } finally {
        leave();
      }
    },
  };
}
