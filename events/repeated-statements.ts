/**
 * Statement records that refer to an earlier one of their session for text and decision, put together again. Pure. Never guesses: a
 * record whose original is not there says so.
 */
import type { StatementRecorded } from "./session-events.ts";

/** A repeat refers back by at most this many statements, so that a reader need not remember more, and a damaged place costs little. */
export const STATEMENT_REPEAT_DISTANCE_MAX: number = 1_000;
/** Longer texts are recorded each time. Characters. */
export const STATEMENT_REPEAT_TEXT_MAX: number = 16 * 1024;

/** Follows one session's statements in order. */
export class RepeatedStatements {
  /** By number, oldest first. */
  readonly #whole = new Map<number, StatementRecorded>();

  /** The statement with text and decision, whether it holds them itself or refers to an earlier one. */
  resolve(statement: StatementRecorded): StatementRecorded {
    const { sameAs, ...own } = statement;
    if (sameAs === undefined) {
      this.#remember(statement);
      return statement;
    }
    const original = this.#whole.get(sameAs);
    if (original === undefined) return { ...own, text: `[the text of statement ${sameAs}, which is missing here]` };
    return { ...own, text: original.text, decision: { ...original.decision, ...own.decision } };
  }

  #remember(statement: StatementRecorded): void {
    for (const number of this.#whole.keys()) {
      if (statement.number - number < STATEMENT_REPEAT_DISTANCE_MAX) break;
      this.#whole.delete(number);
    }
    if (statement.text.length <= STATEMENT_REPEAT_TEXT_MAX) this.#whole.set(statement.number, statement);
  }
}
