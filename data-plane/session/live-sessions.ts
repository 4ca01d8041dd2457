/** The sessions running in this gateway, whatever their protocol: for draining and ending them, one or many. */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";

export interface LiveSession {
  readonly id: SessionId;
  /** Nothing runs and no transaction is open. */
  readonly idle: boolean;
  /** Its resource is recorded strictly, as things are now: it may not go on as long without a word from the control plane. */
  readonly strict: boolean;
  /** Tells the caller why and ends the session. */
  terminate(error: GatewayError): void;
}

/** How often a draining gateway looks for sessions that became idle. Milliseconds. */
const DRAIN_LOOK_MS = 50;

export class LiveSessions {
  readonly #sessions = new Map<SessionId, LiveSession>();

  get size(): number {
    return this.#sessions.size;
  }

  add(session: LiveSession): () => void {
    const { id } = session;
    this.#sessions.set(id, session);
    return () => {
      if (this.#sessions.get(id) === session) this.#sessions.delete(id);
    };
  }

  /** Ends one session. False: it is not here. */
  end(id: string, error: GatewayError): boolean {
    const session = this.#sessions.get(id as SessionId); // looked up, whatever it is
    session?.terminate(error);
    return session !== undefined;
  }

  /** Ends every session of which `why` gives a reason. */
  endWhere(why: (session: LiveSession) => GatewayError | null): void {
    for (const session of this.#sessions.values()) {
      const error = why(session);
      if (error !== null) session.terminate(error);
    }
  }

  /** Ends idle sessions at once, others when they become idle, all of them after `timeoutMs`. Resolves when none is left. */
  async drain(clock: Clock, timeoutMs: number): Promise<void> {
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    const goodbye = new GatewayError("draining", "This gateway is shutting down.", {
      hint: "Connect again; a statement that was cut off was not completed.",
    });
    while (this.#sessions.size > 0) {
      const late = clock.monotonicMs() >= deadlineMs;
      this.endWhere((session) => (late || session.idle ? goodbye : null));
      if (late && clock.monotonicMs() >= deadlineMs + 2_500) return;
      await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
    }
  }
}
