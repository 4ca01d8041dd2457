/**
 * Keeps an agent watching one database for DDL that no gateway has seen. Says what changed; what it cannot watch is read by time, as
 * before. Must never count a database as watched that has not been heard of.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { toGatewayError } from "@sluice/core/errors.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { CatalogNews, WatchCatalogRequest } from "@sluice/rpc/catalog-watch.ts";
import type { Logger } from "pino";

export interface CatalogWatchOptions {
  /** Undefined: no agent of this gateway watches. */
  readonly watch: ((request: WatchCatalogRequest) => Promise<void>) | undefined;
  /** As the policy in force declares it. */
  readonly resource: () => ResourceSpec | undefined;
  readonly database: string;
  /** The watch stands: what changed before was not told. */
  readonly began: () => void;
  readonly changed: () => void;
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "debug">;
}

/** Between attempts, doubled up to the larger. Milliseconds. */
const AGAIN_MS_MIN = 1_000;
const AGAIN_MS_MAX = 60_000;
/** So many looks may be missed before the database counts as not watched. */
const MISSED_MAX = 3;

export class CatalogWatch {
  readonly #options: CatalogWatchOptions;
  readonly #ending = new AbortController();
  #last: { readonly news: CatalogNews; readonly atMs: number } | undefined;

  constructor(options: CatalogWatchOptions) {
    this.#options = options;
    if (options.watch !== undefined) void this.#run(options.watch);
  }

  /** The last word, unless it is too old to count. */
  get standing(): (CatalogNews & { readonly atMs: number }) | undefined {
    const last = this.#last;
    if (last === undefined) return undefined;
    const isOld = this.#options.clock.monotonicMs() - last.atMs > MISSED_MAX * last.news.intervalMs;
    return isOld ? undefined : { ...last.news, atMs: last.atMs };
  }

  close(): void {
    this.#ending.abort(new Error("the database is not watched any more"));
  }

  async #run(watch: (request: WatchCatalogRequest) => Promise<void>): Promise<void> {
    const { database, resource: declared, clock, log } = this.#options;
    const { signal } = this.#ending;
    let againMs = AGAIN_MS_MIN;
    while (!signal.aborted) {
      const resource = declared();
      if (resource === undefined) return; // the entry is about to be closed
      let isFirst = true;
      try {
        await watch({
          resource,
          database,
          signal,
          news: (news) => {
            this.#last = { news, atMs: clock.monotonicMs() };
            againMs = AGAIN_MS_MIN;
            if (isFirst) {
              log.debug(
                { resource: resource.name, database, told: news.told, intervalMs: news.intervalMs },
                "a database is watched",
              );
              this.#options.began();
            } else if (news.changed) {
              log.info({ resource: resource.name, database }, "the structure of a database was changed past this gateway");
              this.#options.changed();
            }
            isFirst = false;
          },
        });
      } catch (error) {
        log.debug({ resource: resource.name, database, reason: toGatewayError(error).code }, "a database is not watched");
      }
      this.#last = undefined;
      await pause(againMs, signal);
      againMs = Math.min(againMs * 2, AGAIN_MS_MAX);
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    timer.unref();
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
