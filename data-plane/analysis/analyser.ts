/**
 * Analyses statement texts in a supervised worker thread that also owns the catalogs, with a cache in front that answers at once.
 * Must never log a text, look into a catalog on this thread, let one text hold up others beyond the deadline, or answer from a
 * parser that has failed at anything but syntax.
 */
import { toGatewayError } from "@sluice/core/errors.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";
import type { LabelRules } from "@sluice/inspect/policy/label-rules.ts";
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";
import { precheck } from "@sluice/inspect/sql/precheck.ts";
import type { EncodedCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { type GatewayMetrics, noGatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import { AnalysisCache } from "./analysis-cache.ts";
import type { CatalogFacts } from "./catalog-facts.ts";
import { SupervisedWorker } from "./supervised-worker.ts";
import { Trials } from "./trials.ts";
import { refusalOf, unavailable } from "./unavailable.ts";

export interface AnalysisRequest {
  readonly catalogKey: string;
  /** The catalog that the answer must rest on: the one last loaded for the key. */
  readonly epoch: CatalogEpoch;
  readonly text: string;
  readonly scope: SessionScope;
  readonly settings: AnalysisSettings;
  /** Whose statement it is: askers take turns, and each has a bound. Absent: nobody's in particular. */
  readonly asker?: string;
}

export interface CatalogToLoad {
  readonly encoded: EncodedCatalog;
  readonly protocol: Protocol;
  readonly rules: LabelRules;
}

export interface AnalyserOptions {
  readonly limits: Limits;
  readonly log?: { warn(fields: object, message: string): void };
  readonly metrics?: Pick<GatewayMetrics, "analysisWorkerReplaced" | "analysisRefused">;
}

export class Analyser {
  readonly #limits: Limits;
  readonly #metrics: Pick<GatewayMetrics, "analysisWorkerReplaced" | "analysisRefused">;
  readonly #cache: AnalysisCache;
  readonly #worker: SupervisedWorker;
  readonly #trials: Trials;
  readonly #pending = new Map<string, Promise<Analysis>>();
  #closed = false;

  constructor({ limits, log, metrics = noGatewayMetrics }: AnalyserOptions) {
    this.#limits = limits;
    this.#metrics = metrics;
    this.#cache = new AnalysisCache(limits.analysisCacheBytesMax);
    this.#worker = new SupervisedWorker({
      limits,
      replaced: (reason, errorName) => {
        metrics.analysisWorkerReplaced(reason);
        log?.warn({ reason, errorName }, "the analysis worker was replaced");
      },
    });
    this.#trials = new Trials({
      timeoutMs: limits.analysisTimeoutMs,
      queueMax: limits.analysisQueueMax,
      failed: (reason, errorName) => log?.warn({ reason, errorName }, "an unusual statement was refused: its trial failed"),
    });
  }

  /** Statements that wait for an analysis. */
  get waiting(): number {
    return this.#worker.waiting + this.#trials.waiting;
  }

  /**
   * Makes a catalog the one that requests with this key are judged by; resolves with what this thread needs to know of it. Throws
   * `catalog_unavailable` when it is none, `analysis_unavailable` when it could not be loaded in time; then the former one stays.
   */
  async loadCatalog(key: string, { encoded, protocol, rules }: CatalogToLoad): Promise<CatalogFacts> {
    const bounds = { bytesMax: this.#limits.catalogBytesMax, rowsMax: this.#limits.catalogRowsMax };
    return factsIn(await this.#worker.load({ kind: "catalog", key, bytes: encoded.bytes, protocol, bounds, rules }));
  }

  /** Labels a catalog again by other rules. Throws `catalog_unavailable` when this epoch of it is not kept. */
  async labelCatalog(key: string, epoch: CatalogEpoch, rules: LabelRules): Promise<CatalogFacts> {
    return factsIn(await this.#worker.label({ kind: "label", key, epoch, rules }));
  }

  /** False: it must be loaded, again perhaps: a worker that failed over it gives it up. */
  hasCatalog(key: string): boolean {
    return this.#worker.has(key);
  }

  forgetCatalog(key: string): void {
    this.#worker.forget(key);
  }

  /** The analysis when it is at hand. */
  cached(request: AnalysisRequest): Analysis | undefined {
    return this.#cache.get(request);
  }

  /**
   * Analyses a text. Rejects with GatewayError `statement_invalid`, `statement_too_long`, `catalog_unavailable` (another epoch is in
   * force by now) or `analysis_unavailable` (too many wait, the deadline passed, or the parser failed).
   */
  async analyse(request: AnalysisRequest): Promise<Analysis> {
    const known = this.#cache.get(request);
    if (known !== undefined) return known;
    const key = this.#cache.keyOf(request);
    const pending = this.#pending.get(key);
    if (pending !== undefined) return pending;
    const work = this.#analyse(request).finally(() => this.#pending.delete(key));
    this.#pending.set(key, work);
    return work;
  }

  /** Ends the threads; what still waits is rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([this.#trials.close(), this.#worker.close()]);
  }

  async #analyse(request: AnalysisRequest): Promise<Analysis> {
    if (this.#closed) throw unavailable("The gateway is shutting down.");
    const { catalogKey: key, epoch, text, scope, settings, asker = "" } = request;
    const nature = precheck(text, this.#limits);
    try {
      if (nature === "abnormal") await this.#trials.survive(text);
      const answer = await this.#worker.analyse({ kind: "analyse", key, epoch, text, scope, settings }, asker);
      if (answer.kind !== "analysed") throw refusalOf(answer);
      this.#cache.set(request, answer.analysis);
      return answer.analysis;
    } catch (error) {
      this.#metrics.analysisRefused(toGatewayError(error).code);
      throw error;
    }
  }
}

function factsIn(answer: Awaited<ReturnType<SupervisedWorker["load"]>>): CatalogFacts {
  if (answer.kind !== "kept" || answer.facts === null) throw refusalOf(answer);
  return answer.facts;
}
