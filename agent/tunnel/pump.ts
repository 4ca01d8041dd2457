/**
 * Moves a session's bytes between gateway and target, both ways, as they come: no copy, no promise a chunk, and neither side is read
 * faster than the other takes. A long answer is gathered into larger writes. Takes part in nothing else; what an ending means is
 * decided by whoever started it.
 */
import type { Duplex } from "node:stream";

/** Which side ended first. `gatewayEnded`: it closed its side in order, and all it had sent has been written to the target. */
export type PumpEnd = "gatewayEnded" | "gatewayBroke" | "targetEnded" | "targetBroke";

/** Resolves when either side ends; by then nothing moves any more, and no listener of the pump is left on either stream. */
export async function pump(gateway: Duplex, target: Duplex): Promise<PumpEnd> {
  const { promise, resolve } = Promise.withResolvers<PumpEnd>();
  const listeners: readonly (readonly [stream: Duplex, event: string, end: PumpEnd])[] = [
    [gateway, "end", "gatewayEnded"],
    [gateway, "error", "gatewayBroke"],
    [gateway, "close", "gatewayBroke"],
    [target, "end", "targetEnded"],
    [target, "error", "targetBroke"],
    [target, "close", "targetBroke"],
  ];
  const attached = listeners.map(([stream, event, end]) => {
    const listener = (): void => finish(end);
    stream.on(event, listener);
    return (): void => void stream.off(event, listener);
  });
  let answers: Answers | undefined;
  const finish = (end: PumpEnd): void => {
    for (const detach of attached) detach();
    gateway.unpipe(target);
    answers?.stop();
    resolve(end);
  };
  // A stream that ended before this began says nothing any more.
  if (gateway.destroyed) finish("gatewayBroke");
  else if (target.destroyed) finish("targetBroke");
  else {
    answers = new Answers(gateway, target);
    gateway.pipe(target, { end: false });
    answers.start();
  }
  return await promise;
}

/** An answer of which this much came since the gateway last said something is a long one. Bytes. */
const LONG_BYTES = 128 * 1024;
/** In a long answer, a piece below this is its end or a pause. PostgreSQL sends 8 KiB at a time (`PQ_SEND_BUFFER_SIZE`). */
const FULL_BYTES = 8 * 1024;
/** Full pieces are gathered up to this: four TLS records, for the price of one write here and one read there. */
const GATHERED_BYTES = 64 * 1024;
/** Nothing waits longer for more to come. */
const GATHERED_MS = 1;
/** What a gateway that does not read may cost here, besides what its socket holds. Bytes. */
const UNSENT_BYTES_MAX = 128 * 1024;

/** From target to gateway. */
class Answers {
  readonly #gateway: Duplex;
  readonly #target: Duplex;
  #sinceQuestionBytes = 0;
  #gatheredBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(gateway: Duplex, target: Duplex) {
    this.#gateway = gateway;
    this.#target = target;
  }

  start(): void {
    this.#gateway.on("data", this.#onQuestion).on("drain", this.#onDrain);
    this.#target.on("data", this.#onAnswer);
    this.#target.resume();
  }

  stop(): void {
    this.#target.pause();
    this.#target.off("data", this.#onAnswer);
    this.#gateway.off("data", this.#onQuestion).off("drain", this.#onDrain);
    this.#letGo();
  }

  readonly #onQuestion = (): void => {
    this.#sinceQuestionBytes = 0;
  };

  readonly #onDrain = (): void => void this.#target.resume();

  readonly #onAnswer = (chunk: Buffer): void => {
    this.#sinceQuestionBytes += chunk.length;
    const mayWait = this.#sinceQuestionBytes > LONG_BYTES && chunk.length >= FULL_BYTES;
    if (mayWait && this.#gatheredBytes === 0) this.#gather();
    if (this.#gatheredBytes > 0 || mayWait) this.#gatheredBytes += chunk.length;
    this.#gateway.write(chunk);
    if (this.#gatheredBytes > 0 && (!mayWait || this.#gatheredBytes >= GATHERED_BYTES)) this.#letGo();
    // Later than the stream itself asks: a pause and its end cost a system call each.
    if (this.#gateway.writableLength >= UNSENT_BYTES_MAX && this.#gateway.writableNeedDrain) this.#target.pause();
  };

  #gather(): void {
    this.#gateway.cork();
    this.#timer = setTimeout(this.#letGo, GATHERED_MS);
  }

  readonly #letGo = (): void => {
    if (this.#gatheredBytes === 0) return;
    this.#gatheredBytes = 0;
    clearTimeout(this.#timer);
    this.#gateway.uncork();
  };
}
