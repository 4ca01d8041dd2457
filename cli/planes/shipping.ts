/**
 * Keeps a gateway's records on their way to the recorder. Must never end the process because the spool could not be read once: a
 * disk that answers again is read again, and until then the spool fills and says no.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { EventBus } from "@sluice/events/bus.ts";
import { type ShipOptions, shipSpool } from "@sluice/events/ship.ts";
import type { Spool } from "@sluice/events/spool.ts";

/** Before the spool is read again. Milliseconds. */
const RETRY_MS = 1_000;
/** Records still in the spool are offered to the recorder this long after the last session; the rest waits for the next start. Milliseconds. */
const LAST_CHANCE_MS = 2_000;

/** Ships until it is stopped. */
export function startShipping(spool: Spool, bus: EventBus, options: Omit<ShipOptions, "signal">): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const shipped = keepShipping(spool, bus, { ...options, signal: stopping.signal });
  return {
    stop: async () => {
      const drained = spool.drained().catch(() => undefined); // what is left is offered after the next start
      await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, LAST_CHANCE_MS).unref())]);
      stopping.abort();
      await shipped;
    },
  };
}

/** Ships until the signal aborts or the spool is closed. Never rejects. */
export async function keepShipping(spool: Spool, bus: EventBus, options: ShipOptions, retryMs: number = RETRY_MS): Promise<void> {
  const { signal, log } = options;
  while (!signal.aborted) {
    try {
      await shipSpool(spool, bus, options);
      return;
    } catch (error) {
      log.error({ err: error }, "the spool could not be read; its records reach the recorder once it can");
      await delay(retryMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
    }
  }
}
