/**
 * What the target still owes: one entry for each forwarded message that it answers, in order. The head says how to read the
 * next message from the target. It knows nothing of sockets and makes no decision.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { ColumnPlan, Permission } from "../judgement.ts";
import type { CopyRows } from "./copy-rows.ts";
import type { NameChange, Portal, PreparedStatement } from "./names.ts";

interface Common {
  /** Set when the target has answered it, or will not because it skipped it. */
  done: boolean;
  /** The gateway sent a message that always fails, and answers the caller with this in place of the target's error. */
  readonly substitute: Buffer | null;
  /** Texts of errors and notices that belong to it are withheld. */
  readonly scrub: boolean;
}

export interface QueryAnswer extends Common {
  readonly kind: "query";
  /** The unnamed statement and portal go away. */
  readonly statement: NameChange<PreparedStatement> | null;
  readonly portal: NameChange<Portal> | null;
  readonly run: Run | null;
  /** Sent by the gateway to fail a transaction: its error is swallowed. */
  readonly failsTransaction: boolean;
  /** The error was passed on, or swapped for the substitute. */
  failed: boolean;
}

export interface ParseAnswer extends Common {
  readonly kind: "parse";
  readonly statement: NameChange<PreparedStatement> | null;
  /** Sent by the gateway: the caller gets no ParseComplete. */
  readonly swallowed: boolean;
}

export interface BindAnswer extends Common {
  readonly kind: "bind";
  readonly portal: NameChange<Portal> | null;
  readonly swallowed: boolean;
}

export interface CloseAnswer extends Common {
  readonly kind: "close";
  readonly statement: NameChange<PreparedStatement> | null;
  readonly portal: NameChange<Portal> | null;
}

export interface DescribeAnswer extends Common {
  readonly kind: "describe";
  /**
   * caller: the answer is for the caller. learn: the gateway's own after a Parse, stored and swallowed. translate: the portal of a
   * simple Query, of which the caller sees the RowDescription alone.
   */
  readonly purpose: "caller" | "learn" | "translate";
  readonly statement: PreparedStatement | null;
}

export interface ExecuteAnswer extends Common {
  readonly kind: "execute";
  readonly run: Run | null;
  /** Of a translated Query whose Sync is held back until its limit is known to be kept. */
  readonly syncFollows: boolean;
}

export interface SyncAnswer extends Common {
  readonly kind: "sync";
  /** A limit was broken before it: a transaction that is still open must fail. */
  failsTransaction: boolean;
}

export type ExpectedAnswer = QueryAnswer | ParseAnswer | BindAnswer | CloseAnswer | DescribeAnswer | ExecuteAnswer | SyncAnswer;

/** A text that runs: a simple Query or one Execute of a portal. */
export interface Run {
  readonly permission: Permission;
  /** The portal, for an Execute; a simple Query that was translated has one too. */
  readonly portal: Portal | null;
  /** The statement of the text that is running. */
  index: number;
  /** Rows released: of the statement, or over all Executes of the portal. */
  rows: number;
  /** Why nothing more of this result is released. */
  broken: GatewayError | null;
  /** The caller has been told. */
  brokenTold: boolean;
  /** How a simple Query's rows are edited; undefined until they are described. An Execute's are the portal's. */
  edits: ColumnPlan | undefined;
  /** COPY OUT is flowing. */
  copyOut: boolean;
  /** How its rows are edited and counted; null: they pass as they are. */
  copyRows: CopyRows | null;
}

/** A simple Query's answer; with `substitute` one that always fails, with neither that nor `run` the gateway's own failing one. */
export function newQuery(substitute: Buffer | null, run: Run | null): QueryAnswer {
  const failsTransaction = substitute === null && run === null;
  return {
    kind: "query",
    done: false,
    substitute,
    scrub: false,
    statement: null,
    portal: null,
    run,
    failsTransaction,
    failed: false,
  };
}

/** A first-in first-out queue whose head moves instead of the elements. */
export class AnswerQueue {
  #entries: (ExpectedAnswer | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#entries.length - this.#head;
  }

  get head(): ExpectedAnswer | undefined {
    return this.#entries[this.#head];
  }

  get last(): ExpectedAnswer | undefined {
    return this.length === 0 ? undefined : this.#entries.at(-1);
  }

  push(entry: ExpectedAnswer): void {
    this.#entries.push(entry);
  }

  /** Takes the head off and marks it done. */
  shift(): ExpectedAnswer {
    const entry = this.#entries[this.#head];
    if (entry === undefined) throw new Error("no answer is expected");
    entry.done = true;
    this.#entries[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }
}
