/** The sessions running in this gateway, whatever their protocol: for draining and ending them. */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";

export interface LiveSession {
  /** Nothing runs and no transaction is open. */
  readonly idle: boolean;
  /** Tells the caller why and ends the session. */
  terminate(error: GatewayError): void;
}

/** How often a draining gateway looks for sessions that became idle. Milliseconds. */
const DRAIN_LOOK_MS = 50;

export class LiveSessions {
  readonly #sessions = new Set<LiveSession>();

  get size(): number {
    return this.#sessions.size;
  }

  add(session: LiveSession): () => void {
    this.#sessions.add(session);
    return () => this.#sessions.delete(session);
  }

  /** Ends idle sessions at once, others when they become idle, all of them after `timeoutMs`. Resolves when none is left. */
  async drain(clock: Clock, timeoutMs: number): Promise<void> {
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    const goodbye = new GatewayError("draining", "This gateway is shutting down.", {
      hint: "Connect again; a statement that was cut off was not completed.",
    });
    while (this.#sessions.size > 0) {
      const late = clock.monotonicMs() >= deadlineMs;
      for (const session of this.#sessions) if (late || session.idle) session.terminate(goodbye);
      if (late && clock.monotonicMs() >= deadlineMs + 2_500) return;
      await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
    }
  }
}
