/**
 * One session's records, numbered without gaps, into the spool. What is released is recorded here first; `durable()` says when
 * it may leave. Once the spool fails the session cannot go on.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { SessionRecordBody } from "@sluice/events/session-events.ts";
import type { Spool } from "@sluice/events/spool.ts";

export class SessionLog {
  readonly sessionId: SessionId;
  readonly #spool: Spool;
  readonly #clock: Clock;
  #sequence = 0;
  #statements = 0;

  constructor(sessionId: SessionId, spool: Spool, clock: Clock) {
    this.sessionId = sessionId;
    this.#spool = spool;
    this.#clock = clock;
  }

  /** Throws `recording_unavailable` when the spool is full or broken. */
  append(body: SessionRecordBody): void {
    this.#spool.append({ sessionId: this.sessionId, sequence: this.#sequence, atMs: this.#clock.nowMs(), ...body });
    this.#sequence += 1;
  }

  /** The next statement's number, from 1. */
  nextStatement(): number {
    this.#statements += 1;
    return this.#statements;
  }

  durable(): Promise<void> {
    return this.#spool.durable();
  }
}
