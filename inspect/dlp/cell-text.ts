/** Bytes of a cell to text and back. The connection's encoding is UTF-8; what is not valid UTF-8 is read byte by byte. */
import { isUtf8 } from "node:buffer";

export type CellEncoding = "utf8" | "latin1";

/** True when the bytes can be read as UTF-8 without loss. */
export function isUtf8Cell(source: Buffer, start: number, end: number): boolean {
  return isUtf8(source.subarray(start, end));
}

/** Reads bytes that are known to be in the encoding. ASCII may be read as latin1, which is the faster one. */
export function decodeCell(source: Buffer, start: number, end: number, encoding: CellEncoding): string {
  return source.toString(encoding, start, end);
}

export function encodeCell(text: string, encoding: CellEncoding): Buffer {
  return Buffer.from(text, encoding);
}
