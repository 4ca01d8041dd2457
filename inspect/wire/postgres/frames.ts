/**
 * PostgreSQL frames: one type byte, a big-endian length that counts itself, a body. Sans-IO, both directions.
 * For control messages only; rows and COPY data take the chunk walkers. It never overwrites memory it has handed out, so a
 * frame may be forwarded or kept after later pushes. Spec: PostgreSQL documentation, "Message Formats".
 */
import { GatewayError } from "@sluice/core/errors.ts";

export interface Frame {
  /** ASCII code of the message type. */
  readonly type: number;
  /** Body without type and length; a view into received bytes. */
  readonly body: Buffer;
  /** The whole frame as it came, for forwarding unchanged. */
  readonly bytes: Buffer;
}

export const HEADER_BYTES = 5;
const EMPTY = Buffer.alloc(0);
/** First allocation for a frame that comes in pieces; it doubles from here, so a declared length alone reserves nothing. */
const FIRST_PIECE_BYTES = 4096;

/** Cuts a byte stream into whole frames. A frame inside one chunk is a view; one that spans chunks is copied once. Discard after it throws. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #partial: Buffer = EMPTY;
  #partialBytes = 0;
  readonly #frameBytesMax: number;

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  push(chunk: Buffer): void {
    if (chunk.length > 0) this.#chunks.push(chunk);
  }

  /** The next whole frame, or null until more bytes come. Throws `frame_too_large` before buffering, `protocol_violation` on a bad length. */
  next(): Frame | null {
    if (this.#partialBytes === 0) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) return null;
      if (chunk.length >= HEADER_BYTES) {
        const frameBytes = this.#frameBytes(chunk);
        if (chunk.length >= frameBytes) {
          this.#drop(frameBytes);
          return frameOf(chunk.subarray(0, frameBytes));
        }
      }
    }
    if (!this.#gather(HEADER_BYTES)) return null;
    const frameBytes = this.#frameBytes(this.#partial);
    if (!this.#gather(frameBytes)) return null;
    const bytes = this.#partial.subarray(0, frameBytes);
    this.#partial = EMPTY;
    this.#partialBytes = 0;
    return frameOf(bytes);
  }

  /** Type byte of the frame that is next, or null while nothing of it has come. */
  peekType(): number | null {
    if (this.#partialBytes > 0) return this.#partial[0]!;
    return this.#chunks[0]?.[0] ?? null;
  }

  /**
   * For message types that are streamed instead of gathered: takes the next frame's header alone. Returns the body's length in
   * bytes and the five header bytes, or null until they are there. The body then comes from `takeStreamed`.
   */
  takeHeader(): { readonly header: Buffer; readonly bodyBytes: number } | null {
    const chunk = this.#chunks[0];
    let header: Buffer;
    if (this.#partialBytes === 0 && chunk !== undefined && chunk.length >= HEADER_BYTES) {
      header = chunk.subarray(0, HEADER_BYTES);
      this.#drop(HEADER_BYTES);
    } else {
      if (!this.#gather(HEADER_BYTES)) return null;
      header = this.#partial.subarray(0, HEADER_BYTES);
      this.#partial = EMPTY;
      this.#partialBytes = 0;
    }
    return { header, bodyBytes: declaredLength(header) - 4 };
  }

  /** Up to `bytesMax` bytes that have come, as one view; null when there are none. Only after `takeHeader`. */
  takeStreamed(bytesMax: number): Buffer | null {
    const chunk = this.#chunks[0];
    if (chunk === undefined) return null;
    const piece = chunk.length <= bytesMax ? chunk : chunk.subarray(0, bytesMax);
    this.#drop(piece.length);
    return piece;
  }

  /** Bytes that are not a whole frame yet. */
  get rest(): Buffer {
    return Buffer.concat([this.#partial.subarray(0, this.#partialBytes), ...this.#chunks]);
  }

  get empty(): boolean {
    return this.#partialBytes === 0 && this.#chunks.length === 0;
  }

  #frameBytes(head: Buffer): number {
    const frameBytes = declaredLength(head) + 1;
    if (frameBytes > this.#frameBytesMax) {
      throw new GatewayError("frame_too_large", "A message is larger than this gateway accepts.", {
        hint: `A single message may have up to ${this.#frameBytesMax} bytes; send large values by COPY or in parts.`,
      });
    }
    return frameBytes;
  }

  /** Moves chunks into the partial frame until it has `wanted` bytes; false when there are not enough yet. */
  #gather(wanted: number): boolean {
    while (this.#partialBytes < wanted) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) return false;
      const take = Math.min(chunk.length, wanted - this.#partialBytes);
      this.#partial = appendBytes(this.#partial, this.#partialBytes, chunk, 0, take, wanted);
      this.#partialBytes += take;
      this.#drop(take);
    }
    return true;
  }

  #drop(count: number): void {
    const chunk = this.#chunks[0]!;
    if (count === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(count);
  }
}

/**
 * Appends `source[start, start + count)` to the first `used` bytes of `target`, growing it by doubling up to `wanted` bytes.
 * Returns the buffer to go on with. Memory held stays within twice of what really came.
 */
export function appendBytes(target: Buffer, used: number, source: Buffer, start: number, count: number, wanted: number): Buffer {
  let buffer = target;
  if (buffer.length < used + count) {
    const grown = Buffer.allocUnsafeSlow(
      Math.max(used + count, Math.min(wanted, Math.max(FIRST_PIECE_BYTES, buffer.length * 2))),
    );
    buffer.copy(grown, 0, 0, used);
    buffer = grown;
  }
  source.copy(buffer, used, start, start + count);
  return buffer;
}

function declaredLength(head: Buffer): number {
  const length = head.readUInt32BE(1);
  if (length < 4) throw new GatewayError("protocol_violation", "A message declared an impossible length.");
  return length;
}

function frameOf(bytes: Buffer): Frame {
  return { type: bytes[0]!, body: bytes.subarray(HEADER_BYTES), bytes };
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
