/** Statements and steps: what is sent, and the small ones that most steps are put together from. */
import { leaf, type Node } from "./tree.ts";
import type { NamedRows } from "./words.ts";

/** How a text is sent. `sliced`: through a portal, two rows at a time. `named`: prepared under a name, executed twice.
 * `claims`: gives the statement the name p and its portal the name c by protocol, and runs nothing. */
export type Form = "simple" | "extended" | "binary" | "sliced" | "named" | "claims";

export interface Statement {
  readonly node: Node;
  readonly form: Form;
  /** Counts as work: not BEGIN, ROLLBACK or the like. */
  readonly work: boolean;
}

export type Step = readonly Statement[];

/** What earlier steps of a session left behind. */
export class SessionState {
  /** Temporary relations. */
  temporary: readonly NamedRows[] = [];
  #names = 0;

  name(letter: string): string {
    this.#names += 1;
    return `${letter}${this.#names}`;
  }
}

/** Outside of such a transaction nothing can be written. */
const BEGIN = "BEGIN READ WRITE";

/** What a session keeps: temporary relations, settings, a number of a sequence. */
export function kept(...statements: readonly Statement[]): Step {
  return [control(BEGIN), ...statements, control("COMMIT")];
}

export function undone(...statements: readonly Statement[]): Step {
  return [control(BEGIN), ...statements, control("ROLLBACK")];
}

export function work(made: Node, form: Form): Statement {
  return { node: made, form, work: true };
}

export function aside(made: Node): Statement {
  return { node: made, form: "simple", work: false };
}

export function control(sql: string): Statement {
  return aside(leaf("statement", sql));
}

export function ask(sql: string): Statement {
  return { node: leaf("statement", sql), form: "simple", work: false };
}

export function asStatement(entry: Statement | Node | string): Statement {
  if (typeof entry === "string") return control(entry);
  return "form" in entry ? entry : work(entry, "simple");
}
