/**
 * Reads back what a caller was sent, for replay: results, COPY data, completions, errors and notices. Everything else is passed
 * over. It reads bytes that the gateway itself released, survives any split, and holds at most one bounded message. A message it
 * cannot read is left out, since a recording must stay readable to its end; lost framing throws.
 * Spec: PostgreSQL documentation, "Message Formats".
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { appendBytes, BodyReader, HEADER_BYTES } from "./frames.ts";
import { decodeText, fromTarget, readErrorFields, readRowDescription, readTag } from "./messages.ts";

/** Short texts for people; absent when the message did not have the field. */
export interface ReleasedFields {
  readonly severity?: string;
  readonly sqlState?: string;
  readonly message?: string;
  readonly detail?: string;
  readonly hint?: string;
  readonly position?: string;
}

export interface ReleasedColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly format: "text" | "binary";
}

export type ReleasedItem =
  | { readonly kind: "columns"; readonly columns: readonly ReleasedColumn[] }
  /** Text values as they are; what is not UTF-8 text as `\x…`. */
  | { readonly kind: "row"; readonly values: readonly (string | null)[] }
  | { readonly kind: "copy"; readonly text: string }
  | { readonly kind: "complete"; readonly tag: string }
  | { readonly kind: "error" | "notice"; readonly fields: ReleasedFields };

/** A longer row or COPY message is shown as a note of its size: replay is for reading, the recording itself is whole. */
const SHOWN_BYTES_MAX = 1024 * 1024;
const EMPTY = Buffer.alloc(0);

const fieldNames: Readonly<Record<string, keyof ReleasedFields>> = {
  S: "severity",
  C: "sqlState",
  M: "message",
  D: "detail",
  H: "hint",
  P: "position",
};

export class ReleasedDecoder {
  #partial: Buffer = EMPTY;
  #partialBytes = 0;
  /** Body bytes of a message that is passed over. */
  #skip = 0;
  #columns: readonly ReleasedColumn[] = [];

  /** Takes released bytes in order, in any split; returns what became whole. Throws when the bytes are no messages; discard it then. */
  push(bytes: Buffer): ReleasedItem[] {
    const items: ReleasedItem[] = [];
    let at = 0;
    while (at < bytes.length) at = this.#step(bytes, at, items);
    return items;
  }

  #step(bytes: Buffer, start: number, items: ReleasedItem[]): number {
    if (this.#skip > 0) {
      const passed = Math.min(this.#skip, bytes.length - start);
      this.#skip -= passed;
      return start + passed;
    }
    let at = this.#gather(bytes, start, HEADER_BYTES);
    if (this.#partialBytes < HEADER_BYTES) return at;
    const type = this.#partial[0]!;
    const bodyBytes = this.#partial.readUInt32BE(1) - 4;
    if (bodyBytes < 0) throw new GatewayError("target_protocol", "Released bytes do not hold together as messages.");
    if (!shown.has(type) || bodyBytes > SHOWN_BYTES_MAX) {
      if (type === fromTarget.dataRow) items.push({ kind: "row", values: [`[row of ${bodyBytes} bytes, not shown]`] });
      if (type === fromTarget.copyData) items.push({ kind: "copy", text: `[COPY data of ${bodyBytes} bytes, not shown]` });
      this.#skip = bodyBytes;
      this.#clear();
      return at;
    }
    at = this.#gather(bytes, at, HEADER_BYTES + bodyBytes);
    if (this.#partialBytes < HEADER_BYTES + bodyBytes) return at;
    const body = this.#partial.subarray(HEADER_BYTES, HEADER_BYTES + bodyBytes);
    this.#clear();
    try {
      const item = this.#read(type, body);
      if (item !== null) items.push(item);
    } catch {
      // Framing is intact, so the next message can be read.
    }
    return at;
  }

  #read(type: number, body: Buffer): ReleasedItem | null {
    switch (type) {
      case fromTarget.rowDescription: {
        this.#columns = readRowDescription(body).map(({ name, typeOid, format }) => ({ name, typeOid, format }));
        return { kind: "columns", columns: this.#columns };
      }
      case fromTarget.noData:
        this.#columns = [];
        return null;
      case fromTarget.dataRow:
        return { kind: "row", values: this.#row(body) };
      case fromTarget.copyData:
        return { kind: "copy", text: shownValue(body) };
      case fromTarget.commandComplete:
        return { kind: "complete", tag: readTag(body) };
      case fromTarget.error:
        return { kind: "error", fields: namedFields(body) };
      case fromTarget.notice:
        return { kind: "notice", fields: namedFields(body) };
      default:
        return null;
    }
  }

  #row(body: Buffer): (string | null)[] {
    const reader = new BodyReader(body);
    const count = reader.int16() & 0xffff;
    const values: (string | null)[] = [];
    for (let at = 0; at < count; at++) {
      const length = reader.int32();
      if (length < 0) values.push(null);
      else values.push(this.#value(reader.bytes(length), at, count));
    }
    return values;
  }

  /** A client that executes again without Describe gives no formats; then the bytes themselves say what they are. */
  #value(bytes: Buffer, column: number, count: number): string {
    const format = this.#columns.length === count ? this.#columns[column]!.format : "text";
    return format === "binary" ? hex(bytes) : shownValue(bytes);
  }

  #gather(bytes: Buffer, at: number, wanted: number): number {
    const take = Math.min(bytes.length - at, wanted - this.#partialBytes);
    if (take <= 0) return at;
    this.#partial = appendBytes(this.#partial, this.#partialBytes, bytes, at, take, wanted);
    this.#partialBytes += take;
    return at + take;
  }

  #clear(): void {
    this.#partial = EMPTY;
    this.#partialBytes = 0;
  }
}

const shown: ReadonlySet<number> = new Set([
  fromTarget.rowDescription,
  fromTarget.noData,
  fromTarget.dataRow,
  fromTarget.copyData,
  fromTarget.commandComplete,
  fromTarget.error,
  fromTarget.notice,
]);

function namedFields(body: Buffer): ReleasedFields {
  const fields: { -readonly [Name in keyof ReleasedFields]: ReleasedFields[Name] } = {};
  for (const [code, text] of readErrorFields(body)) {
    const name = fieldNames[code];
    if (name !== undefined) fields[name] = text;
  }
  return fields;
}

function shownValue(bytes: Buffer): string {
  const text = decodeText(bytes);
  return text === null || text.includes("\0") ? hex(bytes) : text;
}

function hex(bytes: Buffer): string {
  return `\\x${bytes.toString("hex")}`;
}
