/**
 * PostgreSQL frames: one type byte, a big-endian length that counts itself, a body. Sans-IO, both directions.
 * For control messages only; rows and COPY data take the chunk walker. Spec: PostgreSQL documentation, "Message Formats".
 */
import { GatewayError } from "@sluice/core/errors.ts";

export interface Frame {
  /** ASCII code of the message type. */
  readonly type: number;
  /** Body without type and length; a view into the received chunk, valid until the next `push`. */
  readonly body: Buffer;
  /** The whole frame as it came, for forwarding unchanged. */
  readonly bytes: Buffer;
}

const HEADER_BYTES = 5;
const EMPTY = Buffer.alloc(0);

/** Cuts a byte stream into whole frames. Discard after it throws. */
export class FrameReader {
  #pending: Buffer = EMPTY;
  readonly #frameBytesMax: number;

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  push(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
  }

  /** The next whole frame, or null until more bytes come. Throws `frame_too_large` before buffering, `protocol_violation` on a bad length. */
  next(): Frame | null {
    const pending = this.#pending;
    if (pending.length < HEADER_BYTES) return null;
    const length = pending.readUInt32BE(1);
    if (length < 4) throw new GatewayError("protocol_violation", "A message declared an impossible length.");
    const frameBytes = length + 1;
    if (frameBytes > this.#frameBytesMax)
      throw new GatewayError("frame_too_large", "A message is larger than this gateway accepts.");
    if (pending.length < frameBytes) return null;
    this.#pending = pending.subarray(frameBytes);
    return { type: pending[0]!, body: pending.subarray(HEADER_BYTES, frameBytes), bytes: pending.subarray(0, frameBytes) };
  }

  /** Bytes that are not a whole frame yet. */
  get rest(): Buffer {
    return this.#pending;
  }
}

/** Reads a body's fields in order. Throws `protocol_violation` when the body is shorter than its fields. */
export class BodyReader {
  #at = 0;
  readonly #body: Buffer;

  constructor(body: Buffer) {
    this.#body = body;
  }

  byte(): number {
    return this.#take(1)[0]!;
  }

  int16(): number {
    return this.#take(2).readInt16BE(0);
  }

  int32(): number {
    return this.#take(4).readInt32BE(0);
  }

  uint32(): number {
    return this.#take(4).readUInt32BE(0);
  }

  bytes(count: number): Buffer {
    return this.#take(count);
  }

  /** A NUL-terminated string, without the NUL, as bytes. */
  cstringBytes(): Buffer {
    const end = this.#body.indexOf(0, this.#at);
    if (end < 0) throw new GatewayError("protocol_violation", "A message holds a string without an end.");
    const value = this.#body.subarray(this.#at, end);
    this.#at = end + 1;
    return value;
  }

  cstring(): string {
    return this.cstringBytes().toString("utf8");
  }

  get remaining(): number {
    return this.#body.length - this.#at;
  }

  /** Throws unless every byte was read: trailing bytes are never ignored. */
  end(): void {
    if (this.remaining !== 0) throw new GatewayError("protocol_violation", "A message is longer than its fields.");
  }

  #take(count: number): Buffer {
    if (count < 0 || this.remaining < count)
      throw new GatewayError("protocol_violation", "A message is shorter than its fields.");
    const value = this.#body.subarray(this.#at, this.#at + count);
    this.#at += count;
    return value;
  }
}

/** Builds one message. `type` is a single ASCII character, or null for the untyped start-up messages. */
export function encodeMessage(type: string | null, parts: readonly Buffer[]): Buffer {
  const bodyBytes = parts.reduce((sum, part) => sum + part.length, 0);
  const headBytes = type === null ? 4 : 5;
  const message = Buffer.allocUnsafe(headBytes + bodyBytes);
  if (type !== null) message[0] = type.charCodeAt(0);
  message.writeUInt32BE(bodyBytes + 4, headBytes - 4);
  let at = headBytes;
  for (const part of parts) at += part.copy(message, at);
  return message;
}

export function int16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeInt16BE(value, 0);
  return bytes;
}

export function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value, 0);
  return bytes;
}

/** A NUL-terminated UTF-8 string. The caller guarantees that `text` holds no NUL. */
export function cstring(text: string): Buffer {
  return Buffer.from(`${text}\0`, "utf8");
}
