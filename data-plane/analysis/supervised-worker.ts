/**
 * The one worker that owns the catalogs: tasks one at a time so that a late one is known to be the one at fault, askers in turn,
 * replaced when it is late or broken. The replacement gets every catalog again from its compressed bytes, first those that are
 * waited for. Must never run a task on a catalog that the worker does not have.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { FairQueue } from "./fair-queue.ts";
import type { FromWorker, Task } from "./messages.ts";
import { ParseThread, type ThreadEnd } from "./parse-thread.ts";
import { unavailable, whatHappened } from "./unavailable.ts";

export interface SupervisedWorkerOptions {
  readonly limits: Limits;
  readonly replaced: (reason: ThreadEnd, errorName: string) => void;
}

type CatalogTask = Task & { readonly kind: "catalog" };

interface Job {
  readonly task: Task;
  readonly asker: string;
  /** A catalog that the former worker had. */
  readonly again: boolean;
  /** From when the worker takes it. */
  readonly runMs: number;
  readonly done: (answer: FromWorker) => void;
  readonly fail: (error: GatewayError) => void;
}

/** Before a thread is started in place of one that never became ready. Milliseconds. */
const RESTART_MS = 1_000;
/** A running analysis may take this part of the deadline, so that what waits behind a bad one still gets its turn in time. */
const RUNNING_PART = 0.4;
/** Asks for what concerns catalogs: they take turns with callers. */
const CATALOGS = "\0catalogs";

export class SupervisedWorker {
  readonly #options: SupervisedWorkerOptions;
  readonly #queue: FairQueue<Job>;
  /** What the worker must have, for giving it to its replacement. */
  readonly #catalogs = new Map<string, CatalogTask>();
  /** What the thread that runs now has of them. */
  readonly #present = new Set<string>();
  #thread: ParseThread | undefined;
  #running: Job | undefined;
  #stopTimer: () => void = () => undefined;
  #restart: NodeJS.Timeout | undefined;
  #number = 0;
  #closed = false;

  constructor(options: SupervisedWorkerOptions) {
    this.#options = options;
    this.#queue = new FairQueue(options.limits.analysisQueueMax, options.limits.analysisQueuePerPrincipalMax, CATALOGS);
    this.#start(); // ready before the first statement wants it
  }

  /** Tasks that wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Rejects with `analysis_unavailable`: too many wait, of this asker or of all, the deadline has passed, or the worker failed. */
  analyse(task: Task & { readonly kind: "analyse" }, asker: string): Promise<FromWorker> {
    const refusal = this.#queue.refusal(asker);
    if (refusal === "full") return Promise.reject(unavailable("Too many statements wait to be analysed."));
    if (refusal === "asker-full") return Promise.reject(unavailable("Too many of your statements wait to be analysed."));
    const { analysisTimeoutMs } = this.#options.limits;
    return this.#enqueue(task, asker, analysisTimeoutMs, analysisTimeoutMs * RUNNING_PART);
  }

  /** Keeps a catalog in place of the key's former one, which stays when this one is refused or not loaded in time. */
  async load(task: CatalogTask): Promise<FromWorker> {
    const { catalogLoadTimeoutMs } = this.#options.limits;
    return await this.#enqueue(task, CATALOGS, catalogLoadTimeoutMs, catalogLoadTimeoutMs);
  }

  label(task: Task & { readonly kind: "label" }): Promise<FromWorker> {
    const { catalogLoadTimeoutMs } = this.#options.limits;
    return this.#enqueue(task, CATALOGS, catalogLoadTimeoutMs, catalogLoadTimeoutMs);
  }

  /** The worker has this catalog, or is about to be given it again. */
  has(key: string): boolean {
    return this.#catalogs.has(key);
  }

  forget(key: string): void {
    if (!this.#catalogs.delete(key)) return;
    if (this.#present.delete(key)) this.#dropped(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restart);
    for (const job of this.#queue.drain()) job.fail(unavailable("The gateway is shutting down."));
    const thread = this.#thread;
    thread?.end("closed");
    await thread?.terminated;
  }

  #enqueue(task: Task, asker: string, waitMs: number, runMs: number): Promise<FromWorker> {
    if (this.#closed) return Promise.reject(unavailable("The gateway is shutting down."));
    return new Promise((done, fail) => {
      const job: Job = {
        task,
        asker,
        again: false,
        runMs,
        done: (answer) => {
          clearTimeout(deadline);
          done(answer);
        },
        fail: (error) => {
          clearTimeout(deadline);
          fail(error);
        },
      };
      const deadline = setTimeout(() => {
        // What runs has a time of its own: it was not its fault that it had to wait.
        if (this.#queue.remove(asker, job)) job.fail(unavailable("The statement waited too long to be analysed."));
      }, waitMs);
      this.#queue.push(asker, job);
      this.#next();
    });
  }

  #next(): void {
    // A thread that is still starting is not the statement's fault: its time runs from when the thread takes it.
    if (this.#running !== undefined || this.#closed || this.#thread?.ready !== true) return;
    const absent = this.#absentFor(this.#queue.first()?.task);
    if (absent !== undefined) {
      this.#run(this.#again(absent));
      return;
    }
    const job = this.#queue.shift();
    if (job !== undefined) this.#run(job);
  }

  /** The catalog that must be given to the worker before `task`; without a task, any that it does not have yet. */
  #absentFor(task: Task | undefined): CatalogTask | undefined {
    if (task === undefined) {
      for (const [key, catalog] of this.#catalogs) if (!this.#present.has(key)) return catalog;
      return undefined;
    }
    if (task.kind !== "analyse" && task.kind !== "label") return undefined;
    return this.#present.has(task.key) ? undefined : this.#catalogs.get(task.key);
  }

  /** One that cannot be loaded again is given up: statements on it are refused until it is read anew. */
  #again(task: CatalogTask): Job {
    const giveUp = (): void => {
      if (this.#catalogs.get(task.key) === task) this.#catalogs.delete(task.key);
    };
    return {
      task: { ...task, rules: null },
      asker: CATALOGS,
      again: true,
      runMs: this.#options.limits.catalogLoadTimeoutMs,
      done: (answer) => {
        if (answer.kind !== "kept") giveUp();
      },
      fail: giveUp,
    };
  }

  #run(job: Job): void {
    const thread = this.#thread!; // looked at right before
    this.#running = job;
    const timer = setTimeout(() => thread.end("late"), job.runMs);
    this.#stopTimer = () => clearTimeout(timer);
    thread.ask({ ...job.task, number: ++this.#number }, (answer) => {
      if (answer.kind === "broken") return; // the thread's end tells
      clearTimeout(timer);
      this.#running = undefined;
      if (job.task.kind === "catalog" && answer.kind === "kept") this.#kept(job.task, job.again);
      job.done(answer);
      this.#next();
    });
  }

  #kept(task: CatalogTask, again: boolean): void {
    if (again && !this.#catalogs.has(task.key)) {
      this.#dropped(task.key); // forgotten meanwhile
      return;
    }
    this.#catalogs.set(task.key, task);
    this.#present.add(task.key);
  }

  #dropped(key: string): void {
    this.#thread?.ask({ kind: "forget", number: ++this.#number, key }, () => undefined);
  }

  #start(): void {
    this.#present.clear();
    this.#thread = new ParseThread({
      onReady: () => this.#next(),
      onEnd: (reason, errorName) => this.#ended(reason, errorName),
    });
  }

  #ended(reason: ThreadEnd, errorName: string): void {
    const ready = this.#thread?.ready;
    this.#thread = undefined;
    this.#stopTimer();
    const job = this.#running;
    this.#running = undefined;
    if (reason !== "closed") this.#options.replaced(reason, errorName);
    job?.fail(unavailable(whatHappened(reason)));
    if (this.#closed) return;
    // One that could not even start would be started again and again, for nothing but heat.
    if (ready === false) this.#restart = setTimeout(() => this.#start(), RESTART_MS).unref();
    else this.#start();
  }
}
