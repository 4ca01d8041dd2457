/**
 * The few framed messages at the beginning of a session connection: protobuf with four bytes of length before it (big endian).
 * After the agent's answer the connection carries the target's bytes as they are. Sans-IO: bytes in, one message out.
 */
import { type DescMessage, fromBinary, type MessageInitShape, type MessageShape, create, toBinary } from "@bufbuild/protobuf";
import { GatewayError } from "@sluice/core/errors.ts";

/** A binding is under 100 bytes, an answer a few KiB of parameters. */
export const SESSION_FRAME_BYTES_MAX: number = 256 * 1024;
const LENGTH_BYTES = 4;

export function encodeSessionFrame<Message extends DescMessage>(message: Message, value: MessageInitShape<Message>): Buffer {
  const body = toBinary(message, create(message, value));
  const frame = Buffer.alloc(LENGTH_BYTES + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, LENGTH_BYTES);
  return frame;
}

/** Collects chunks until one message is whole. Discard after it throws or has given one. */
export class SessionFrameDecoder<Message extends DescMessage> {
  readonly #message: Message;
  #received: Buffer = Buffer.alloc(0);

  constructor(message: Message) {
    this.#message = message;
  }

  /** Undefined while more is needed; `rest` is what came behind the message. Throws `protocol_violation`. */
  push(chunk: Buffer): { readonly value: MessageShape<Message>; readonly rest: Buffer } | undefined {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    if (this.#received.length < LENGTH_BYTES) return undefined;
    const length = this.#received.readUInt32BE(0);
    if (length > SESSION_FRAME_BYTES_MAX) throw violated();
    if (this.#received.length < LENGTH_BYTES + length) return undefined;
    try {
      const value = fromBinary(this.#message, this.#received.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
      return { value, rest: this.#received.subarray(LENGTH_BYTES + length) };
    } catch (cause) {
      throw violated(cause);
    }
  }
}

function violated(cause?: unknown): GatewayError {
  return new GatewayError("protocol_violation", "The other node sent something on a session connection that is not understood.", {
    cause,
  });
}
