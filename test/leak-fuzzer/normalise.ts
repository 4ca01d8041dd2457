/**
 * The one place that says what of an answer is left out when two answers are compared: what is random, and numbers that the server
 * gives out in the order in which things are made in the whole cluster. Nothing that could come from a row may be named here.
 *
 * - ids of decisions and sessions (`d_` or `s_` and 22 letters), in errors and in the application name;
 * - OIDs of relations and types made by the statements themselves, in RowDescription and ParameterDescription;
 * - the number in `pg_temp_3`, the session's own temporary schema;
 * - the process id in a notification.
 */
import type { WireMessage } from "../support/wire-messages.ts";

/** An answer as one text, equal for equal answers. Printable, so that it can be shown. */
export function comparable(messages: readonly WireMessage[], lastOid: number): string {
  return messages
    .map(({ type, body }) => `${type}:${edited(type, body, lastOid).toString("latin1")}`)
    .join(" | ")
    .replaceAll(/\b([ds]_)[A-Za-z0-9_-]{22}/g, "$1")
    .replaceAll(/pg_temp_\d+/g, "pg_temp_");
}

/** For people: what cannot be printed as \x.. */
export function printable(answer: string): string {
  return answer.replaceAll(/[^\x20-\x7e]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Both from shortly before the first place where they differ. */
export function fromDifference(left: string, right: string): readonly [string, string] {
  let at = 0;
  while (at < left.length && left[at] === right[at]) at += 1;
  const start = Math.max(0, at - 40);
  return [printable(left.slice(start, start + 600)), printable(right.slice(start, start + 600))];
}

function edited(type: string, body: Buffer, lastOid: number): Buffer {
  if (type === "T") return withoutNewOids(body, lastOid);
  if (type === "A") return body.subarray(4);
  return body;
}

/** Each field: name, table (4 bytes), column (2), type (4), size (2), modifier (4), format (2). */
function withoutNewOids(description: Buffer, lastOid: number): Buffer {
  const body = Buffer.from(description);
  for (let at = 2; at < body.length; ) {
    const table = body.indexOf(0, at) + 1;
    if (body.readUInt32BE(table) > lastOid) body.writeUInt32BE(0, table);
    if (body.readUInt32BE(table + 6) > lastOid) body.writeUInt32BE(0, table + 6);
    at = table + 18;
  }
  return body;
}
