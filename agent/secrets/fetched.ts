/**
 * Secrets that were fetched, for a short while: rotation is seen within it, and a storm of logins is one request. One request in
 * flight a secret. Holds secrets in memory; never gives out anything but to who asked for that very secret.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";

interface Entry<Value> {
  /** When it was asked for: what was written before is in it. */
  readonly askedMs: number;
  readonly value: Promise<Value>;
  settled: boolean;
}

export type FetchLimits = Pick<Limits, "secretCacheMs" | "secretCacheEntriesMax" | "secretRefetchMs">;

export class FetchedSecrets<Value> {
  readonly #entries = new Map<string, Entry<Value>>();
  readonly #clock: Clock;
  readonly #limits: FetchLimits;

  constructor(clock: Clock, limits: FetchLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** What was fetched a short while ago, or is being fetched, or what `fetch` gives. Failures are not kept. */
  get(key: string, fetch: () => Promise<Value>): Promise<Value> {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#entries.get(key);
    if (known !== undefined && (!known.settled || nowMs - known.askedMs < this.#limits.secretCacheMs)) return known.value;
    const entry: Entry<Value> = { askedMs: nowMs, value: fetch(), settled: false };
    this.#entries.delete(key); // to the end: the order is that of asking
    this.#entries.set(key, entry);
    const forget = (): void => {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
    };
    entry.value.then(() => {
      entry.settled = true;
      const timer = setTimeout(forget, this.#limits.secretCacheMs); // not kept in memory longer than it is used
      timer.unref();
    }, forget);
    this.#evict();
    return entry.value;
  }

  /** The target refused it: the next one who asks gets a fresh one, unless it was fetched only just now. */
  invalidate(key: string): void {
    const known = this.#entries.get(key);
    if (known?.settled !== true) return;
    if (this.#clock.monotonicMs() - known.askedMs >= this.#limits.secretRefetchMs) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  #evict(): void {
    for (const [key] of this.#entries) {
      if (this.#entries.size <= this.#limits.secretCacheEntriesMax) return;
      this.#entries.delete(key);
    }
  }
}
