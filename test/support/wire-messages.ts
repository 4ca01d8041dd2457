/**
 * PostgreSQL messages for tests, written apart from the product's own codec so that one can judge the other. Builders make what a
 * caller sends, readers take apart what it receives. Spec: PostgreSQL documentation, "Message Formats".
 */

export interface WireMessage {
  /** One letter. */
  readonly type: string;
  readonly body: Buffer;
}

export const PROTOCOL_3_0 = 0x0003_0000;
export const PROTOCOL_3_2 = 0x0003_0002;

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

export function text(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}

/** A typed message with a true length. */
export function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type, "latin1"), int32(body.length + 4), body]);
}

/** An untyped message, as at the start of a connection. */
export function untyped(...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([int32(body.length + 4), body]);
}

export const sslRequest: Buffer = untyped(int32(80877103));
export const gssRequest: Buffer = untyped(int32(80877104));

export function cancelRequest(processId: number, secret: Buffer): Buffer {
  return untyped(int32(80877102), int32(processId), secret);
}

export function startup(parameters: Readonly<Record<string, string>>, version: number = PROTOCOL_3_0): Buffer {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [text(name), text(value)]);
  return untyped(int32(version), ...pairs, Buffer.from([0]));
}

export const password = (token: string): Buffer => message("p", text(token));
export const query = (sql: string): Buffer => message("Q", text(sql));
export const parse = (name: string, sql: string): Buffer => message("P", text(name), text(sql), int16(0));
export const describe = (kind: "S" | "P", name: string): Buffer => message("D", Buffer.from(kind), text(name));
export const execute = (portal: string, rowsMax = 0): Buffer => message("E", text(portal), int32(rowsMax));
export const close = (kind: "S" | "P", name: string): Buffer => message("C", Buffer.from(kind), text(name));
export const sync: Buffer = message("S");
export const flush: Buffer = message("H");
export const terminate: Buffer = message("X");

/** Values as text; `resultFormat` 1 asks for binary results. */
export function bind(
  portal: string,
  statement: string,
  values: readonly (string | null)[] = [],
  resultFormat: 0 | 1 = 0,
): Buffer {
  const bound = values.map((value) =>
    value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]),
  );
  return message("B", text(portal), text(statement), int16(0), int16(values.length), ...bound, int16(1), int16(resultFormat));
}

/** Fields of an ErrorResponse or NoticeResponse by their letter. */
export function errorFields(body: Buffer): Readonly<Record<string, string>> {
  const fields: Record<string, string> = {};
  for (const part of body.toString("utf8").split("\0")) if (part !== "") fields[part[0]!] = part.slice(1);
  return fields;
}

/** Cells of a DataRow; null is SQL NULL. */
export function rowCells(body: Buffer): readonly (Buffer | null)[] {
  const cells: (Buffer | null)[] = [];
  let at = 2;
  for (let left = body.readInt16BE(0); left > 0; left--) {
    const length = body.readInt32BE(at);
    at += 4;
    cells.push(length < 0 ? null : body.subarray(at, at + length));
    at += Math.max(length, 0);
  }
  return cells;
}

export function rowTexts(row: WireMessage): readonly (string | null)[] {
  return rowCells(row.body).map((cell) => cell?.toString("utf8") ?? null);
}

/** The rows among messages, as texts. */
export function rowsOf(messages: readonly WireMessage[]): readonly (readonly (string | null)[])[] {
  return messages.filter(({ type }) => type === "D").map(rowTexts);
}

export function errorsOf(messages: readonly WireMessage[]): readonly Readonly<Record<string, string>>[] {
  return messages.filter(({ type }) => type === "E").map(({ body }) => errorFields(body));
}

/** The letters of messages in order, equal neighbours among rows once: `T D C Z`. */
export function shapeOf(messages: readonly WireMessage[]): string {
  return messages
    .map(({ type }) => type)
    .filter((type, at, all) => type !== "D" || all[at - 1] !== "D")
    .join(" ");
}

/** The stable code in an error's DETAIL. */
export function codeOf(fields: Readonly<Record<string, string>> | undefined): string {
  if (fields === undefined) return "(no error)";
  try {
    const detail: unknown = JSON.parse(fields["D"] ?? "{}");
    if (typeof detail === "object" && detail !== null && "code" in detail) return String(detail.code);
  } catch {
    return `(no JSON: ${fields["D"]})`;
  }
  return "(no code)";
}
