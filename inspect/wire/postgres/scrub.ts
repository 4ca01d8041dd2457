/**
 * Takes texts out of errors, notices and notifications that may hold protected values. What stays: severity and SQLSTATE, which
 * programs act on and which hold no values, and the place in the caller's text that is wrong. Everything not known to be safe is dropped, future fields too.
 */
import { BodyReader, cstring, encodeMessage } from "./frames.ts";

/** An error's or notice's body without texts. `type` is "E" or "N"; `fields` as `readErrorFields` gave them. */
export function scrubbed(type: "E" | "N", fields: ReadonlyMap<string, string>): Buffer {
  const what = type === "E" ? "an error" : "a notice";
  const message = `The database reported ${what}; its text is withheld because the statement touches protected data.`;
  const parts: Buffer[] = [];
  for (const name of ["S", "V", "C"]) {
    const value = fields.get(name);
    if (value !== undefined) parts.push(cstring(name + value));
  }
  // Where in the caller's own text it is wrong; an error of running it has no such place.
  const position = fields.get("P") ?? "";
  const place = speaksOfStatementOnly(fields.get("C") ?? "") && /^[0-9]{1,10}$/.test(position);
  const told = place ? [cstring(`P${position}`)] : [];
  return encodeMessage(type, [...parts, cstring(`M${message}`), ...told, Buffer.from([0])]);
}

/** A NotificationResponse with the sender and the channel and an empty payload. */
export function emptiedNotification(body: Buffer): Buffer {
  const reader = new BodyReader(body);
  const sender = reader.bytes(4);
  const channel = reader.cstringBytes();
  return encodeMessage("A", [sender, channel, Buffer.from([0, 0])]);
}

/** Refused or mistaken before any row was read: such a text can only repeat the statement, unless it belongs to a scrubbed one. */
export function speaksOfStatementOnly(sqlState: string): boolean {
  const area = sqlState.slice(0, 2);
  return area === "42" || area === "25" || area === "26" || area === "34";
}
