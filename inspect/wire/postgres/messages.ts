/**
 * Bodies of the messages that the relay reads and the few that it builds itself. Every reader takes the whole body: trailing
 * bytes are a violation, so that both sides read a message the same way. Spec: PostgreSQL documentation, "Message Formats".
 */
import { isUtf8 } from "node:buffer";
import { GatewayError } from "@sluice/core/errors.ts";
import type { FieldDescription } from "../judgement.ts";
import { BodyReader, cstring, encodeMessage, int16, int32 } from "./frames.ts";

/** ASCII codes of message types, by direction (some letters mean different things in each). */
export const fromCaller = {
  bind: 0x42, // B
  close: 0x43, // C
  describe: 0x44, // D
  execute: 0x45, // E
  functionCall: 0x46, // F
  flush: 0x48, // H
  parse: 0x50, // P
  query: 0x51, // Q
  sync: 0x53, // S
  terminate: 0x58, // X
  copyDone: 0x63, // c
  copyData: 0x64, // d
  copyFail: 0x66, // f
} as const;

export const fromTarget = {
  parseComplete: 0x31, // 1
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  notification: 0x41, // A
  commandComplete: 0x43, // C
  dataRow: 0x44, // D
  error: 0x45, // E
  copyIn: 0x47, // G
  copyOut: 0x48, // H
  emptyQuery: 0x49, // I
  notice: 0x4e, // N
  parameterStatus: 0x53, // S
  rowDescription: 0x54, // T
  readyForQuery: 0x5a, // Z
  copyDone: 0x63, // c
  copyData: 0x64, // d
  noData: 0x6e, // n
  portalSuspended: 0x73, // s
  parameterDescription: 0x74, // t
} as const;

/** NAMEDATALEN - 1 of PostgreSQL as it is built everywhere. */
const NAME_BYTES_MAX = 63;

export type Format = "text" | "binary";

export interface ParseMessage {
  readonly name: string;
  readonly text: Buffer;
  readonly parameterTypes: readonly number[];
}

export interface BindMessage {
  readonly portal: string;
  readonly statement: string;
  readonly parameterFormats: readonly Format[];
  /** Views into the message; null is SQL NULL. */
  readonly parameters: readonly (Buffer | null)[];
  readonly resultFormats: readonly Format[];
}

export interface NamedTarget {
  readonly of: "statement" | "portal";
  readonly name: string;
}

/** Query: the text's bytes without the NUL. */
export function readQuery(body: Buffer): Buffer {
  const reader = new BodyReader(body);
  const text = reader.cstringBytes();
  reader.end();
  return text;
}

export function readParse(body: Buffer): ParseMessage {
  const reader = new BodyReader(body);
  const name = readName(reader);
  const text = reader.cstringBytes();
  const count = readCount(reader);
  const parameterTypes: number[] = [];
  for (let at = 0; at < count; at++) parameterTypes.push(reader.uint32());
  reader.end();
  return { name, text, parameterTypes };
}

export function readBind(body: Buffer): BindMessage {
  const reader = new BodyReader(body);
  const portal = readName(reader);
  const statement = readName(reader);
  const parameterFormats = readFormats(reader);
  const count = readCount(reader);
  const parameters: (Buffer | null)[] = [];
  for (let at = 0; at < count; at++) {
    const length = reader.int32();
    if (length < -1) throw new GatewayError("protocol_violation", "A parameter declared an impossible length.");
    parameters.push(length === -1 ? null : reader.bytes(length));
  }
  const resultFormats = readFormats(reader);
  reader.end();
  return { portal, statement, parameterFormats, parameters, resultFormats };
}

/** Describe and Close have the same body. */
export function readNamedTarget(body: Buffer): NamedTarget {
  const reader = new BodyReader(body);
  const kind = reader.byte();
  if (kind !== 0x53 && kind !== 0x50)
    throw new GatewayError("protocol_violation", "A message names neither a statement nor a portal.");
  const name = readName(reader);
  reader.end();
  return { of: kind === 0x53 ? "statement" : "portal", name };
}

/** Execute: the portal's name. The row count is the target's business. */
export function readExecute(body: Buffer): string {
  const reader = new BodyReader(body);
  const portal = readName(reader);
  reader.int32();
  reader.end();
  return portal;
}

/** Throws `target_protocol` when the body is not one. */
export function readRowDescription(body: Buffer): FieldDescription[] {
  return fromTargetBody(body, (reader) => {
    const count = readCount(reader);
    const fields: FieldDescription[] = [];
    for (let at = 0; at < count; at++) {
      const name = reader.cstring();
      const tableOid = reader.uint32();
      const columnNumber = reader.int16();
      const typeOid = reader.uint32();
      reader.int16();
      reader.int32();
      fields.push({ name, tableOid, columnNumber, typeOid, format: readFormat(reader) });
    }
    return fields;
  });
}

export function readParameterDescription(body: Buffer): number[] {
  return fromTargetBody(body, (reader) => {
    const count = readCount(reader);
    const types: number[] = [];
    for (let at = 0; at < count; at++) types.push(reader.uint32());
    return types;
  });
}

/** CopyInResponse and CopyOutResponse. Throws `target_protocol` where columns are said to have another format than the whole. */
export function readCopyResponse(body: Buffer): { readonly columns: number; readonly binary: boolean } {
  return fromTargetBody(body, (reader) => {
    const overall = reader.byte();
    const count = readCount(reader);
    for (let at = 0; at < count; at++) if (reader.int16() !== overall) throw unreadable();
    if (overall > 1) throw unreadable();
    return { columns: count, binary: overall === 1 };
  });
}

/** CommandComplete. */
export function readTag(body: Buffer): string {
  return fromTargetBody(body, (reader) => reader.cstring());
}

export function readParameterStatus(body: Buffer): readonly [name: string, value: string] {
  return fromTargetBody(body, (reader) => [reader.cstring(), reader.cstring()] as const);
}

/** ErrorResponse and NoticeResponse: field letter to text. */
export function readErrorFields(body: Buffer): ReadonlyMap<string, string> {
  return fromTargetBody(body, (reader) => {
    const fields = new Map<string, string>();
    for (let code = reader.byte(); code !== 0; code = reader.byte()) fields.set(String.fromCharCode(code), reader.cstring());
    return fields;
  });
}

/** ReadyForQuery: idle, in a transaction, in a failed one. */
export type TransactionStatus = "I" | "T" | "E";

export function readTransactionStatus(body: Buffer): TransactionStatus {
  const status = body.length === 1 ? String.fromCharCode(body[0]!) : "";
  if (status !== "I" && status !== "T" && status !== "E") throw unreadable();
  return status;
}

/** The text as the target will read it, or null when it is not UTF-8. A byte order mark stays. */
export function decodeText(bytes: Buffer): string | null {
  return isUtf8(bytes) ? bytes.toString("utf8") : null;
}

/** A format list of zero or one entries stands for all columns. */
export function formatOf(formats: readonly Format[], column: number): Format {
  if (formats.length === 0) return "text";
  if (formats.length === 1) return formats[0]!;
  const format = formats[column];
  if (format === undefined)
    throw new GatewayError("target_protocol", "The database's result does not fit the formats asked for.");
  return format;
}

export const flushMessage: Buffer = encodeMessage("H", []);
export const syncMessage: Buffer = encodeMessage("S", []);

/** Parse without parameter types. `name` is one that came from a caller's message, or ASCII. */
export function encodeParse(name: string, text: Buffer): Buffer {
  return encodeMessage("P", [nameBytes(name), text, Buffer.from([0]), int16(0)]);
}

export function encodeQuery(text: string): Buffer {
  return encodeMessage("Q", [cstring(text)]);
}

/** Bind without parameters, all results as text. */
export function encodeBind(portal: string, statement: string): Buffer {
  return encodeMessage("B", [nameBytes(portal), nameBytes(statement), int16(0), int16(0), int16(0)]);
}

export function encodeDescribe(of: "S" | "P", name: string): Buffer {
  return encodeMessage("D", [Buffer.from(of), nameBytes(name)]);
}

export function encodeExecute(portal: string): Buffer {
  return encodeMessage("E", [nameBytes(portal), int32(0)]);
}

/**
 * Names are compared as the target compares them: byte by byte (latin1 keeps every byte apart). It compares the first 63 bytes
 * only, so that two longer names could be one to it and two to us: those are not accepted.
 */
function readName(reader: BodyReader): string {
  const bytes = reader.cstringBytes();
  if (bytes.length > NAME_BYTES_MAX)
    throw new GatewayError("protocol_violation", "The name of a statement or portal is longer than 63 bytes.");
  return bytes.toString("latin1");
}

function nameBytes(name: string): Buffer {
  return Buffer.from(`${name}\0`, "latin1");
}

function readCount(reader: BodyReader): number {
  return reader.int16() & 0xffff;
}

function readFormats(reader: BodyReader): Format[] {
  const count = readCount(reader);
  const formats: Format[] = [];
  for (let at = 0; at < count; at++) formats.push(readFormat(reader));
  return formats;
}

function readFormat(reader: BodyReader): Format {
  const code = reader.int16();
  if (code !== 0 && code !== 1) throw new GatewayError("protocol_violation", "A message asks for an unknown value format.");
  return code === 0 ? "text" : "binary";
}

function fromTargetBody<Value>(body: Buffer, read: (reader: BodyReader) => Value): Value {
  const reader = new BodyReader(body);
  try {
    const value = read(reader);
    reader.end();
    return value;
  } catch (error) {
    throw new GatewayError("target_protocol", "The database sent a message that the gateway cannot read.", { cause: error });
  }
}

function unreadable(): GatewayError {
  return new GatewayError("target_protocol", "The database sent a message that the gateway cannot read.");
}
