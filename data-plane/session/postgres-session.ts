/**
 * One authenticated PostgreSQL session: moves bytes between the caller's socket, the machine and the target's stream, in order,
 * with back-pressure end to end. What goes to the caller is recorded first; in strict mode it also waits until it is durable.
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "@sluice/core/clock.ts";
import { type GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { encodeGatewayError } from "@sluice/inspect/wire/postgres/errors.ts";
import type { ReleasedBytes } from "@sluice/events/spool.ts";
import { PostgresRelay } from "@sluice/inspect/wire/postgres/relay.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { GatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import type { Logger } from "pino";
import type { SessionJudge } from "./judge.ts";
import type { LiveSession } from "./live-sessions.ts";
import type { SessionLog } from "./session-log.ts";

export interface PostgresSessionParts {
  readonly caller: Duplex;
  readonly target: TargetConnection;
  readonly judge: SessionJudge;
  readonly sessionLog: SessionLog;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics?: GatewayMetrics;
}

/** A caller that does not take its last bytes is cut off. Milliseconds. */
const GOODBYE_MS = 2_000;

/** From a delivered cancel to a backend that has heard of it and stopped, with room to spare. Milliseconds. */
const SETTLE_MS = 1_000;

interface Held {
  readonly released: ReleasedBytes;
  durable: boolean;
}

export class PostgresSession implements LiveSession {
  readonly #parts: PostgresSessionParts;
  readonly #relay: PostgresRelay;
  readonly #ended: Promise<string>;
  #resolveEnded: (code: string) => void = () => {};
  #endCode: string | undefined;
  /** Recorded but not yet durable, in order of release, and how many bytes that is. */
  readonly #held: Held[] = [];
  #unreleasedBytes = 0;
  /** Set while bytes to the target wait for their statement's record. */
  #forwardGate: Promise<void> | undefined;
  #analysing = false;
  #cancelling: "no" | "once" | "again" = "no";
  /** Cancels that are on their way to the target, and when the last one was delivered, in monotonic time. */
  #cancels = 0;
  #cancelledAtMs = Number.NEGATIVE_INFINITY;
  #targetGone = false;
  #pausedCaller = false;
  #pausedTarget = false;

  readonly #targetListeners: readonly (readonly [event: string, listener: (chunk: Buffer) => void])[] = [
    ["data", (chunk) => this.#feed(() => this.#relay.receiveFromTarget(chunk))],
    ["drain", () => this.#balance()],
    ...["end", "error", "close"].map((event) => [event, () => this.#feed(() => this.#relay.targetClosed())] as const),
  ];

  constructor(parts: PostgresSessionParts) {
    this.#parts = parts;
    this.#relay = new PostgresRelay(parts.judge, parts.limits);
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Runs until either side ends. Resolves with the code of the ending (`closed` for an ordinary one); both sides are destroyed by then. */
  run(early: Buffer): Promise<string> {
    const { caller } = this.#parts;
    const { stream } = this.#parts.target;
    caller.on("data", (chunk: Buffer) => this.#feed(() => this.#relay.receiveFromCaller(chunk)));
    caller.on("drain", () => this.#balance());
    caller.on("end", () => this.#end("caller_gone", null));
    caller.on("error", () => this.#end("caller_gone", null));
    caller.on("close", () => this.#end("caller_gone", null));
    for (const [event, listener] of this.#targetListeners) stream.on(event, listener);
    this.#parts.target.lendTo?.((bytes) => this.#feed(() => this.#relay.receiveFromTarget(bytes)));
    // Both were handed over paused.
    caller.resume();
    stream.resume();
    // What ended before anybody listened says so no more.
    if (caller.destroyed) this.#end("caller_gone", null);
    else if (stream.destroyed) this.#feed(() => this.#relay.targetClosed());
    if (early.length > 0) this.#feed(() => this.#relay.receiveFromCaller(early));
    else this.#balance();
    return this.#ended;
  }

  get id(): SessionId {
    return this.#parts.sessionLog.sessionId;
  }

  get strict(): boolean {
    return this.#parts.judge.strict;
  }

  /** The policy has changed: ends the session when what runs in it would not run like this any more. */
  reconsider(): void {
    if (this.#endCode !== undefined || !this.#relay.busy) return;
    const error = this.#parts.judge.reconsider();
    if (error !== null) this.terminate(error);
  }

  /** No statement is running and no transaction is open. */
  get idle(): boolean {
    return this.#relay.idle && !this.#analysing && this.#unreleasedBytes === 0;
  }

  /** Tells the caller why (FATAL) and ends. */
  terminate(error: GatewayError): void {
    this.#feed(() => this.#relay.terminate(error));
  }

  /**
   * The caller asked, with its key, to cancel what runs: at the target, or here while it waits to be analysed. One request at a time:
   * each is a connection to the target.
   */
  cancel(): void {
    if (this.#endCode !== undefined) return;
    if (!this.#relay.busy && this.#parts.judge.cancelPending()) return;
    if (this.#cancelling !== "no") {
      this.#cancelling = "again";
      return;
    }
    this.#cancelling = "once";
    // A statement that waits for its record must have been sent before it can be hit.
    (this.#forwardGate ?? Promise.resolve())
      .then(() => this.#cancelTarget())
      .catch((error: unknown) => this.#parts.log.debug({ err: error }, "a cancel request could not be delivered"))
      .finally(() => {
        const again = this.#cancelling === "again";
        this.#cancelling = "no";
        if (again) this.cancel();
      });
  }

  #feed(step: () => void): void {
    if (this.#endCode !== undefined) return;
    try {
      step();
      this.#drain();
    } catch (error) {
      this.#breakOff(toGatewayError(error));
    }
  }

  /** What the machines cannot go on with: the relay knows whether the caller can still be told. */
  #breakOff(error: GatewayError): void {
    if (error.code === "internal") this.#parts.log.error({ err: error.cause ?? error }, "a session ended by a fault");
    try {
      this.#relay.terminate(error);
      this.#drain();
    } catch (again) {
      this.#fail(toGatewayError(again));
    }
    this.#end(error.code, null);
  }

  /** Moves what the machine has produced to the sockets, then carries out what it asks for. */
  #drain(): void {
    const { output } = this.#relay;
    const toTarget = output.toTarget.splice(0);
    const toCaller = output.toCaller.splice(0);
    const actions = output.actions.splice(0);
    if (toTarget.length > 0) this.#forward(toTarget);
    if (toCaller.length > 0) this.#release(toCaller);
    this.#parts.sessionLog.settle();
    for (const action of actions) {
      switch (action.kind) {
        case "analysisNeeded":
          this.#analyse();
          break;
        case "cancelTarget":
          this.#cancelForLimit();
          break;
        case "catalogStale":
          break;
        case "end":
          if (action.error === null) this.#end("closed", null);
          else this.#end(action.error.code, null);
          break;
      }
    }
    if (this.#relay.idle) this.#parts.judge.transactionEnded();
    this.#balance();
  }

  #forward(buffers: Buffer[]): void {
    const { stream } = this.#parts.target;
    if (this.#parts.judge.takeMustBeDurable()) {
      // Both are waited for at once: a failure that nobody waits for yet would end the process.
      this.#chainForward(Promise.all([this.#forwardGate, this.#parts.sessionLog.durable()]), buffers);
    } else if (this.#forwardGate !== undefined) this.#chainForward(this.#forwardGate, buffers);
    else writeAll(stream, buffers);
  }

  #chainForward(gate: Promise<unknown>, buffers: Buffer[]): void {
    const next: Promise<void> = gate.then(
      () => {
        if (this.#endCode === undefined) writeAll(this.#parts.target.stream, buffers);
        if (this.#forwardGate === next) this.#forwardGate = undefined;
      },
      (error: unknown) => this.#fail(toGatewayError(error)),
    );
    this.#forwardGate = next;
  }

  #release(buffers: Buffer[]): void {
    const released = this.#parts.sessionLog.release(buffers);
    this.#parts.metrics?.released(released.bytes.length);
    if (!this.#parts.judge.strict && this.#unreleasedBytes === 0 && !this.#parts.sessionLog.crowded) this.#send(released);
    else this.#hold(released);
  }

  /** A socket says when it has read the bytes for the last time; another kind of stream may pass them on as they are. */
  #send(released: ReleasedBytes): void {
    const { caller } = this.#parts;
    if (caller instanceof Socket) caller.write(released.bytes, () => released.sent());
    else caller.write(released.bytes);
  }

  /** Keeps bytes back until they are durable. A crowded spool resolves later calls before earlier ones, so that order is kept here. */
  #hold(released: ReleasedBytes): void {
    const held: Held = { released, durable: false };
    this.#held.push(held);
    this.#unreleasedBytes += released.bytes.length;
    this.#parts.sessionLog.durable().then(
      () => {
        held.durable = true;
        this.#letGo();
      },
      (error: unknown) => this.#fail(toGatewayError(error)),
    );
  }

  /** Sends what is durable, up to the first that is not. */
  #letGo(): void {
    const { caller } = this.#parts;
    for (let first = this.#held[0]; first?.durable === true; first = this.#held[0]) {
      this.#held.shift();
      this.#unreleasedBytes -= first.released.bytes.length;
      if (!caller.destroyed) this.#send(first.released);
    }
    if (this.#endCode === undefined) this.#balance();
    else if (this.#unreleasedBytes === 0) this.#closeBoth();
  }

  #analyse(): void {
    if (this.#analysing) return;
    this.#analysing = true;
    void this.#parts.judge.resolvePending().then(() => {
      this.#analysing = false;
      this.#feed(() => this.#relay.resume());
    });
  }

  #cancelForLimit(): void {
    const settled = (): void => this.#feed(() => this.#relay.cancelSettled());
    this.#cancelTarget().then(settled, settled);
  }

  /** Every request for a cancel goes this way: the connection must not serve another session while one may still arrive. */
  async #cancelTarget(): Promise<void> {
    if (this.#targetGone) return;
    this.#cancels += 1;
    try {
      await this.#parts.target.cancel();
    } finally {
      this.#cancels -= 1;
      this.#cancelledAtMs = this.#parts.clock.monotonicMs();
    }
  }

  /** Reads from each side only while the other can take it. */
  #balance(): void {
    if (this.#endCode !== undefined) return;
    const { caller, limits, sessionLog } = this.#parts;
    const { stream } = this.#parts.target;
    // Many sessions that each stay below their bound can still be more than the disk takes: then one piece each is enough.
    const pauseTarget =
      caller.writableLength + this.#unreleasedBytes > limits.outboundBufferBytesMax ||
      (this.#unreleasedBytes > 0 && sessionLog.crowded);
    if (pauseTarget !== this.#pausedTarget) {
      this.#pausedTarget = pauseTarget;
      if (pauseTarget) stream.pause();
      else stream.resume();
    }
    const pauseCaller =
      !this.#relay.readsCaller || stream.writableLength > limits.outboundBufferBytesMax || this.#forwardGate !== undefined;
    if (pauseCaller !== this.#pausedCaller) {
      this.#pausedCaller = pauseCaller;
      if (pauseCaller) caller.pause();
      else caller.resume();
    }
    if (this.#forwardGate !== undefined) void this.#forwardGate.then(() => this.#balance());
  }

  /** A fault inside this session: the caller is told, both sides close. */
  #fail(error: GatewayError): void {
    if (this.#endCode !== undefined) return;
    if (error.code === "internal") this.#parts.log.error({ err: error.cause ?? error }, "a session ended by a fault");
    this.#end(error.code, encodeGatewayError(error, "FATAL"));
  }

  #end(code: string, lastWords: Buffer | null): void {
    if (this.#endCode !== undefined) return;
    this.#endCode = code;
    if (code !== "closed" && !this.#relay.idle) this.#abandon();
    else this.#parts.judge.transactionEnded();
    if ((code === "closed" || code === "caller_gone") && this.#canRelease) this.#releaseTarget();
    if (lastWords !== null && !this.#parts.caller.destroyed) this.#sayLast(lastWords);
    if (this.#unreleasedBytes === 0) this.#closeBoth();
    else setTimeout(() => this.#closeBoth(), GOODBYE_MS).unref();
  }

  /**
   * A target notices that nobody waits only when it answers: what runs for a caller that has vanished would run on. DDL among it may
   * even be committed, until the target has been told and has had time to stop.
   */
  #abandon(): void {
    const settled = (): void => void setTimeout(() => this.#parts.judge.transactionEnded(), SETTLE_MS).unref();
    this.#cancelTarget().then(settled, settled);
  }

  /** After what is still on its way to the disk; at once where the spool itself has failed (the sentence holds no data). */
  #sayLast(lastWords: Buffer): void {
    const { caller, sessionLog } = this.#parts;
    let released: ReleasedBytes;
    try {
      released = sessionLog.release([lastWords]);
    } catch {
      caller.write(lastWords);
      this.#closeBoth();
      return;
    }
    const held: Held = { released, durable: false };
    this.#held.push(held);
    this.#unreleasedBytes += lastWords.length;
    sessionLog.durable().then(
      () => {
        held.durable = true;
        this.#letGo();
      },
      () => {
        if (!caller.destroyed) caller.write(lastWords);
        this.#closeBoth();
      },
    );
  }

  /** Everything that was asked of the target is answered, and nothing is on its way there: another session may have it. */
  get #canRelease(): boolean {
    const { target, clock } = this.#parts;
    const cancelled = this.#cancels > 0 || this.#cancelling !== "no" || clock.monotonicMs() - this.#cancelledAtMs < SETTLE_MS;
    return (
      target.release !== undefined &&
      !target.stream.destroyed &&
      target.stream.writableLength === 0 &&
      this.#relay.idle &&
      this.#relay.targetAtBoundary &&
      this.#forwardGate === undefined &&
      !this.#analysing &&
      !cancelled
    );
  }

  #releaseTarget(): void {
    const { target } = this.#parts;
    this.#targetGone = true;
    target.stream.pause();
    target.lendTo?.(null);
    for (const [event, listener] of this.#targetListeners) target.stream.off(event, listener);
    target.release?.();
  }

  #closeBoth(): void {
    const { caller, target } = this.#parts;
    if (!this.#targetGone) target.stream.destroy();
    this.#targetGone = true;
    if (!caller.destroyed) {
      caller.end();
      setTimeout(() => caller.destroy(), GOODBYE_MS).unref();
    }
    this.#resolveEnded(this.#endCode ?? "closed");
  }
}

/** Pieces up to this are copied into one: cheaper than a further entry in a gathering write. Bytes. */
const JOINED_BYTES_MAX = 16 * 1024;

function writeAll(stream: Duplex, buffers: readonly Buffer[]): void {
  const [only] = buffers;
  if (only !== undefined && buffers.length === 1) {
    stream.write(only);
    return;
  }
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.length;
  if (bytes <= JOINED_BYTES_MAX) {
    stream.write(Buffer.concat(buffers, bytes));
    return;
  }
  stream.cork();
  for (const buffer of buffers) stream.write(buffer);
  stream.uncork();
}
