/**
 * Reads sockets into one piece of memory that is used again for every read, of every socket: a fresh buffer for each read makes V8
 * collect the whole heap several times a second under bulk results. Bytes are lent for the time of one call, or copied for the
 * stream's listeners. Order is that of arrival, whoever gets them.
 */
import type { OnReadOpts, Socket } from "node:net";

/** What takes bytes for the time of the call alone. */
export type TakeBytes = (bytes: Buffer) => void;

/** Large enough for few reads of a bulk result, small enough to stay in the processor's cache. */
const READ_BYTES = 128 * 1024;
/** Shared: between a read and the end of its callback nothing else is read. */
let memory: Buffer | undefined;

export class LentReads {
  #socket: Socket | undefined;
  #take: TakeBytes | null = null;

  /** For the socket's `onread` option. */
  get option(): OnReadOpts {
    memory ??= Buffer.alloc(READ_BYTES);
    return { buffer: memory, callback: (count, bytes) => this.#receive(Buffer.from(bytes.buffer, bytes.byteOffset, count)) };
  }

  /** The socket that was made with the option. */
  attach(socket: Socket): void {
    this.#socket = socket;
  }

  lendTo(take: TakeBytes | null): void {
    this.#take = take;
  }

  /** False: the socket is read no further until somebody asks for more. */
  #receive(bytes: Buffer): boolean {
    const socket = this.#socket;
    if (socket === undefined) throw new Error("a socket was read before it was known");
    if (this.#take === null || socket.readableLength > 0) return socket.push(Buffer.from(bytes));
    this.#take(bytes);
    return true;
  }
}
