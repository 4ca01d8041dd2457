/**
 * How many idle session connections an agent should keep: as many as are taken while a new one is being dialled, twice over, and
 * those that sessions are waiting for. Pure: time is an argument.
 */

/** Takes count half as much after this time: a burst is remembered for some seconds, not for minutes. */
const HALF_LIFE_MS = 5_000;
/** Before anything was measured: two round trips within a continent. */
const REFILL_MS_AT_FIRST = 100;
/** The share of the newest measurement of a refill. */
const NEWEST_SHARE = 0.2;

export interface WarmBounds {
  readonly warmConnectionsMin: number;
  readonly warmConnectionsMax: number;
}

export class WarmSize {
  readonly #bounds: WarmBounds;
  /** When connections were taken whose replacement has not come yet. */
  readonly #missingSince: number[] = [];
  #refillMs = REFILL_MS_AT_FIRST;
  #level = 0;
  #levelAtMs = 0;

  constructor(bounds: WarmBounds) {
    this.#bounds = bounds;
  }

  taken(nowMs: number): void {
    this.#level = this.#levelAt(nowMs) + 1;
    this.#levelAtMs = nowMs;
    if (this.#missingSince.length < this.#bounds.warmConnectionsMax) this.#missingSince.push(nowMs);
  }

  arrived(nowMs: number): void {
    const sinceMs = this.#missingSince.shift();
    if (sinceMs !== undefined) this.#refillMs += (nowMs - sinceMs - this.#refillMs) * NEWEST_SHARE;
  }

  /** `waiting`: sessions that have no connection yet. */
  wanted(nowMs: number, waiting: number): number {
    const { warmConnectionsMin, warmConnectionsMax } = this.#bounds;
    const perMs = (this.#levelAt(nowMs) * Math.LN2) / HALF_LIFE_MS;
    const wanted = warmConnectionsMin + Math.floor(2 * perMs * this.#refillMs) + waiting;
    return Math.min(wanted, warmConnectionsMax);
  }

  #levelAt(nowMs: number): number {
    return this.#level * 0.5 ** ((nowMs - this.#levelAtMs) / HALF_LIFE_MS);
  }
}
