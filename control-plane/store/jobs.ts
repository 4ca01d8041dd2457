/** What one control plane does for all: moving authorities through their states, finding sessions whose gateways are gone. */
import { setTimeout as delay } from "node:timers/promises";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { holdLease } from "./leases.ts";
import type { SessionIndex } from "./session-index.ts";
import type { Tables } from "./tables.ts";

export interface JobsOptions {
  readonly db: Kysely<Tables>;
  /** This control plane's own name. */
  readonly holder: string;
  readonly authorities: { tend(signal: AbortSignal): Promise<void> };
  /** Null where no gateway is elsewhere. */
  readonly sessions: Pick<SessionIndex, "markLost"> | null;
  /** A gateway that was away for this long is gone. */
  readonly goneMs: number;
  readonly log: Logger;
}

/** A holder that is not heard of loses its jobs after this. */
const LEASE_MS = 15_000;
const LOST_INTERVAL_MS = 5_000;

/** Returns how to stop; resolves when nothing runs any more. */
export function startJobs({ db, holder, authorities, sessions, goneMs, log }: JobsOptions): () => Promise<void> {
  const stopping = new AbortController();
  const { signal } = stopping;
  const hold = (name: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> =>
    holdLease({ db, name, holder, ttlMs: LEASE_MS, signal, log }, work);
  const running = [hold("authorities", (held) => authorities.tend(held))];
  if (sessions !== null) {
    const findLost = async (held: AbortSignal): Promise<void> => {
      while (!held.aborted) {
        await sessions.markLost(goneMs);
        await delay(LOST_INTERVAL_MS, undefined, { signal: held }).catch(() => undefined); // aborted: the loop ends
      }
    };
    running.push(hold("lost-sessions", findLost));
  }
  return async () => {
    stopping.abort();
    await Promise.all(running);
  };
}
