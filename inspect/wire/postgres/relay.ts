/**
 * One PostgreSQL session between caller and target, from after authentication to the end. Sans-IO: bytes in, bytes and actions
 * out. It forwards no statement for which the judge has not returned a permission, and releases no row whose columns were not
 * planned. Spec: PostgreSQL documentation, "Frontend/Backend Protocol".
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Judge } from "../judgement.ts";
import { CallerSide } from "./caller-side.ts";
import { encodeGatewayError } from "./errors.ts";
import { type Frame, FrameReader } from "./frames.ts";
import { fromCaller } from "./messages.ts";
import { type RelayOutput, RelayState } from "./relay-state.ts";
import { TargetSide } from "./target-side.ts";

export type { RelayAction, RelayOutput } from "./relay-state.ts";

/** PostgreSQL's own bound on one message; CopyData is streamed, so that nothing of this size is held. */
const COPY_DATA_BYTES_MAX = 1024 * 1024 * 1024;

export class PostgresRelay {
  readonly #state: RelayState;
  readonly #caller: CallerSide;
  readonly #target: TargetSide;
  readonly #reader: FrameReader;
  /** A message that could not be handled yet. */
  #waiting: Frame | null = null;
  /** A CopyData whose header was read: what of its body is still to come, and whether it is forwarded (null: to be settled). */
  #copyHeader: Buffer | null = null;
  #copyLeft = 0;
  #copyForwards = false;

  constructor(judge: Judge, limits: Limits) {
    this.#state = new RelayState(judge, limits);
    this.#caller = new CallerSide(this.#state);
    this.#target = new TargetSide(this.#state);
    this.#reader = new FrameReader(limits.callerFrameBytesMax);
  }

  /** Taken out (spliced) by the driver after every call, also after one that threw. */
  get output(): RelayOutput {
    return this.#state.output;
  }

  /** Throws GatewayError (`protocol_violation`, `frame_too_large` and what the other direction throws); then call `terminate` with it. */
  receiveFromCaller(chunk: Buffer): void {
    if (this.#state.ended) return;
    this.#reader.push(chunk);
    this.#pump();
  }

  /**
   * What is put out for the caller may view `chunk`, or memory that the next call writes to: copy it before either changes. Nothing else
   * is kept of `chunk`. Throws GatewayError (`target_protocol`, `denied`, `limit_reached`); then call `terminate` with it.
   */
  receiveFromTarget(chunk: Buffer): void {
    if (this.#state.ended) return;
    this.#target.push(chunk);
    this.#pump();
  }

  /** The judge has what it lacked: the pending judgement is asked again. */
  resume(): void {
    this.#caller.resume();
    this.#pump();
  }

  /** The cancel asked for by `cancelTarget` has been delivered, or could not be. */
  cancelSettled(): void {
    this.#state.cancelling = false;
    this.#pump();
  }

  /** The target's side is gone: the caller is told, and the session ends. */
  targetClosed(): void {
    this.terminate(
      new GatewayError("target_closed", "The database closed the connection in the middle of the session.", {
        hint: "Connect again. What was not committed is lost.",
      }),
    );
  }

  /** Ends the session with a FATAL error for the caller (left out in the middle of a row, where it would be read as data). Idempotent. */
  terminate(error: GatewayError): void {
    if (this.#state.ended) return;
    if (!this.#target.insideReleasedRow) this.#state.toCaller(encodeGatewayError(error, "FATAL"));
    this.#state.end(error);
  }

  /** False: nothing more from the caller can be handled now, so its socket should not be read. */
  get readsCaller(): boolean {
    return !this.#state.ended && this.#waiting === null && this.#copyHeader === null && !this.#full && !this.#caller.asked;
  }

  /** Nothing is outstanding and no transaction is open. */
  get idle(): boolean {
    return this.#state.idle && this.#waiting === null && this.#copyLeft === 0 && this.#reader.empty;
  }

  /** The target owes an answer: something of this session runs there, or may. */
  get busy(): boolean {
    return this.#state.answers.length > 0;
  }

  /** Nothing of a message of the target is still to come. */
  get targetAtBoundary(): boolean {
    return this.#target.atBoundary;
  }

  get #full(): boolean {
    return this.#state.answers.length >= this.#state.limits.pipelineDepthMax;
  }

  /** Handles what has come from the caller, as far as it may go on. */
  #pump(): void {
    while (!this.#state.ended && !this.#full && !this.#caller.asked) {
      const moved = this.#inCopyData() ? this.#pumpCopyData() : this.#pumpFrame();
      if (!moved) return;
    }
    // The target may keep its answers until it is asked for them, and whoever asks stands behind the bound.
    if (!this.#state.ended && this.#full) this.#state.flushTarget();
  }

  #inCopyData(): boolean {
    if (this.#waiting !== null) return false;
    return this.#copyLeft > 0 || this.#copyHeader !== null || this.#reader.peekType() === fromCaller.copyData;
  }

  #pumpFrame(): boolean {
    const frame = this.#waiting ?? this.#reader.next();
    if (frame === null) return false;
    this.#waiting = frame;
    if (this.#caller.take(frame) === "blocked") return false;
    this.#waiting = null;
    return true;
  }

  #pumpCopyData(): boolean {
    if (this.#copyLeft === 0 && this.#copyHeader === null) {
      const head = this.#reader.takeHeader();
      if (head === null) return false;
      if (head.bodyBytes > COPY_DATA_BYTES_MAX)
        throw new GatewayError("frame_too_large", "A COPY message is larger than PostgreSQL accepts.");
      this.#copyHeader = head.header;
      this.#copyLeft = head.bodyBytes;
    }
    if (this.#copyHeader !== null) {
      const verdict = this.#caller.takeCopyData();
      if (verdict === "blocked") return false;
      this.#copyForwards = verdict === "forward";
      if (this.#copyForwards) this.#state.toTarget(this.#copyHeader);
      this.#copyHeader = null;
      if (this.#copyLeft === 0) return true;
    }
    const piece = this.#reader.takeStreamed(this.#copyLeft);
    if (piece === null) return false;
    this.#copyLeft -= piece.length;
    if (this.#copyForwards) this.#state.toTarget(piece);
    return true;
  }
}
