/**
 * One worker thread with a deadline for each task. Must never be waited for longer than the deadline: a thread that is late or
 * broken is terminated, and what waited for it is rejected.
 */
import { Worker } from "node:worker_threads";
import type { FromWorker, ToWorker } from "./messages.ts";

/** A chain of 200,000 casts needs more than the default 4 MB of stack (measured). MB. */
const STACK_MB = 64;
/** The parser's own memory and the indexed catalogs. MB. */
const HEAP_MB = 1_024;

export type ThreadEnd = "closed" | "late" | "broken";

export interface ThreadEvents {
  readonly onReady: () => void;
  /** Called once, after which nothing is answered any more. `errorName` is a class name, never a text. */
  readonly onEnd: (reason: ThreadEnd, errorName: string) => void;
}

export class ParseThread {
  readonly #worker: Worker;
  readonly #tasks = new Map<number, (message: FromWorker) => void>();
  readonly #events: ThreadEvents;
  #ended = false;
  /** True once the parser is loaded. */
  ready = false;

  /** `trial`: it parses a text that may hurt, after everything else that wants a core. */
  constructor(events: ThreadEvents, trial = false) {
    this.#events = events;
    const file = trial ? "./trial-thread.ts" : "./analysis-worker.ts";
    this.#worker = new Worker(new URL(file, import.meta.url), {
      resourceLimits: { stackSizeMb: STACK_MB, maxOldGenerationSizeMb: HEAP_MB },
      env: {}, // it has no use for the environment, which may hold secrets
      stdout: true,
      stderr: true,
    });
    this.#worker.unref();
    this.#worker.on("message", (message: FromWorker) => this.#receive(message));
    this.#worker.on("error", (error) => this.end("broken", error instanceof Error ? error.name : "unknown"));
    this.#worker.on("messageerror", () => this.end("broken", "messageerror"));
    this.#worker.on("exit", () => this.end("broken", "exit"));
  }

  /** Sends a task; `answer` gets what comes back, or never if the thread ends before. */
  ask(message: ToWorker, answer: (message: FromWorker) => void): void {
    this.#tasks.set(message.number, answer);
    this.#worker.postMessage(message);
  }

  end(reason: ThreadEnd, errorName = ""): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#tasks.clear();
    this.#worker.removeAllListeners();
    this.#worker.on("error", () => undefined); // a dying thread may still throw
    this.terminated = this.#worker.terminate().then(() => undefined);
    this.#events.onEnd(reason, errorName);
  }

  /** Settles once the thread is gone; meaningful after `end`. */
  terminated: Promise<void> = Promise.resolve();

  #receive(message: FromWorker): void {
    if (message.kind === "ready") {
      this.ready = true;
      this.#events.onReady();
      return;
    }
    const answer = this.#tasks.get(message.number);
    this.#tasks.delete(message.number);
    answer?.(message);
    if (message.kind === "broken") this.end("broken", message.name);
  }
}
