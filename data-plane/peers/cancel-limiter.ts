/** Counts cancel requests in windows of ten seconds, so that nobody makes this gateway guess keys for him or flood another. */
import type { Clock } from "@sluice/core/clock.ts";

const WINDOW_MS = 10_000;
/** Sources counted apart within one window; further ones share one count. */
const SOURCES_MAX = 10_000;
const OTHERS = "";

export class CancelLimiter {
  readonly #max: number;
  readonly #clock: Clock;
  readonly #counts = new Map<string, number>();
  #windowEndMs = 0;

  /** `max`: of one source within ten seconds. */
  constructor(max: number, clock: Clock) {
    this.#max = max;
    this.#clock = clock;
  }

  /** Counts one request of `source`; false when it is one too many. */
  admits(source: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs >= this.#windowEndMs) {
      this.#counts.clear();
      this.#windowEndMs = nowMs + WINDOW_MS;
    }
    const key = this.#counts.has(source) || this.#counts.size < SOURCES_MAX ? source : OTHERS;
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    return count <= this.#max;
  }
}
