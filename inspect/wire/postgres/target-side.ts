/**
 * Messages from the target, matched to the head of the expected answers. It decides for each what the caller gets: the same
 * bytes, an edited row, the gateway's own error in its place, or nothing. What fits no expectation ends the session.
 * Spec: PostgreSQL documentation, "Message Flow".
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { ColumnPlan, StatementPlan } from "../judgement.ts";
import {
  type DescribeAnswer,
  type ExecuteAnswer,
  type ExpectedAnswer,
  newQuery,
  type QueryAnswer,
  type Run,
  type SyncAnswer,
} from "./answers.ts";
import { CopyRows } from "./copy-rows.ts";
import { encodeMessage, type Frame, cstring } from "./frames.ts";
import {
  encodeBind,
  encodeQuery,
  formatOf,
  fromTarget,
  readCopyResponse,
  readErrorFields,
  readParameterStatus,
  readParameterDescription,
  readRowDescription,
  readTag,
  readTransactionStatus,
} from "./messages.ts";
import { asError, limitReached, RESERVED_NAME, rowTooLarge, targetFault } from "./refusals.ts";
import type { RelayState } from "./relay-state.ts";
import { planOf, releasedRows, unexpected } from "./running.ts";
import { type RowMode, RowWalker } from "./row-walker.ts";
import { isWithheld, releasedNotice, releasedNotification, releasedStatus } from "./target-texts.ts";
import { scrubbed } from "./scrub.ts";

const SWALLOW: RowMode = { kind: "swallow" };

export class TargetSide {
  readonly #state: RelayState;
  readonly #walker: RowWalker;

  constructor(state: RelayState) {
    this.#state = state;
    this.#walker = new RowWalker(
      {
        control: (frame) => this.#control(frame),
        beginRows: (type) => this.#beginRows(type),
        rowsExceeded: () => this.#rowsExceeded(),
        rowTooLarge: () => this.#break(this.#runningHead(), rowTooLarge(state.limits.editedRowBytesMax)),
        release: (bytes) => state.toCaller(bytes),
      },
      state.limits,
    );
  }

  get insideReleasedRow(): boolean {
    return this.#walker.insideReleasedRow;
  }

  get atBoundary(): boolean {
    return this.#walker.atBoundary;
  }

  push(chunk: Buffer): void {
    this.#walker.push(chunk);
  }

  // rows

  #beginRows(type: number): RowMode {
    const head = this.#state.answers.head;
    if ((head?.kind !== "query" && head?.kind !== "execute") || head.run === null)
      throw targetFault("rows that nobody asked for");
    const { run } = head;
    if (run.broken !== null) return SWALLOW;
    const plan = planOf(run);
    const rowsLeft = plan.rowsMax === null ? Infinity : plan.rowsMax - releasedRows(run);
    if (type === fromTarget.copyData) {
      if (!run.copyOut) throw targetFault("COPY data that nobody asked for");
      return run.copyRows === null ? { kind: "release", edits: null, rowsLeft } : { kind: "copy", copy: run.copyRows, rowsLeft };
    }
    if (run.copyOut) throw targetFault("rows among COPY data");
    const edits = head.kind === "query" ? run.edits : this.#portalEdits(run, plan);
    if (edits === undefined) {
      if (head.kind === "query") throw targetFault("rows without a description");
      return SWALLOW;
    }
    return { kind: "release", edits, rowsLeft };
  }

  /** How a portal's columns are edited. Undefined: the plan failed, and the result is broken. */
  #portalEdits(run: Run, plan: StatementPlan): ColumnPlan | undefined {
    const portal = run.portal!;
    const { fields } = portal.statement;
    if (fields === undefined || fields === null) throw targetFault("rows of a statement that has none");
    if (portal.columns?.plan === plan) return portal.columns.edits;
    // Read anew under other names, the same text may return other relations' columns than were described.
    const stale = portal.statement.names?.meaning !== portal.names?.meaning;
    const shaped = fields.map((field, index) => ({
      ...field,
      ...(stale ? { tableOid: 0, columnNumber: 0 } : {}),
      format: formatOf(portal.resultFormats, index),
    }));
    const edits = this.#plan(run, () => plan.planColumns(shaped));
    if (edits !== undefined) portal.columns = { plan, edits };
    return edits;
  }

  /** Undefined: the plan failed, and the result is broken. */
  #plan<Plan>(run: Run, make: () => Plan): Plan | undefined {
    try {
      return make();
    } catch (thrown) {
      if (!(thrown instanceof GatewayError)) throw thrown;
      this.#state.act({ kind: "catalogStale" });
      this.#break(run, toGatewayError(thrown));
      return undefined;
    }
  }

  #rowsExceeded(): void {
    const run = this.#runningHead();
    this.#countRows();
    this.#break(run, limitReached(run, planOf(run).rowsMax ?? 0));
  }

  /** Nothing more of this result is released; the target is asked to stop. */
  #break(run: Run, error: GatewayError): void {
    if (run.broken !== null) return;
    run.broken = error;
    this.#state.cancelling = true;
    this.#state.act({ kind: "cancelTarget" });
  }

  #runningHead(): Run {
    const head = this.#state.answers.head;
    if ((head?.kind !== "query" && head?.kind !== "execute") || head.run === null)
      throw targetFault("rows that nobody asked for");
    return head.run;
  }

  #countRows(): void {
    const rows = this.#walker.takeRows();
    if (rows > 0) this.#runningHead().rows += rows;
  }

  // control messages

  #control(frame: Frame): void {
    this.#countRows();
    const state = this.#state;
    switch (frame.type) {
      case fromTarget.notice:
        state.toCaller(releasedNotice(state, frame));
        return;
      case fromTarget.parameterStatus:
        state.judge.reported?.(...readParameterStatus(frame.body));
        state.toCaller(releasedStatus(state, frame));
        return;
      case fromTarget.notification:
        state.toCaller(releasedNotification(state, frame));
        return;
      case fromTarget.error:
        return this.#error(frame);
      default:
        return this.#answer(frame);
    }
  }

  #answer(frame: Frame): void {
    const { head } = this.#state.answers;
    if (head === undefined) throw targetFault("an answer to nothing");
    if (head.substitute !== null && !(head.kind === "query" && head.failed))
      throw targetFault("success of a message that always fails");
    switch (head.kind) {
      case "query":
        return this.#queryAnswer(head, frame);
      case "execute":
        return this.#executeAnswer(head, frame);
      case "describe":
        return this.#describeAnswer(head, frame);
      case "sync":
        if (frame.type !== fromTarget.readyForQuery) throw unexpected(head, frame);
        return this.#ready(head, frame);
      case "parse":
        return this.#confirm(head, frame, fromTarget.parseComplete, head.swallowed);
      case "bind":
        return this.#confirm(head, frame, fromTarget.bindComplete, head.swallowed);
      case "close":
        return this.#confirm(head, frame, fromTarget.closeComplete, false);
      default:
        return assertNever(head);
    }
  }

  #confirm(head: ExpectedAnswer, frame: Frame, wanted: number, swallowed: boolean): void {
    const state = this.#state;
    if (frame.type !== wanted) throw unexpected(head, frame);
    state.answers.shift();
    if ((head.kind === "parse" || head.kind === "close") && head.statement !== null) state.statements.confirm(head.statement);
    if ((head.kind === "bind" || head.kind === "close") && head.portal !== null) state.portals.confirm(head.portal);
    if (!swallowed) state.toCaller(frame.bytes);
  }

  #describeAnswer(head: DescribeAnswer, frame: Frame): void {
    const { statement, purpose } = head;
    switch (frame.type) {
      case fromTarget.parameterDescription:
        if (purpose === "caller") this.#state.toCaller(frame.bytes);
        else if (purpose === "learn") statement!.parameterTypes = readParameterDescription(frame.body);
        else throw unexpected(head, frame);
        return;
      case fromTarget.rowDescription:
        if (statement !== null) statement.fields = readRowDescription(frame.body);
        if (purpose !== "learn") this.#state.toCaller(frame.bytes);
        break;
      case fromTarget.noData:
        if (statement !== null) statement.fields = null;
        if (purpose === "caller") this.#state.toCaller(frame.bytes);
        break;
      default:
        throw unexpected(head, frame);
    }
    this.#state.answers.shift();
  }

  #queryAnswer(head: QueryAnswer, frame: Frame): void {
    const state = this.#state;
    if (frame.type === fromTarget.readyForQuery) return this.#ready(head, frame);
    const { run } = head;
    if (run === null) throw unexpected(head, frame);
    switch (frame.type) {
      case fromTarget.emptyQuery:
        if (run.broken === null) state.toCaller(frame.bytes);
        return;
      case fromTarget.rowDescription: {
        if (run.broken !== null) return;
        const plan = planOf(run);
        const fields = readRowDescription(frame.body);
        run.edits = this.#plan(run, () => plan.planColumns(fields));
        if (run.broken === null) state.toCaller(frame.bytes);
        return;
      }
      case fromTarget.commandComplete:
        this.#completed(run, readTag(frame.body));
        if (run.broken === null) state.toCaller(frame.bytes);
        else this.#tell(run);
        run.index += 1;
        run.rows = 0;
        run.edits = undefined;
        return;
      default:
        return this.#copyAnswer(head, run, frame);
    }
  }

  #executeAnswer(head: ExecuteAnswer, frame: Frame): void {
    const state = this.#state;
    const { run } = head;
    if (run === null) throw unexpected(head, frame);
    switch (frame.type) {
      case fromTarget.emptyQuery:
      case fromTarget.commandComplete:
      case fromTarget.portalSuspended:
        break;
      default:
        return this.#copyAnswer(head, run, frame);
    }
    if (frame.type === fromTarget.commandComplete) this.#completed(run, readTag(frame.body));
    else if (run.broken !== null) this.#failed(run, "");
    else if (frame.type === fromTarget.portalSuspended) state.judge.suspended?.(run.permission, run.index);
    run.portal!.rows += run.rows;
    run.rows = 0;
    state.answers.shift();
    if (run.broken !== null) {
      this.#failSegment(head, run.broken);
      return;
    }
    state.toCaller(frame.bytes);
    if (head.syncFollows) state.holdBehind(state.sendSync(false), false);
  }

  #copyAnswer(head: QueryAnswer | ExecuteAnswer, run: Run, frame: Frame): void {
    const state = this.#state;
    switch (frame.type) {
      case fromTarget.copyIn:
        if (planOf(run).copy !== "in") throw unexpected(head, frame);
        if (run.broken !== null) {
          state.toTarget(encodeMessage("f", [cstring("the result before it was withheld")]));
          return;
        }
        state.copyIn = true;
        // A Query may hold further COPY statements: what follows this one's data still waits for the answer.
        if (head.kind === "execute") state.releaseHold();
        break;
      case fromTarget.copyOut:
        this.#beginCopyOut(head, run, frame);
        break;
      case fromTarget.copyDone:
        if (!run.copyOut) throw unexpected(head, frame);
        run.copyOut = false;
        if (run.broken === null) run.copyRows?.finish();
        break;
      default:
        throw unexpected(head, frame);
    }
    if (run.broken === null) state.toCaller(frame.bytes);
  }

  #beginCopyOut(head: QueryAnswer | ExecuteAnswer, run: Run, frame: Frame): void {
    const plan = planOf(run);
    if (plan.copy !== "out" || plan.planCopy === undefined || run.copyOut) throw unexpected(head, frame);
    const { columns, binary } = readCopyResponse(frame.body);
    run.copyOut = true;
    run.copyRows = null;
    if (run.broken !== null) return;
    const copy = this.#plan(run, () => plan.planCopy!(columns, binary)); // just checked
    if (copy) run.copyRows = new CopyRows(copy, columns, this.#state.limits.editedRowBytesMax);
  }

  /** One statement has run to its end. */
  #completed(run: Run, tag: string): void {
    const state = this.#state;
    const { permission, index } = run;
    planOf(run);
    run.copyOut = false;
    state.copyIn = false;
    if (permission.scrub) state.touched = true;
    state.followNames(tag);
    const rows = releasedRows(run);
    state.judge.finished(permission, index, { ok: run.broken === null, tag: run.broken === null ? tag : "53400", rows });
  }

  // endings

  /** A broken result has come to an end that the target thinks is a good one: the transaction must fail all the same. */
  #failSegment(head: ExecuteAnswer, error: GatewayError): void {
    const state = this.#state;
    const next = state.answers.head;
    if (next === undefined) {
      state.toTarget(encodeBind("", RESERVED_NAME));
      state.answers.push({ kind: "bind", done: false, substitute: asError(error), scrub: false, portal: null, swallowed: false });
      if (head.syncFollows) state.holdBehind(state.sendSync(false), false);
      else state.flushTarget();
      return;
    }
    // What was forwarded behind it has run by now, and the caller would take its answers for those of a failed segment.
    if (next.kind !== "sync") throw error;
    next.failsTransaction = true;
    state.toCaller(asError(error));
  }

  #tell(run: Run): void {
    if (run.broken === null || run.brokenTold) return;
    run.brokenTold = true;
    this.#state.toCaller(asError(run.broken));
  }

  #ready(head: QueryAnswer | SyncAnswer, frame: Frame): void {
    const state = this.#state;
    if (head.kind === "query" && head.substitute !== null && !head.failed) throw unexpected(head, frame);
    state.answers.shift();
    if (head.kind === "query") {
      if (head.statement !== null) state.statements.confirm(head.statement);
      if (head.portal !== null) state.portals.confirm(head.portal);
    }
    state.status = readTransactionStatus(frame.body);
    state.judge.ready?.(state.status);
    state.copyIn = false;
    if (state.status === "I") {
      state.touched = false;
      state.portals.forget("all");
    }
    const run = head.kind === "query" ? head.run : null;
    if (run !== null) this.#tell(run);
    const mustFail = head.kind === "sync" ? head.failsTransaction : run !== null && run.broken !== null;
    if (mustFail && state.status === "T") this.#failTransaction();
    else state.toCaller(frame.bytes);
  }

  /** The caller was told of an error, so it gets the ReadyForQuery of a failed transaction. */
  #failTransaction(): void {
    const state = this.#state;
    if (state.answers.length > 0)
      throw new GatewayError("limit_reached", "A result was cut off while later statements were already on their way.", {
        hint: "The session ends, so that the transaction is undone. Send statements one at a time.",
      });
    const answer = newQuery(null, null);
    state.toTarget(encodeQuery("sluice_refused"));
    state.answers.push(answer);
    state.holdBehind(answer, false);
  }

  // texts

  #error(frame: Frame): void {
    const state = this.#state;
    const fields = readErrorFields(frame.body);
    const { head } = state.answers;
    const severity = fields.get("V") ?? fields.get("S");
    if (severity === "FATAL" || severity === "PANIC") {
      state.toCaller(isWithheld(state, head, fields) ? scrubbed("E", fields) : frame.bytes);
      state.end(new GatewayError("target_closed", "The database ended the session."));
      return;
    }
    if (head === undefined) throw targetFault("an error of nothing");
    state.judge.failed?.();
    const told = this.#errorFor(head, frame, fields);
    if (told !== null) state.toCaller(told);
    if (head.kind === "query") {
      head.failed = true;
      state.copyIn = false;
    } else if (head.kind !== "sync") {
      state.skipToSync();
    }
  }

  /** What the caller is told; null: nothing, because it was told already or must not know. */
  #errorFor(head: ExpectedAnswer, frame: Frame, fields: ReadonlyMap<string, string>): Buffer | null {
    if (head.substitute !== null) return head.kind === "query" && head.failed ? null : head.substitute;
    if (head.kind === "sync" && head.failsTransaction) return null;
    if (head.kind === "query" && head.failsTransaction) return null;
    const withheld = isWithheld(this.#state, head, fields);
    if ((head.kind === "query" || head.kind === "execute") && head.run !== null) {
      const { run } = head;
      run.copyOut = false;
      if (run.permission.scrub) this.#state.touched = true;
      this.#failed(run, fields.get("C") ?? "");
      if (run.broken !== null) {
        const told = run.brokenTold ? null : asError(run.broken);
        run.brokenTold = true;
        return told;
      }
    }
    return withheld ? scrubbed("E", fields) : frame.bytes;
  }

  #failed(run: Run, sqlState: string): void {
    const { permission, index } = run;
    if (index >= permission.statements.length) return;
    const tag = run.broken === null ? sqlState : "53400";
    this.#state.judge.finished(permission, index, { ok: false, tag, rows: releasedRows(run) });
  }
}
