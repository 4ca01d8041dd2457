/**
 * One session's records, numbered without gaps, into the spool. What is released is recorded here first; `durable()` says when
 * it may leave. Once the spool fails the session cannot go on.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { SessionRecordBody, StatementFinished } from "@sluice/events/session-events.ts";
import type { ReleasedBytes, Spool } from "@sluice/events/spool.ts";

export class SessionLog {
  readonly sessionId: SessionId;
  readonly #spool: Spool;
  readonly #clock: Clock;
  #sequence = 0;
  #statements = 0;
  /** Endings that go into the next record of released bytes, which nearly always comes at once. */
  #finished: StatementFinished[] = [];

  constructor(sessionId: SessionId, spool: Spool, clock: Clock) {
    this.sessionId = sessionId;
    this.#spool = spool;
    this.#clock = clock;
  }

  /** Throws `recording_unavailable` when the spool is full or broken. Endings of statements wait for the record behind them, or `settle`. */
  append(body: SessionRecordBody): void {
    if (body.kind === "finished") {
      this.#finished.push(body.finished);
      return;
    }
    if (this.#finished.length === 0) this.#write(body);
    else if (body.kind === "released") {
      const finished = this.#finished;
      this.#finished = [];
      this.#write({ kind: "released", bytes: body.bytes, finished });
    } else {
      this.settle();
      this.#write(body);
    }
  }

  /**
   * Records what is about to be released, with the endings that wait, and hands back the spool's copy of it: `pieces` may be written to
   * afterwards. Throws as `append` does.
   */
  release(pieces: readonly Buffer[]): ReleasedBytes {
    const base = { sessionId: this.sessionId, sequence: this.#sequence, atMs: this.#clock.nowMs(), kind: "released" } as const;
    const finished = this.#finished;
    if (finished.length > 0) this.#finished = [];
    const released = this.#spool.release(finished.length === 0 ? base : { ...base, finished }, pieces);
    this.#sequence += 1;
    return released;
  }

  /** Records endings of statements with which nothing was released. */
  settle(): void {
    if (this.#finished.length === 0) return;
    for (const finished of this.#finished.splice(0)) this.#write({ kind: "finished", finished });
  }

  /** The next statement's number, from 1. */
  nextStatement(): number {
    this.#statements += 1;
    return this.#statements;
  }

  /** Resolves when everything appended before is on disk. */
  durable(): Promise<void> {
    this.settle();
    return this.#spool.durable();
  }

  /** The spool fills faster than it is emptied: release nothing before `durable` has resolved, whatever the mode. */
  get crowded(): boolean {
    return this.#spool.crowded;
  }

  #write(body: SessionRecordBody): void {
    this.#spool.append({ sessionId: this.sessionId, sequence: this.#sequence, atMs: this.#clock.nowMs(), ...body });
    this.#sequence += 1;
  }
}
