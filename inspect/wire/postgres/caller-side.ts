/**
 * Messages from the caller: each is judged or known to need no judgement before anything of it is forwarded. A message that must
 * wait (for a judgement, or for what was forwarded before it) is not consumed. Spec: PostgreSQL documentation, "Message Flow".
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { BoundValue, Judgement, Refusal, StatementRequest } from "../judgement.ts";
import { type DescribeAnswer, newQuery } from "./answers.ts";
import { encodeRefusal } from "./errors.ts";
import type { Frame } from "./frames.ts";
import {
  decodeText,
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeQuery,
  formatOf,
  fromCaller,
  readBind,
  readExecute,
  readNamedTarget,
  readParse,
  readQuery,
} from "./messages.ts";
import type { NameChange, NameTable, Portal, PreparedStatement } from "./names.ts";
import {
  callerFault,
  failingText,
  functionCallRefused,
  notUtf8,
  RESERVED_NAME,
  refusalOf,
  reservedName,
  tooMany,
  unknownName,
} from "./refusals.ts";
import type { RelayState } from "./relay-state.ts";
import { newRun, settles, translateQuery, unnamedGone } from "./simple-query.ts";

/** A Bind's bytes below this are copied, so that a portal does not keep a whole socket read alive. */
const COPIED_BIND_BYTES_MAX = 4096;
type Taken = "taken" | "blocked";

export class CallerSide {
  readonly #state: RelayState;
  #asked = false;

  constructor(state: RelayState) {
    this.#state = state;
  }

  /** A judgement is being waited for. */
  get asked(): boolean {
    return this.#asked;
  }

  /** The judge may be asked again. */
  resume(): void {
    this.#asked = false;
  }

  /** Handles one message; `blocked`: give it again later. Throws `protocol_violation`. */
  take(frame: Frame): Taken {
    const state = this.#state;
    const { type } = frame;
    if (type === fromCaller.terminate) return this.#terminate();
    if (state.skipping) return this.#takeSkipping(type);
    if (state.cancelling) return "blocked";
    if (state.copyIn) return this.#takeCopying(frame);
    if (state.hold !== null && type !== fromCaller.flush && !(type === fromCaller.sync && state.hold.admitsSync)) {
      state.flushTarget();
      return "blocked";
    }
    return this.#takeReady(frame);
  }

  /** Whether the body of a CopyData that begins now is forwarded, dropped as the target itself would, or must wait. */
  takeCopyData(): "forward" | "drop" | "blocked" {
    const state = this.#state;
    if (state.skipping) return "drop";
    if (state.copyIn) return state.cancelling ? "blocked" : "forward";
    if (state.hold !== null) {
      state.flushTarget();
      return "blocked";
    }
    return "drop";
  }

  #takeSkipping(type: number): Taken {
    if (type === fromCaller.sync) this.#state.sendSync(false);
    else if (!isKnown(type)) throw unknownMessage();
    return "taken";
  }

  /** The target reads COPY data: it ignores Sync and Flush. Anything else would make it fail in a way we do not model. */
  #takeCopying(frame: Frame): Taken {
    const state = this.#state;
    if (frame.type === fromCaller.sync || frame.type === fromCaller.flush) return "taken";
    if (frame.type !== fromCaller.copyDone && frame.type !== fromCaller.copyFail)
      throw callerFault("A message came that has no place among COPY data.");
    state.copyIn = false;
    state.toTarget(frame.bytes);
    return "taken";
  }

  #takeReady(frame: Frame): Taken {
    const state = this.#state;
    switch (frame.type) {
      case fromCaller.query:
        return this.#query(frame);
      case fromCaller.parse:
        return this.#parse(frame);
      case fromCaller.bind:
        return this.#bind(frame);
      case fromCaller.describe:
        return this.#describe(frame);
      case fromCaller.execute:
        return this.#execute(frame);
      case fromCaller.close:
        return this.#close(frame);
      case fromCaller.sync:
        this.#sync();
        return "taken";
      case fromCaller.flush:
        state.toTarget(frame.bytes);
        return "taken";
      case fromCaller.functionCall:
        return this.#functionCall();
      case fromCaller.copyDone:
      case fromCaller.copyFail:
        return "taken";
      default:
        throw unknownMessage();
    }
  }

  /** What was forwarded before it runs first, as with a direct connection. */
  #terminate(): Taken {
    const state = this.#state;
    if (state.answers.length > 0 && !state.copyIn) {
      state.flushTarget();
      return "blocked";
    }
    state.end(null);
    return "taken";
  }

  #sync(): void {
    const held = this.#state.hold !== null || this.#endsUndoable();
    const sync = this.#state.sendSync(false);
    if (held) this.#state.holdBehind(sync, false);
  }

  #query(frame: Frame): Taken {
    const state = this.#state;
    if (this.#waitsForSegment()) return "blocked";
    const bytes = readQuery(frame.body);
    const text = decodeText(bytes);
    const judgement = text === null ? refusalOf(notUtf8()) : this.#judge({ phase: "query", text, parameters: [] });
    if (judgement === "pending") return "blocked";
    if (judgement.kind === "refuse") {
      this.#refuseQuery(judgement);
      return "taken";
    }
    state.segmentOpen = false;
    const { statements, scrub } = judgement;
    const only = statements.length === 1 ? statements[0]! : null;
    if (only !== null && only.copy === "none" && (scrub || only.undoWhenExceeded)) {
      translateQuery(state, judgement, text!, bytes);
      return "taken";
    }
    const run = newRun(judgement, null);
    const { statement, portal } = unnamedGone(state);
    state.toTarget(frame.bytes);
    state.answers.push({ ...newQuery(null, run), scrub, statement, portal });
    const holds =
      settles(judgement, text!) || this.#endsUndoable() || statements.some((plan) => plan.rowsMax !== null || plan.copy === "in");
    if (holds) state.holdBehind(state.answers.last!, false);
    return "taken";
  }

  #refuseQuery(refusal: Refusal): void {
    const state = this.#state;
    state.segmentOpen = false;
    state.toTarget(encodeQuery(failingText(refusal)));
    state.answers.push(newQuery(encodeRefusal(refusal), null));
  }

  /** Answered like a Query: an error, then ReadyForQuery. */
  #functionCall(): Taken {
    if (this.#waitsForSegment()) return "blocked";
    this.#refuseQuery(refusalOf(functionCallRefused()));
    return "taken";
  }

  #parse(frame: Frame): Taken {
    const state = this.#state;
    const { name, text: bytes, parameterTypes } = readParse(frame.body);
    const text = decodeText(bytes);
    const judgement = this.#judgeParse(name, text);
    if (judgement === "pending") return "blocked";
    state.segmentOpen = true;
    const common = { kind: "parse", done: false, scrub: false, swallowed: false } as const;
    if (judgement.kind === "refuse") {
      state.toTarget(encodeParse(name === RESERVED_NAME ? "" : name, Buffer.from(failingText(judgement))));
      state.answers.push({ ...common, substitute: encodeRefusal(judgement), statement: null });
      return "taken";
    }
    const statement: PreparedStatement = {
      name,
      text: text!,
      scrub: judgement.scrub,
      parameterTypes,
      names: state.judge.names,
      fields: undefined,
    };
    const change: NameChange<PreparedStatement> = { name, value: statement, segment: state.segment };
    state.statements.propose(change);
    state.judge.nameTaken?.("statement", name);
    state.toTarget(frame.bytes);
    state.toTarget(encodeDescribe("S", name));
    state.answers.push({ ...common, substitute: null, statement: change });
    state.answers.push({ kind: "describe", done: false, substitute: null, scrub: judgement.scrub, purpose: "learn", statement });
    return "taken";
  }

  #judgeParse(name: string, text: string | null): Judgement | "pending" {
    const { statements, limits } = this.#state;
    if (text === null) return refusalOf(notUtf8());
    if (name === RESERVED_NAME) return refusalOf(reservedName());
    if (statements.isFull(limits.preparedStatementsMax) && !statements.has(name))
      return refusalOf(tooMany("statements", limits.preparedStatementsMax));
    return this.#judge({ phase: "parse", text, parameters: [] });
  }

  #bind(frame: Frame): Taken {
    const state = this.#state;
    const kept = frame.body.length <= COPIED_BIND_BYTES_MAX ? Buffer.from(frame.body) : frame.body;
    const bind = readBind(kept);
    const resolved = state.statements.resolve(bind.statement, state.segment);
    if (resolved.kind === "unsettled") return "blocked";
    state.segmentOpen = true;
    const refused = this.#refusedBind(bind.portal, bind.statement, resolved.kind === "unknown");
    if (refused !== null || resolved.kind === "unknown") {
      state.toTarget(encodeBind("", RESERVED_NAME));
      state.answers.push({ kind: "bind", done: false, substitute: refused, scrub: false, portal: null, swallowed: false });
      return "taken";
    }
    const { parameterFormats, parameters, resultFormats } = bind;
    const portal: Portal = {
      statement: resolved.value,
      parameterFormats,
      parameters,
      resultFormats,
      names: state.judge.names,
      rows: 0,
    };
    const change: NameChange<Portal> = { name: bind.portal, value: portal, segment: state.segment };
    state.portals.propose(change);
    state.judge.nameTaken?.("portal", bind.portal);
    state.toTarget(frame.bytes);
    const { scrub } = resolved.value;
    state.answers.push({ kind: "bind", done: false, substitute: null, scrub, portal: change, swallowed: false });
    return "taken";
  }

  #refusedBind(portal: string, statement: string, unknown: boolean): Buffer | null {
    const { portals, limits } = this.#state;
    if (unknown) return unknownName("statement", statement);
    if (portal === RESERVED_NAME) return encodeRefusal(refusalOf(reservedName()));
    if (portals.isFull(limits.portalsMax) && !portals.has(portal))
      return encodeRefusal(refusalOf(tooMany("portals", limits.portalsMax)));
    return null;
  }

  #describe(frame: Frame): Taken {
    const state = this.#state;
    const { of, name } = readNamedTarget(frame.body);
    const table: NameTable<PreparedStatement> | NameTable<Portal> = of === "statement" ? state.statements : state.portals;
    const resolved = table.resolve(name, state.segment);
    if (resolved.kind === "unsettled") return "blocked";
    state.segmentOpen = true;
    const answer: Omit<DescribeAnswer, "substitute" | "scrub"> = {
      kind: "describe",
      done: false,
      purpose: "caller",
      statement: null,
    };
    // A portal that SQL made (DECLARE) is the target's to describe: the answer names columns and holds no row.
    if (resolved.kind === "unknown" && of === "portal" && name !== RESERVED_NAME) {
      state.toTarget(frame.bytes);
      state.answers.push({ ...answer, substitute: null, scrub: false });
      return "taken";
    }
    if (resolved.kind === "unknown") {
      state.toTarget(encodeDescribe(of === "statement" ? "S" : "P", RESERVED_NAME));
      state.answers.push({ ...answer, substitute: unknownName(of, name), scrub: false });
      return "taken";
    }
    const { scrub } = "statement" in resolved.value ? resolved.value.statement : resolved.value;
    state.toTarget(frame.bytes);
    state.answers.push({ ...answer, substitute: null, scrub });
    return "taken";
  }

  #execute(frame: Frame): Taken {
    const state = this.#state;
    const name = readExecute(frame.body);
    const resolved = state.portals.resolve(name, state.segment);
    if (resolved.kind === "unsettled") return "blocked";
    if (resolved.kind === "unknown") {
      this.#failExecute(unknownName("portal", name));
      return "taken";
    }
    const portal = resolved.value;
    const { text } = portal.statement;
    const { names } = portal;
    const judgement = this.#judge({
      phase: "execute",
      text,
      parameters: boundValues(portal),
      ...(names === undefined ? {} : { names }),
    });
    if (judgement === "pending") return "blocked";
    if (judgement.kind === "refuse") {
      this.#failExecute(encodeRefusal(judgement));
      return "taken";
    }
    state.segmentOpen = true;
    const run = newRun(judgement, portal);
    state.toTarget(frame.bytes);
    state.answers.push({ kind: "execute", done: false, substitute: null, scrub: judgement.scrub, run, syncFollows: false });
    const plan = judgement.statements[0];
    const copiesIn = plan?.copy === "in";
    // What is known to return nothing cannot break a limit on rows.
    const limited = plan !== undefined && plan.rowsMax !== null && (portal.statement.fields !== null || plan.copy === "out");
    if (copiesIn || limited || settles(judgement, text))
      state.holdBehind(state.answers.last!, !copiesIn && !(limited && plan.undoWhenExceeded));
    return "taken";
  }

  #failExecute(substitute: Buffer): void {
    this.#state.segmentOpen = true;
    this.#state.toTarget(encodeExecute(RESERVED_NAME));
    this.#state.answers.push({ kind: "execute", done: false, substitute, scrub: false, run: null, syncFollows: false });
  }

  #close(frame: Frame): Taken {
    const state = this.#state;
    const { of, name } = readNamedTarget(frame.body);
    const change = { name, value: null, segment: state.segment };
    if (of === "statement") state.statements.propose(change);
    else state.portals.propose(change);
    state.judge.nameTaken?.(of, name);
    state.segmentOpen = true;
    state.toTarget(frame.bytes);
    state.answers.push({
      kind: "close",
      done: false,
      substitute: null,
      scrub: false,
      statement: of === "statement" ? change : null,
      portal: of === "portal" ? change : null,
    });
    return "taken";
  }

  /** What is sent now may end an implicit transaction that has changed what names mean. */
  #endsUndoable(): boolean {
    const { judge, status } = this.#state;
    return judge.undoable === true && status !== "T";
  }

  /** A Query behind extended messages without a Sync: whether it runs at all depends on their answers. */
  #waitsForSegment(): boolean {
    const { last } = this.#state.answers;
    if (last === undefined || last.kind === "query" || last.kind === "sync") return false;
    this.#state.flushTarget();
    return true;
  }

  #judge(request: StatementRequest): Judgement | "pending" {
    const judgement = this.#state.judge.judge(request);
    if (judgement === "pending") {
      this.#asked = true;
      this.#state.act({ kind: "analysisNeeded" });
    }
    return judgement;
  }
}

function boundValues(portal: Portal): BoundValue[] {
  const { parameters, parameterFormats, statement } = portal;
  return parameters.map((bytes, index) => ({
    typeOid: statement.parameterTypes[index] ?? 0,
    format: parameterFormats.length > 1 && parameterFormats[index] === undefined ? "text" : formatOf(parameterFormats, index),
    bytes,
  }));
}

const knownTypes: ReadonlySet<number> = new Set(Object.values(fromCaller));

function isKnown(type: number): boolean {
  return knownTypes.has(type);
}

function unknownMessage(): GatewayError {
  return callerFault("A message of a kind came that has no place in a session.");
}
