/**
 * What both directions of one session share: expected answers, names, holds, and the output that the driver drains. State and
 * the few operations that keep it whole; the decisions are in caller-side.ts and target-side.ts.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Judge } from "../judgement.ts";
import { AnswerQueue, type ExpectedAnswer, type SyncAnswer } from "./answers.ts";
import { flushMessage, syncMessage, type TransactionStatus } from "./messages.ts";
import { NameTable, type Portal, type PreparedStatement } from "./names.ts";

export type RelayAction =
  /** Get what the judge lacks, then call `resume`. */
  | { readonly kind: "analysisNeeded" }
  /** Ask the target to cancel what runs, then call `cancelSettled`, whether or not that worked. */
  | { readonly kind: "cancelTarget" }
  /** A result was not what the catalog made expect. */
  | { readonly kind: "catalogStale" }
  /** The session is over; what the caller is told is in `toCaller` already. Null: the caller said Terminate. */
  | { readonly kind: "end"; readonly error: GatewayError | null };

/** Appended to in order; the driver takes everything out after every call. */
export interface RelayOutput {
  readonly toCaller: Buffer[];
  readonly toTarget: Buffer[];
  readonly actions: RelayAction[];
}

/** Nothing is forwarded behind `answer` until it is done. */
export interface Hold {
  readonly answer: ExpectedAnswer;
  /** A Sync may follow; the hold then moves to that Sync. */
  readonly admitsSync: boolean;
}

export class RelayState {
  readonly judge: Judge;
  readonly limits: Limits;
  readonly output: RelayOutput = { toCaller: [], toTarget: [], actions: [] };
  readonly answers: AnswerQueue = new AnswerQueue();
  readonly statements: NameTable<PreparedStatement> = new NameTable();
  readonly portals: NameTable<Portal> = new NameTable();
  /** Counts Syncs that were forwarded. */
  segment = 0;
  /** Extended messages were forwarded and no Sync yet: an implicit transaction may be open. */
  segmentOpen = false;
  status: TransactionStatus = "I";
  /** The target ignores everything up to the next Sync, and so do we. */
  skipping = false;
  /** The target reads COPY data. */
  copyIn = false;
  /** A cancel is on its way: nothing may be forwarded that it could hit. */
  cancelling = false;
  /** The open transaction has touched protected data: a deferred check may speak of it. */
  touched = false;
  /** A statement's name was given up by SQL, and SQL may give it to another text. */
  nameGone = false;
  ended = false;
  #hold: Hold | null = null;
  #flushedBehind: ExpectedAnswer | null = null;

  constructor(judge: Judge, limits: Limits) {
    this.judge = judge;
    this.limits = limits;
  }

  toCaller(bytes: Buffer): void {
    append(this.output.toCaller, bytes);
  }

  toTarget(bytes: Buffer): void {
    append(this.output.toTarget, bytes);
  }

  act(action: RelayAction): void {
    this.output.actions.push(action);
  }

  end(error: GatewayError | null): void {
    if (this.ended) return;
    this.ended = true;
    this.act({ kind: "end", error });
  }

  get hold(): Hold | null {
    if (this.#hold?.answer.done === true) this.#hold = null;
    return this.#hold;
  }

  holdBehind(answer: ExpectedAnswer, admitsSync: boolean): void {
    this.#hold = { answer, admitsSync };
  }

  releaseHold(): void {
    this.#hold = null;
  }

  sendSync(failsTransaction: boolean): SyncAnswer {
    const answer: SyncAnswer = { kind: "sync", done: false, substitute: null, scrub: false, failsTransaction };
    this.toTarget(syncMessage);
    this.answers.push(answer);
    this.segment += 1;
    this.segmentOpen = false;
    this.skipping = false;
    return answer;
  }

  /** The target keeps the answers of extended messages to itself until Sync or Flush: makes it answer, once. */
  flushTarget(): void {
    const { last } = this.answers;
    if (last === undefined || last.kind === "query" || last.kind === "sync" || last === this.#flushedBehind) return;
    this.#flushedBehind = last;
    this.toTarget(flushMessage);
  }

  /** Every extended message the target will not answer any more, up to the next Sync. */
  skipToSync(): void {
    let syncFollows = false;
    for (let head = this.answers.head; head !== undefined && head.kind !== "sync"; head = this.answers.head) {
      this.answers.shift();
      if ((head.kind === "parse" || head.kind === "close") && head.statement !== null) this.statements.drop(head.statement);
      if ((head.kind === "bind" || head.kind === "close") && head.portal !== null) this.portals.drop(head.portal);
      if (head.kind === "execute" && head.syncFollows) syncFollows = true;
    }
    this.copyIn = false;
    if (this.answers.head !== undefined) return;
    if (syncFollows) this.holdBehind(this.sendSync(false), false);
    else this.skipping = true;
  }

  /** SQL that gave up or took names which protocol messages use as well. */
  followNames(tag: string): void {
    switch (tag) {
      case "DEALLOCATE":
        this.nameGone = true;
        return;
      case "PREPARE":
        if (!this.nameGone) return;
        this.nameGone = false;
        this.statements.forget("named");
        return;
      case "DEALLOCATE ALL":
        this.nameGone = false;
        this.statements.forget("named");
        return;
      case "DISCARD ALL":
        this.nameGone = false;
        this.statements.forget("all");
        this.portals.forget("all");
        return;
      case "DECLARE CURSOR":
        this.portals.forget("named");
        return;
      default:
    }
  }

  get idle(): boolean {
    return (
      this.answers.length === 0 && this.status === "I" && !this.segmentOpen && !this.skipping && !this.copyIn && !this.cancelling
    );
  }
}

/** Adjacent views of one memory become one view: fewer, larger writes, and no copy. */
function append(list: Buffer[], bytes: Buffer): void {
  if (bytes.length === 0) return;
  const last = list.at(-1);
  if (last !== undefined && last.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset) {
    list[list.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + bytes.length);
  } else {
    list.push(bytes);
  }
}
