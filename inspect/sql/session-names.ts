/**
 * One session's names as its statements, errors and transactions go by: what the next statement will be read by. A machine without
 * sockets; the relay's reports are its only input, in the order in which the target answers. Must never lag behind the target: what
 * it cannot follow makes the session lost.
 */
import type { ScopeChange, SessionScope, StatementModel } from "./model.ts";
import { applyScopeChange, isUndoable, lostScope, scopeFrom, scopeWithReported } from "./scope.ts";
import type { StartOfSession } from "./session-settings.ts";
import { splitIdentifiers } from "./search-path.ts";
import { unsureScope } from "./unsure.ts";

/** As ReadyForQuery says it: outside a transaction, in one, in a failed one. */
export type TransactionState = "I" | "T" | "E";

export class SessionNames {
  #scope: SessionScope;
  /** An error that no end of a transaction and no return to a savepoint has answered yet. */
  #failed = false;
  #reportedPath: string | undefined;

  /** `start` undefined: the target was not asked; then names are looked up in every schema. */
  constructor(start: StartOfSession | undefined) {
    this.#scope = scopeFrom(start);
  }

  /** The same object as long as nothing has changed. */
  get scope(): SessionScope {
    return this.#scope;
  }

  /** The end of the transaction that is open, if only implicitly, changes names: what is sent behind that end must wait for it. */
  get undoable(): boolean {
    return isUndoable(this.#scope);
  }

  /** What comes after statements with these changes must be judged after they have run. */
  settles(models: readonly StatementModel[]): boolean {
    return models.some((model) => model.scopeChanges.some((change) => this.#matters(change)));
  }

  /** The target said that a statement is done, with this completion tag; or that a portal has run in part. */
  succeeded(changes: readonly ScopeChange[], tag: string): void {
    for (const change of changes) {
      // COMMIT of a failed transaction is answered ROLLBACK.
      const undone = change.kind === "transaction" && change.verb === "commit" && tag === "ROLLBACK";
      this.#scope = applyScopeChange(this.#scope, undone ? { ...change, verb: "rollback" } : change);
      if (change.kind === "transaction" && ends.has(change.verb)) this.#failed = false;
    }
  }

  /** It ran, and its result was withheld: whether the target counts it as done is not known. */
  uncertain(changes: readonly ScopeChange[]): void {
    if (changes.length > 0) this.lose("a statement whose result was withheld");
  }

  /** Any error of the target that the session survives: it has aborted the transaction, implicit ones too. */
  failed(): void {
    this.#failed = true;
  }

  /** ReadyForQuery: outside a transaction the implicit one has ended, too. */
  ready(state: TransactionState): void {
    if (state === "I") {
      if (this.#failed || this.undoable) {
        const verb = this.#failed ? "rollback" : "commit";
        this.#scope = applyScopeChange(this.#scope, { kind: "transaction", verb, name: "" });
      }
      this.#failed = false;
    } else if (state === "T" && this.#failed) {
      this.#failed = false;
      this.lose("an error that left its transaction alive");
    }
    this.#takeReported();
  }

  /** ParameterStatus: PostgreSQL 18 reports search_path before ReadyForQuery whenever it has changed. */
  reported(name: string, value: string): void {
    if (name === "search_path") this.#reportedPath = value;
  }

  lose(why: string): void {
    this.#scope = lostScope(this.#scope, why);
  }

  /** A protocol message takes a name that SQL may have made. */
  nameTaken(of: "statement" | "portal", name: string): void {
    const known = of === "statement" ? this.#scope.prepared : this.#scope.cursors;
    const hidden = of === "statement" && this.#scope.followed?.hidden.some((other) => other.name === name) === true;
    if (name === "" || !(Object.hasOwn(known, name) || hidden)) return;
    this.#scope = applyScopeChange(this.#scope, { kind: of === "statement" ? "deallocate" : "close", name });
  }

  /** The catalog is another one: of what was named under the former nothing is certain. */
  age(): void {
    this.#scope = unsureScope(this.#scope);
  }

  #matters(change: ScopeChange): boolean {
    if (change.kind !== "transaction") return true;
    switch (change.verb) {
      case "commit":
      case "rollback":
      case "rollback_to":
        return this.undoable || this.#failed;
      default:
        return false;
    }
  }

  #takeReported(): void {
    const path = this.#reportedPath;
    this.#reportedPath = undefined;
    const { followed, lost } = this.#scope;
    if (path === undefined || lost.length > 0) return;
    const known = followed?.local.path ?? followed?.kept.path ?? null;
    if (known !== null && sameList(known, path)) return;
    this.#scope = scopeWithReported(this.#scope, path);
  }
}

const ends: ReadonlySet<string> = new Set(["commit", "rollback", "rollback_to"]);

function sameList(a: string, b: string): boolean {
  return a === b || JSON.stringify(splitIdentifiers(a)) === JSON.stringify(splitIdentifiers(b));
}
