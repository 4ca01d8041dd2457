/** Parses unusual texts in threads of their own, where they can hurt nobody: a few at a time, each thread for one text. */
import type { GatewayError } from "@sluice/core/errors.ts";
import { ParseThread, type ThreadEnd, type ThreadEvents } from "./parse-thread.ts";
import { unavailable, whatHappened } from "./unavailable.ts";

export interface TrialsOptions {
  readonly timeoutMs: number;
  readonly queueMax: number;
  readonly failed: (reason: ThreadEnd, errorName: string) => void;
}

/** Threads at one time: each costs a core and tens of megabytes, and must leave the other cores alone. */
const THREADS_MAX = 1;

export class Trials {
  readonly #options: TrialsOptions;
  readonly #threads = new Set<ParseThread>();
  readonly #waiting: (() => void)[] = [];
  #closed = false;

  constructor(options: TrialsOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves when the text leaves a parser alive. Throws `analysis_unavailable`, or what the parser refuses texts with. */
  async survive(text: string): Promise<void> {
    const { queueMax, timeoutMs, failed } = this.#options;
    while (this.#threads.size >= THREADS_MAX) {
      if (this.#waiting.length >= queueMax) throw unavailable("Too many statements wait to be analysed.");
      await new Promise<void>((wake) => this.#waiting.push(wake));
      if (this.#closed) throw unavailable("The gateway is shutting down.");
    }
    let thread: ParseThread | undefined;
    let deadline: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((done, fail: (error: GatewayError) => void) => {
        const events: ThreadEvents = {
          onReady: () => undefined,
          onEnd: (reason, errorName) => {
            if (reason !== "closed") failed(reason, errorName);
            fail(unavailable(whatHappened(reason)));
          },
        };
        const started = new ParseThread(events, true);
        thread = started;
        this.#threads.add(started);
        deadline = setTimeout(() => started.end("late"), timeoutMs);
        started.ask({ kind: "try", number: 1, text }, (answer) => {
          if (answer.kind === "tried") done();
        });
      });
    } finally {
      clearTimeout(deadline);
      if (thread !== undefined) {
        thread.end("closed");
        this.#threads.delete(thread);
      }
      this.#waiting.shift()?.();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
    const threads = [...this.#threads];
    for (const thread of threads) thread.end("closed");
    await Promise.all(threads.map((thread) => thread.terminated));
  }
}
