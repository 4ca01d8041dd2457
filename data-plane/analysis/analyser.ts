/**
 * Analyses statement texts in a supervised worker thread, with a cache in front that answers at once. Must never log a text, let
 * one text hold up others beyond the deadline, or answer from a parser that has failed at anything but syntax.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Catalog } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";
import { precheck } from "@sluice/inspect/sql/precheck.ts";
import { AnalysisCache } from "./analysis-cache.ts";
import type { FromWorker, ToWorker } from "./messages.ts";
import { ParseThread, type ThreadEnd } from "./parse-thread.ts";

export interface AnalysisRequest {
  readonly catalogKey: string;
  /** The catalog that the answer must rest on: the one last given to `setCatalog` for the key. */
  readonly epoch: CatalogEpoch;
  readonly text: string;
  readonly scope: SessionScope;
  readonly settings: AnalysisSettings;
}

export interface AnalyserOptions {
  readonly limits: Limits;
  readonly log?: { warn(fields: object, message: string): void };
}

interface Task {
  readonly message: ToWorker & { readonly number: number };
  readonly done: (answer: FromWorker) => void;
  readonly fail: (error: GatewayError) => void;
}

/** Disposable workers at one time: each costs a core and tens of megabytes, and must leave the other cores alone. */
const DISPOSABLE_MAX = 1;
/** Before a thread is started in place of one that never became ready. Milliseconds. */
const RESTART_MS = 1_000;
/** A running analysis may take this part of the deadline, so that what waits behind a bad one still gets its turn in time. */
const RUNNING_PART = 0.4;

export class Analyser {
  readonly #limits: Limits;
  readonly #log: AnalyserOptions["log"];
  readonly #cache: AnalysisCache;
  readonly #catalogs = new Map<string, Catalog>();
  readonly #queue: Task[] = [];
  readonly #pending = new Map<string, Promise<Analysis>>();
  readonly #disposables = new Set<ParseThread>();
  readonly #abnormalWaiting: (() => void)[] = [];
  #thread: ParseThread | undefined;
  #running: Task | undefined;
  #stopTimer: () => void = () => undefined;
  #restart: NodeJS.Timeout | undefined;
  #number = 0;
  #closed = false;

  constructor({ limits, log }: AnalyserOptions) {
    this.#limits = limits;
    this.#log = log;
    this.#cache = new AnalysisCache(limits.analysisCacheBytesMax);
    this.#start(); // ready before the first statement wants it
  }

  /** Makes a catalog the one that requests with this key are judged by. Earlier epochs are forgotten. */
  setCatalog(catalogKey: string, catalog: Catalog): void {
    if (this.#catalogs.get(catalogKey)?.epoch === catalog.epoch) return; // equal epochs are equal catalogs
    this.#catalogs.set(catalogKey, catalog);
    this.#thread?.tell({ kind: "catalog", key: catalogKey, catalog });
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
    clearTimeout(this.#restart);
    const threads = [...this.#disposables, ...(this.#thread === undefined ? [] : [this.#thread])];
    for (const task of this.#queue.splice(0)) task.fail(unavailable("The gateway is shutting down."));
    for (const wake of this.#abnormalWaiting.splice(0)) wake();
    for (const thread of threads) thread.end("closed");
    await Promise.all(threads.map((thread) => thread.terminated));
  }

  async #analyse(request: AnalysisRequest): Promise<Analysis> {
    if (this.#closed) throw unavailable("The gateway is shutting down.");
    const nature = precheck(request.text, this.#limits);
    if (nature === "abnormal") await this.#tryApart(request.text);
    const { catalogKey, epoch, text, scope, settings } = request;
    const number = ++this.#number;
    const answer = await this.#enqueue({ kind: "analyse", number, key: catalogKey, epoch, text, scope, settings });
    if (answer.kind !== "analysed") throw refusalOf(answer);
    this.#cache.set(request, answer.analysis);
    return answer.analysis;
  }

  #enqueue(message: Task["message"]): Promise<FromWorker> {
    if (this.#closed) return Promise.reject(unavailable("The gateway is shutting down."));
    if (this.#queue.length >= this.#limits.analysisQueueMax) {
      return Promise.reject(unavailable("Too many statements wait to be analysed."));
    }
    return new Promise((done, fail) => {
      const deadline = setTimeout(() => this.#late(task), this.#limits.analysisTimeoutMs);
      const task: Task = {
        message,
        done: (answer) => {
          clearTimeout(deadline);
          done(answer);
        },
        fail: (error) => {
          clearTimeout(deadline);
          fail(error);
        },
      };
      this.#queue.push(task);
      this.#next();
    });
  }

  /** One task at a time is in the thread, so that a late one is known to be the one at fault. */
  #next(): void {
    const thread = this.#thread;
    // A thread that is still starting is not the statement's fault: its time runs from when the thread takes it.
    if (this.#running !== undefined || this.#closed || thread?.ready !== true) return;
    const task = this.#queue.shift();
    if (task === undefined) return;
    this.#running = task;
    const timer = setTimeout(() => thread.end("late"), this.#limits.analysisTimeoutMs * RUNNING_PART);
    this.#stopTimer = () => clearTimeout(timer);
    thread.ask(task.message, (answer) => {
      if (answer.kind === "broken") return; // the thread's end tells
      clearTimeout(timer);
      this.#running = undefined;
      task.done(answer);
      this.#next();
    });
  }

  #late(task: Task): void {
    if (this.#running === task) {
      this.#thread?.end("late");
      return;
    }
    const at = this.#queue.indexOf(task);
    if (at >= 0) this.#queue.splice(at, 1);
    task.fail(unavailable("The statement waited too long to be analysed."));
  }

  #start(): ParseThread {
    const thread = new ParseThread({
      onReady: () => this.#next(),
      onEnd: (reason, errorName) => this.#ended(reason, errorName),
    });
    this.#thread = thread;
    for (const [key, catalog] of this.#catalogs) thread.tell({ kind: "catalog", key, catalog });
    return thread;
  }

  #ended(reason: ThreadEnd, errorName: string): void {
    const thread = this.#thread;
    this.#thread = undefined;
    this.#stopTimer();
    const task = this.#running;
    this.#running = undefined;
    if (reason !== "closed") this.#log?.warn({ reason, errorName }, "the analysis worker was replaced");
    task?.fail(unavailable(whatHappened(reason)));
    if (this.#closed) return;
    // One that could not even start would be started again and again, for nothing but heat.
    if (thread?.ready === false) this.#restart = setTimeout(() => this.#start(), RESTART_MS).unref();
    else this.#start();
  }

  /** Parses an unusual text where it can hurt nobody. */
  async #tryApart(text: string): Promise<void> {
    while (this.#disposables.size >= DISPOSABLE_MAX) {
      if (this.#abnormalWaiting.length >= this.#limits.analysisQueueMax)
        throw unavailable("Too many statements wait to be analysed.");
      await new Promise<void>((wake) => this.#abnormalWaiting.push(wake));
      if (this.#closed) throw unavailable("The gateway is shutting down.");
    }
    let thread: ParseThread | undefined;
    let deadline: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((done, fail) => {
        const started = new ParseThread({
          onReady: () => undefined,
          onEnd: (reason, errorName) => {
            if (reason !== "closed") this.#log?.warn({ reason, errorName }, "an unusual statement was refused: its trial failed");
            fail(unavailable(whatHappened(reason)));
          },
        });
        thread = started;
        this.#disposables.add(started);
        deadline = setTimeout(() => started.end("late"), this.#limits.analysisTimeoutMs);
        started.ask({ kind: "try", number: ++this.#number, text }, (answer) => {
          if (answer.kind === "tried") done();
        });
      });
    } finally {
      clearTimeout(deadline);
      if (thread !== undefined) {
        thread.end("closed");
        this.#disposables.delete(thread);
      }
      this.#abnormalWaiting.shift()?.();
    }
  }
}

function refusalOf(answer: Exclude<FromWorker, { readonly kind: "analysed" }>): GatewayError {
  if (answer.kind === "refused")
    return new GatewayError(answer.code, answer.message, answer.hint === "" ? {} : { hint: answer.hint });
  return unavailable("The statement could not be analysed.");
}

function whatHappened(reason: ThreadEnd): string {
  switch (reason) {
    case "late":
      return "The statement took too long to analyse.";
    case "broken":
      return "The statement could not be analysed.";
    case "closed":
      return "The gateway is shutting down.";
    default:
      return assertNever(reason);
  }
}

function unavailable(text: string): GatewayError {
  return new GatewayError("analysis_unavailable", text, {
    hint: "It was not run. Send it again in a moment; if it stays, make the statement smaller or simpler.",
  });
}
