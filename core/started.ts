/** What a process has started, in order; stopped in reverse. Nothing that fails to stop may keep the rest from stopping. */

/** A pino logger fits as it is. */
export interface StartedLog {
  error(fields: Readonly<Record<string, unknown>>, sentence: string): void;
}

export class Started {
  readonly #parts: { readonly name: string; readonly stop: () => Promise<void> | void }[] = [];
  readonly #log: StartedLog;
  #stopping: Promise<void> | undefined;

  constructor(log: StartedLog) {
    this.#log = log;
  }

  add(name: string, stop: () => Promise<void> | void): void {
    this.#parts.push({ name, stop });
  }

  /** Safe to call twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopInReverse();
    return this.#stopping;
  }

  async #stopInReverse(): Promise<void> {
    for (const part of this.#parts.splice(0).reverse()) {
      try {
        await part.stop();
      } catch (error) {
        this.#log.error({ err: error, part: part.name }, "a part did not stop cleanly");
      }
    }
  }
}

/** Starts everything, or nothing: what had started is stopped again when a later part throws. */
export async function allOrNothing<Result>(
  log: StartedLog,
  start: (started: Started) => Promise<Result>,
): Promise<Result & { readonly stop: () => Promise<void> }> {
  const started = new Started(log);
  try {
    const result = await start(started);
    return { ...result, stop: () => started.stop() };
  } catch (error) {
    await started.stop();
    throw error;
  }
}
