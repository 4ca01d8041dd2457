/**
 * Watches a database for DDL that did not come through a gateway: a cheap look every few seconds, and at once when the database itself
 * tells (event triggers that an administrator installed). One connection a database for all gateways that ask. Must never ask more of
 * the target than its share: a slow look is taken less often.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { CatalogNews, WatchCatalogRequest } from "@sluice/rpc/catalog-watch.ts";
import type { PostgresConnection } from "../targets/postgres/open.ts";
import { QueryClient } from "../targets/postgres/query.ts";
import { probeQuery, startQuery, triggersOfWatch } from "./watch-queries.ts";

export interface CatalogWatchesOptions {
  readonly connect: (request: Omit<WatchCatalogRequest, "news">) => Promise<PostgresConnection>;
  readonly limits: Limits;
  readonly clock: Clock;
}

/** After a look that a notification asked for, at least this many times as long nothing: whoever may connect may notify. */
const PAUSE_PER_LOOK = 4;
const PAUSE_MS_MIN = 50;

export class CatalogWatches {
  readonly #options: CatalogWatchesOptions;
  readonly #watches = new Map<string, Watch>();

  constructor(options: CatalogWatchesOptions) {
    this.#options = options;
  }

  /** Until the signal aborts, then it resolves; rejects when the database cannot be looked at any more. */
  async watch(request: WatchCatalogRequest): Promise<void> {
    const { resource, database, signal, news } = request;
    const key = JSON.stringify([resource.name, database, resource.target, resource.credential]);
    const watch = this.#watches.get(key) ?? this.#start(key, request);
    watch.listeners.add(news);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const onAbort = (): void => resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await Promise.race([ended, watch.running]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      watch.listeners.delete(news);
      if (watch.listeners.size === 0) watch.stop();
    }
  }

  #start(key: string, { resource, database }: WatchCatalogRequest): Watch {
    const ending = new AbortController();
    const listeners = new Set<(news: CatalogNews) => void>();
    const { signal } = ending;
    const forget = (): void => {
      if (this.#watches.get(key) === watch) this.#watches.delete(key);
    };
    const running = this.#look({ resource, database, signal }, (news) => {
      for (const listener of listeners) listener(news);
    }).finally(forget);
    running.catch(() => undefined); // whoever listens is told
    const stop = (): void => {
      forget();
      ending.abort(new GatewayError("draining", "Nobody watches this database any more."));
    };
    const watch: Watch = { listeners, running, stop };
    this.#watches.set(key, watch);
    return watch;
  }

  async #look(request: Omit<WatchCatalogRequest, "news">, news: (news: CatalogNews) => void): Promise<void> {
    const { limits, clock } = this.#options;
    const { signal } = request;
    const bounds = {
      rowsMax: limits.catalogRowsMax,
      bytesMax: limits.catalogBytesMax,
      frameBytesMax: limits.targetFrameBytesMax,
    };
    const client = new QueryClient(await this.#options.connect(request), bounds, signal);
    try {
      await client.query(startQuery);
      let before: string | undefined;
      for (;;) {
        const startedMs = clock.monotonicMs();
        const [row] = await client.query(probeQuery);
        const tookMs = clock.monotonicMs() - startedMs;
        const now = row?.[0] ?? "";
        const told = row?.[1] === String(triggersOfWatch);
        const intervalMs = Math.ceil(Math.max(limits.catalogProbeMs, (tookMs * 100) / limits.catalogProbePercentMax));
        news({ changed: before !== undefined && before !== now, told, intervalMs });
        before = now;
        if (await client.notified(AbortSignal.timeout(intervalMs))) {
          await pause(
            Math.max(0, Math.min(intervalMs, Math.max(PAUSE_MS_MIN, PAUSE_PER_LOOK * tookMs)) - sinceMs(clock, startedMs)),
            signal,
          );
        }
      }
    } finally {
      client.close();
    }
  }
}

interface Watch {
  readonly listeners: Set<(news: CatalogNews) => void>;
  readonly running: Promise<void>;
  stop(): void;
}

function sinceMs(clock: Clock, startedMs: number): number {
  return clock.monotonicMs() - startedMs;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
  signal.throwIfAborted();
}
