/**
 * How far this machine's clock is from the control planes', as they last said: tokens are judged by it. Asked anew each time, so that a
 * clock that was set right counts as right without a restart. Changes nothing, and judges nothing else.
 */
import type { Clock } from "@sluice/core/clock.ts";

export class ControlClock {
  readonly #clock: Clock;
  readonly #toleranceMs: number;
  #told: { readonly nowMs: number; readonly atMonotonicMs: number } | undefined;

  constructor(clock: Clock, toleranceMs: number) {
    this.#clock = clock;
    this.#toleranceMs = toleranceMs;
  }

  /** A control plane says what time it is. */
  told(nowMs: number): void {
    this.#told = { nowMs, atMonotonicMs: this.#clock.monotonicMs() };
  }

  /** A sentence when the clocks differ too much; null otherwise, and while no control plane has been heard of. */
  get fault(): string | null {
    if (this.#told === undefined) return null;
    const controlPlaneMs = this.#told.nowMs + this.#clock.monotonicMs() - this.#told.atMonotonicMs;
    const aheadMs = this.#clock.nowMs() - controlPlaneMs;
    if (Math.abs(aheadMs) <= this.#toleranceMs) return null;
    const minutes = (Math.abs(aheadMs) / 60_000).toFixed(1);
    return `this machine's clock is ${minutes} minutes ${aheadMs > 0 ? "ahead of" : "behind"} the control plane's`;
  }
}
