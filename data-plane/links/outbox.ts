/** Messages on their way to one peer, in order, bounded: what does not fit is refused, nothing is dropped. One reader. */

export class Outbox<Message> implements AsyncIterable<Message> {
  readonly #max: number;
  readonly #waiting: Message[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(max: number) {
    this.#max = max;
  }

  /** False when it is full or has ended: the message will not be sent. */
  push(message: Message): boolean {
    if (this.#ended || this.#waiting.length >= this.#max) return false;
    this.#waiting.push(message);
    this.#wake?.();
    return true;
  }

  /** What waits is still given to the reader, then its loop ends. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Message, void, undefined> {
    for (;;) {
      // All at once: taking them off the front one by one would cost the square of a long queue.
      for (const message of this.#waiting.splice(0)) yield message;
      if (this.#waiting.length > 0) continue;
      if (this.#ended) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
