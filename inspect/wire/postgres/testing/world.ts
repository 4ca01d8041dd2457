/**
 * A caller, the relay and a scripted server, with every pace between them chosen by the test: where chunks are split, when the
 * server works, when an analysis or a cancel is done. Runs until nothing moves any more.
 */
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type {
  BoundValue,
  ColumnPlan,
  CopyPlan,
  FieldDescription,
  Judge,
  Judgement,
  Permission,
  StatementOutcome,
  StatementRequest,
} from "../../judgement.ts";
import { cstring, encodeMessage, FrameReader, int16, int32 } from "../frames.ts";
import { PostgresRelay } from "../relay.ts";
import { readErrorFields } from "../messages.ts";
import { ScriptedServer } from "./scripted-server.ts";

export interface Rule {
  readonly refuse?: boolean;
  readonly rowsMax?: number;
  readonly undo?: boolean;
  readonly scrub?: boolean;
  readonly mask?: (text: string) => ColumnPlan;
  /** How rows of COPY OUT are edited. */
  readonly copy?: CopyPlan;
  /** The described columns are not what was judged. */
  readonly misfit?: boolean;
  readonly pendingFirst?: boolean;
}

/** Judges the toy language of the scripted server; each text by the rule a test gives. */
export class TestJudge implements Judge {
  readonly asked: StatementRequest[] = [];
  readonly outcomes: (StatementOutcome & { readonly text: string })[] = [];
  readonly taken: string[] = [];
  readonly #rule: (text: string) => Rule;
  readonly #resolved = new Set<string>();
  readonly #texts = new WeakMap<Permission, string>();
  notificationsClear = true;

  constructor(rule: (text: string) => Rule = () => ({})) {
    this.#rule = rule;
  }

  judge(request: StatementRequest): Judgement | "pending" {
    const { text } = request;
    const rule = this.#rule(text);
    if (rule.pendingFirst === true && !this.#resolved.has(text)) {
      this.#resolved.add(text);
      return "pending";
    }
    this.asked.push({ ...request, parameters: request.parameters.map((value: BoundValue) => ({ ...value })) });
    if (rule.refuse === true) {
      return { kind: "refuse", code: "denied", message: "no", detail: '{"code":"denied","decision":"d_1"}', hint: "ask" };
    }
    const statements = text.split(";").filter((part) => part.trim() !== "");
    const permission: Permission = {
      kind: "permit",
      scrub: rule.scrub ?? false,
      statements: statements.map((statement) => ({
        rowsMax: rule.rowsMax ?? null,
        undoWhenExceeded: rule.undo ?? false,
        copy: statement.trim() === "copyin" ? "in" : statement.trim().startsWith("copyout") ? "out" : "none",
        planCopy: (): CopyPlan | null => {
          if (rule.misfit === true) throw new GatewayError("denied", "The result is not what was judged.");
          return rule.copy ?? null;
        },
        planColumns: (_fields: readonly FieldDescription[]): ColumnPlan => {
          if (rule.misfit === true) throw new GatewayError("denied", "The result is not what was judged.");
          return rule.mask === undefined ? null : rule.mask(statement.trim());
        },
      })),
    };
    this.#texts.set(permission, text);
    return permission;
  }

  nameTaken(of: "statement" | "portal", name: string): void {
    this.taken.push(`${of} ${name}`);
  }

  finished(permission: Permission, _index: number, outcome: StatementOutcome): void {
    this.outcomes.push({ ...outcome, text: this.#texts.get(permission)! });
  }
}

/** What to do next of what can be done: a number below `choices`. */
export type Scheduler = (choices: number) => number;

export const eager: Scheduler = () => 0;

/** A fixed sequence of choices, repeated. */
export function sequence(numbers: readonly number[]): Scheduler {
  let at = 0;
  return (choices) => (numbers.length === 0 ? 0 : numbers[at++ % numbers.length]! % choices);
}

export class World {
  readonly server: ScriptedServer = new ScriptedServer();
  readonly judge: TestJudge;
  readonly relay: PostgresRelay;
  readonly #received: Buffer[] = [];
  ended: GatewayError | null | undefined = undefined;
  thrown: GatewayError | undefined = undefined;
  cancels = 0;
  #toRelay: Buffer = Buffer.alloc(0);
  #fromServer: Buffer = Buffer.alloc(0);
  #analysing = false;
  #cancelling = false;

  constructor(judge: TestJudge = new TestJudge(), limits: Partial<Limits> = {}) {
    this.judge = judge;
    this.relay = new PostgresRelay(judge, { ...defaultLimits, ...limits });
  }

  /** Sends and runs until nothing moves. Returns what the caller has received since the last call, decoded. */
  run(bytes: Buffer, scheduler: Scheduler = eager): string[] {
    return describeFrames(this.runForBytes(bytes, scheduler));
  }

  runForBytes(bytes: Buffer, scheduler: Scheduler = eager): Buffer {
    this.#toRelay = Buffer.concat([this.#toRelay, bytes]);
    for (let steps = 0; this.#step(scheduler); steps++) if (steps > 200_000) throw new Error("the session never comes to rest");
    return this.receivedBytes();
  }

  received(): string[] {
    return describeFrames(this.receivedBytes());
  }

  receivedBytes(): Buffer {
    const bytes = Buffer.concat(this.#received);
    this.#received.length = 0;
    return bytes;
  }

  /** Runs one relay call as a driver does. */
  drive(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      this.thrown = error;
      this.relay.terminate(error);
    }
    const { output } = this.relay;
    for (const bytes of output.toTarget.splice(0)) this.server.receive(bytes);
    for (const bytes of output.toCaller.splice(0)) this.#received.push(Buffer.from(bytes)); // as the session does: it is written to again
    for (const action of output.actions.splice(0)) {
      if (action.kind === "end") this.ended = action.error;
      if (action.kind === "analysisNeeded") this.#analysing = true;
      if (action.kind === "cancelTarget") {
        this.#cancelling = true;
        this.cancels += 1;
      }
    }
  }

  #step(scheduler: Scheduler): boolean {
    if (this.ended !== undefined) return false;
    const moves: (() => boolean)[] = [];
    if (this.#cancelling) moves.push(() => this.#deliverCancel());
    if (this.#analysing) moves.push(() => this.#deliverAnalysis());
    if (this.#toRelay.length > 0 && this.relay.readsCaller) moves.push(() => this.#callerChunk(scheduler));
    if (this.#fromServer.length > 0) moves.push(() => this.#serverChunk(scheduler));
    if (moves.length > 0 && scheduler(2) === 0) return moves[scheduler(moves.length)]!();
    if (this.server.step()) {
      this.#fromServer = Buffer.concat([this.#fromServer, this.server.take()]);
      return true;
    }
    return moves.length > 0 ? moves[scheduler(moves.length)]!() : false;
  }

  #deliverCancel(): boolean {
    this.#cancelling = false;
    this.server.cancel();
    this.drive(() => this.relay.cancelSettled());
    return true;
  }

  #deliverAnalysis(): boolean {
    this.#analysing = false;
    this.drive(() => this.relay.resume());
    return true;
  }

  #callerChunk(scheduler: Scheduler): boolean {
    const size = chunkSize(this.#toRelay.length, scheduler);
    const chunk = Buffer.from(this.#toRelay.subarray(0, size));
    this.#toRelay = this.#toRelay.subarray(size);
    this.drive(() => this.relay.receiveFromCaller(chunk));
    return true;
  }

  #serverChunk(scheduler: Scheduler): boolean {
    const size = chunkSize(this.#fromServer.length, scheduler);
    const chunk = Buffer.from(this.#fromServer.subarray(0, size));
    this.#fromServer = this.#fromServer.subarray(size);
    this.drive(() => this.relay.receiveFromTarget(chunk));
    chunk.fill(GARBAGE); // the memory of reads is used again
    return true;
  }
}

/** A byte that is no type of a message, and as a length an impossible one. */
const GARBAGE = 0xee;

/** The same bytes to a server without a gateway. */
export function direct(bytes: Buffer): { readonly received: string[]; readonly server: ScriptedServer } {
  const server = new ScriptedServer();
  server.receive(bytes);
  while (server.step());
  return { received: describeFrames(server.take()), server };
}

/** 0: everything at once; else a few bytes. */
function chunkSize(available: number, scheduler: Scheduler): number {
  const wish = scheduler(24);
  return wish === 0 ? available : Math.min(wish, available);
}

/** One short text a message: type, then what matters of it. */
export function describeFrames(bytes: Buffer): string[] {
  const reader = new FrameReader(1 << 30);
  reader.push(bytes);
  const frames: string[] = [];
  for (let frame = reader.next(); frame !== null; frame = reader.next()) {
    const type = String.fromCharCode(frame.type);
    if (type === "E" || type === "N") frames.push(`${type} ${describeError(frame.body)}`);
    else if (type === "D") frames.push(`D ${frame.body.subarray(6).toString()}`);
    else if (type === "C") frames.push(`C ${frame.body.subarray(0, -1).toString()}`);
    else if (type === "Z" || type === "d") frames.push(`${type} ${frame.body.toString()}`);
    else frames.push(type);
  }
  if (!reader.empty) throw new Error("the caller was left with part of a message");
  return frames;
}

function describeError(body: Buffer): string {
  const fields = readErrorFields(body);
  return `${fields.get("S") === "FATAL" ? "FATAL " : ""}${fields.get("C")}`;
}

interface CallerMessages {
  readonly query: (text: string) => Buffer;
  readonly parse: (name: string, text: string) => Buffer;
  readonly bind: (portal: string, statement: string) => Buffer;
  readonly describe: (of: "S" | "P", name: string) => Buffer;
  readonly execute: (portal: string, rowsMax?: number) => Buffer;
  readonly close: (of: "S" | "P", name: string) => Buffer;
  readonly copyData: (text: string) => Buffer;
  readonly sync: Buffer;
  readonly flush: Buffer;
  readonly copyDone: Buffer;
  readonly copyFail: Buffer;
  readonly terminate: Buffer;
  readonly functionCall: Buffer;
}

export const caller: CallerMessages = {
  query: (text: string): Buffer => encodeMessage("Q", [cstring(text)]),
  parse: (name: string, text: string): Buffer => encodeMessage("P", [cstring(name), cstring(text), int16(0)]),
  bind: (portal: string, statement: string): Buffer =>
    encodeMessage("B", [cstring(portal), cstring(statement), int16(0), int16(0), int16(0)]),
  describe: (of: "S" | "P", name: string): Buffer => encodeMessage("D", [Buffer.from(of), cstring(name)]),
  execute: (portal: string, rowsMax = 0): Buffer => encodeMessage("E", [cstring(portal), int32(rowsMax)]),
  close: (of: "S" | "P", name: string): Buffer => encodeMessage("C", [Buffer.from(of), cstring(name)]),
  sync: encodeMessage("S", []),
  flush: encodeMessage("H", []),
  copyData: (text: string): Buffer => encodeMessage("d", [Buffer.from(text)]),
  copyDone: encodeMessage("c", []),
  copyFail: encodeMessage("f", [cstring("stop")]),
  terminate: encodeMessage("X", []),
  functionCall: encodeMessage("F", [int32(1), int16(0), int16(0), int16(0)]),
};

/** Prepare, bind, execute of the unnamed statement, and Sync. */
export function extended(text: string, rowsMax = 0): Buffer {
  return Buffer.concat([caller.parse("", text), caller.bind("", ""), caller.execute("", rowsMax), caller.sync]);
}
