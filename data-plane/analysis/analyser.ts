/**
 * Analyses statements away from the gateway's own thread. One worker owns the catalogs; texts that could hurt the parser are first
 * parsed in a disposable worker with a deadline. A worker that dies, stalls or says it is unwell is replaced and given its
 * catalogs again; what waited for it is refused, never guessed. It never logs statement text.
 */
import { Worker } from "node:worker_threads";
import type { Catalog } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Analysis } from "@sluice/inspect/sql/model.ts";
import { precheckStatement } from "@sluice/inspect/sql/precheck.ts";
import type { Logger } from "pino";
import { AnalysisCache, cacheKey } from "./analysis-cache.ts";
import type { AnalysisRequest, FromWorker, ToWorker, TrialRequest } from "./analysis-messages.ts";

export type { AnalysisRequest } from "./analysis-messages.ts";

/** Deep trees need a deep stack: with 64 MB the parser survives 200,000 chained casts. */
const STACK_SIZE_MB = 64;
/** Disposable workers at a time: a start takes some 50 ms of CPU, and hostile texts must leave the other core alone. */
const TRIALS_MAX = 1;

interface Waiting {
  readonly request: AnalysisRequest;
  readonly key: string;
  readonly resolve: (analysis: Analysis) => void;
  readonly reject: (error: GatewayError) => void;
  readonly timer: NodeJS.Timeout;
}

export interface AnalyserOptions {
  readonly limits: Limits;
  readonly log: Logger;
}

export class Analyser {
  readonly #limits: Limits;
  readonly #log: Logger;
  readonly #cache: AnalysisCache;
  readonly #catalogs = new Map<string, Catalog>();
  readonly #waiting = new Map<number, Waiting>();
  /** Requests for the same analysis share one. */
  readonly #shared = new Map<string, Promise<Analysis>>();
  readonly #trialQueue: (() => void)[] = [];
  #trials = 0;
  #nextId = 1;
  #worker: Worker;
  #closed = false;

  constructor(options: AnalyserOptions) {
    this.#limits = options.limits;
    this.#log = options.log;
    this.#cache = new AnalysisCache(options.limits.analysisCacheBytesMax);
    this.#worker = this.#startWorker();
  }

  /** From now on requests that name this key and the catalog's epoch can be analysed. */
  setCatalog(catalogKey: string, catalog: Catalog): void {
    if (this.#catalogs.get(catalogKey)?.epoch === catalog.epoch) return;
    this.#catalogs.set(catalogKey, catalog);
    this.#send({ kind: "catalog", catalogKey, catalog });
  }

  /** The analysis if it is there already. Synchronous: the hot path asks this. */
  cached(request: AnalysisRequest): Analysis | undefined {
    return this.#cache.get(cacheKey(request));
  }

  /**
   * Analyses, or rejects with GatewayError: `statement_invalid` or `statement_too_long` from the look before parsing,
   * `analysis_unavailable` when the worker is overloaded, failed or late, `catalog_unavailable` when the epoch is not the latest.
   */
  analyse(request: AnalysisRequest): Promise<Analysis> {
    const key = cacheKey(request);
    const known = this.#cache.get(key);
    if (known !== undefined) return Promise.resolve(known);
    const running = this.#shared.get(key);
    if (running !== undefined) return running;
    const begun = this.#begin(request, key).finally(() => this.#shared.delete(key));
    this.#shared.set(key, begun);
    return begun;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#failAll(unavailable("This gateway is shutting down."));
    await this.#worker.terminate();
  }

  async #begin(request: AnalysisRequest, key: string): Promise<Analysis> {
    const verdict = precheckStatement(request.text, this.#limits);
    if (this.#waiting.size + this.#trialQueue.length >= this.#limits.analysisQueueMax) {
      throw unavailable("Too many statements wait to be analysed.");
    }
    if (verdict === "abnormal") await this.#tryParsing(request.text);
    if (this.#closed) throw unavailable("This gateway is shutting down.");
    return await this.#ask(request, key);
  }

  #ask(request: AnalysisRequest, key: string): Promise<Analysis> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId;
      this.#nextId += 1;
      const timer = setTimeout(() => this.#replace("did not answer in time"), this.#limits.analysisTimeoutMs);
      this.#waiting.set(id, { request, key, resolve, reject, timer });
      this.#send({ kind: "analyse", id, request });
    });
  }

  #receive(answer: FromWorker): void {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined) return;
    if (answer.kind === "unwell") {
      this.#replace(`failed (${answer.reason})`);
      return;
    }
    this.#waiting.delete(answer.id);
    clearTimeout(waiting.timer);
    if (answer.kind === "refused") {
      waiting.reject(new GatewayError(answer.code, answer.message, answer.hint === undefined ? {} : { hint: answer.hint }));
      return;
    }
    this.#cache.set(waiting.key, answer.analysis);
    waiting.resolve(answer.analysis);
  }

  /** Parses in a worker of its own that may be lost: resolves when the parser got through, rejects when it did not in time. */
  async #tryParsing(text: string): Promise<void> {
    if (this.#trials >= TRIALS_MAX) await new Promise<void>((resolve) => this.#trialQueue.push(resolve));
    this.#trials += 1;
    const data: TrialRequest = { text };
    const worker = new Worker(workerFile(), { workerData: data, resourceLimits: { stackSizeMb: STACK_SIZE_MB } });
    try {
      const parsed = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(false), this.#limits.analysisTimeoutMs);
        const settle = (result: boolean): void => {
          clearTimeout(timer);
          resolve(result);
        };
        worker.once("message", () => settle(true));
        worker.once("error", () => settle(false));
        worker.once("exit", () => settle(false));
      });
      if (!parsed) throw unavailable("The statement is too complex to be analysed.");
    } finally {
      await worker.terminate();
      this.#trials -= 1;
      this.#trialQueue.shift()?.();
    }
  }

  #startWorker(): Worker {
    const worker = new Worker(workerFile(), { workerData: null, resourceLimits: { stackSizeMb: STACK_SIZE_MB } });
    worker.on("message", (answer: FromWorker) => {
      if (worker === this.#worker) this.#receive(answer);
    });
    worker.on("messageerror", () => this.#replaceIf(worker, "sent what could not be read"));
    worker.on("error", (error) => this.#replaceIf(worker, `died (${error instanceof Error ? error.name : "unknown"})`));
    worker.on("exit", () => this.#replaceIf(worker, "ended"));
    for (const [catalogKey, catalog] of this.#catalogs)
      worker.postMessage({ kind: "catalog", catalogKey, catalog } satisfies ToWorker);
    return worker;
  }

  #replaceIf(worker: Worker, reason: string): void {
    if (worker === this.#worker && !this.#closed) this.#replace(reason);
  }

  /** Only what the worker had begun is at fault, but which text that was cannot be told: all that waits is refused. */
  #replace(reason: string): void {
    this.#log.warn({ reason, waiting: this.#waiting.size }, "the analysis worker is replaced");
    const former = this.#worker;
    this.#worker = this.#startWorker();
    void former.terminate();
    this.#failAll(unavailable("The statement could not be analysed."));
  }

  #failAll(error: GatewayError): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }

  #send(message: ToWorker): void {
    this.#worker.postMessage(message);
  }
}

function workerFile(): URL {
  return new URL("./analysis-worker.ts", import.meta.url);
}

function unavailable(what: string): GatewayError {
  return new GatewayError("analysis_unavailable", `${what} It was not sent to the database.`, {
    hint: "Try again; if it stays, send the statement in smaller or simpler parts.",
  });
}
