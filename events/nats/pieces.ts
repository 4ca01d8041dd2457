/** Puts batches together that came in several messages. Holds no more than its bytes: the oldest unfinished batch is given up first. */
import type { JsMsg } from "@nats-io/jetstream";
import type { BatchPiece } from "./batch-codec.ts";

export interface WholeBatch {
  readonly piece: BatchPiece;
  readonly packed: Uint8Array;
  readonly messages: readonly JsMsg[];
}

interface Unfinished {
  readonly piece: BatchPiece;
  /** By part. */
  readonly parts: Map<number, { readonly bytes: Uint8Array; message: JsMsg }>;
  bytes: number;
}

/** One unfinished batch of the largest kind for several gateways at a time. */
const BYTES_MAX = 128 * 1024 * 1024;

export class Pieces {
  /** In the order in which they began. */
  readonly #unfinished = new Map<string, Unfinished>();
  #bytes = 0;

  /** The batch, when this was what it waited for. A piece that comes again takes the earlier one's place. */
  add(piece: BatchPiece, message: JsMsg): WholeBatch | null {
    if (piece.parts === 1) return { piece, packed: piece.bytes, messages: [message] };
    const key = keyOf(piece);
    let batch = this.#unfinished.get(key);
    if (batch === undefined) {
      batch = { piece, parts: new Map(), bytes: 0 };
      this.#unfinished.set(key, batch);
    }
    const known = batch.parts.get(piece.part);
    batch.parts.set(piece.part, { bytes: piece.bytes, message });
    const grown = piece.bytes.length - (known?.bytes.length ?? 0);
    batch.bytes += grown;
    this.#bytes += grown;
    if (batch.parts.size === piece.parts) {
      this.#remove(key, batch);
      const parts = [...batch.parts].sort(([a], [b]) => a - b).map(([, part]) => part);
      return { piece, packed: Buffer.concat(parts.map(({ bytes }) => bytes)), messages: parts.map(({ message }) => message) };
    }
    for (const [oldest, unfinished] of this.#unfinished) {
      if (this.#bytes <= BYTES_MAX || unfinished === batch) break;
      this.#remove(oldest, unfinished); // its messages come again when nobody says that they are worked on
    }
    return null;
  }

  /** Gives up the batch that this is a piece of; its messages. */
  forget(piece: BatchPiece): readonly JsMsg[] {
    const key = keyOf(piece);
    const batch = this.#unfinished.get(key);
    if (batch === undefined) return [];
    this.#remove(key, batch);
    return [...batch.parts.values()].map(({ message }) => message);
  }

  *messages(): Generator<JsMsg> {
    for (const { parts } of this.#unfinished.values()) for (const { message } of parts.values()) yield message;
  }

  clear(): readonly JsMsg[] {
    const messages = [...this.messages()];
    this.#unfinished.clear();
    this.#bytes = 0;
    return messages;
  }

  #remove(key: string, batch: Unfinished): void {
    this.#unfinished.delete(key);
    this.#bytes -= batch.bytes;
  }
}

/** The signature is another for each sending: pieces of two sendings are never mixed. */
function keyOf({ source, parts, signature }: BatchPiece): string {
  return `${source.gateway}/${source.spoolId}/${source.from}-${source.next}/${parts}/${Buffer.from(signature).toString("base64")}`;
}
