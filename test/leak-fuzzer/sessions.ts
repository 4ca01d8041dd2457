/**
 * Sends statements to a gateway and gives back what came for each. Several are on their way at a time: what one session gets
 * depends on what it sent before, never on when.
 */
import type { RawClient } from "../support/raw-client.ts";
import { bind, close, describe, errorFields, execute, parse, query, sync, type WireMessage } from "../support/wire-messages.ts";
import type { Form } from "./statements.ts";

/** One statement as it is sent; this is what the corpus keeps. */
export interface SentStatement {
  readonly sql: string;
  readonly form: Form;
}

/** Sends all at once. Fewer answers than statements: the connection ended. */
export async function exchange(
  client: RawClient,
  statements: readonly SentStatement[],
): Promise<readonly (readonly WireMessage[])[]> {
  if (client.isClosed) return [];
  client.send(...statements.map(messagesOf));
  const answers: (readonly WireMessage[])[] = [];
  for (let at = 0; at < statements.length; at++) {
    try {
      answers.push(await client.untilReady());
    } catch (error) {
      if (!client.isClosed) throw error;
      return [...answers, await client.untilClosed()];
    }
  }
  return answers;
}

function messagesOf({ sql, form }: SentStatement): Buffer {
  switch (form) {
    case "simple":
      return query(sql);
    case "extended":
    case "binary":
      return Buffer.concat([parse("", sql), describe("S", ""), bind("", "", [], form === "binary" ? 1 : 0), execute(""), sync]);
    case "sliced":
      return Buffer.concat([
        parse("", sql),
        bind("z", ""),
        describe("P", "z"),
        execute("z", 2),
        execute("z", 2),
        execute("z"),
        close("P", "z"),
        sync,
      ]);
    case "named":
      return Buffer.concat([
        close("S", "n"),
        parse("n", sql),
        describe("S", "n"),
        bind("", "n"),
        execute(""),
        bind("", "n", [], 1),
        execute(""),
        sync,
      ]);
    case "claims":
      return Buffer.concat([close("S", "p"), parse("p", sql), bind("c", "p"), sync]);
    default:
      throw new Error(`unknown form ${String(form satisfies never)}`);
  }
}

/** What an answer was, for counting. */
export interface Outcome {
  /** Refused by the gateway, and by which rule or code. */
  readonly refusal: string | null;
  readonly rows: number;
  /** The target's own error. */
  readonly failure: string | null;
}

export function outcomeOf(messages: readonly WireMessage[]): Outcome {
  const rows = messages.filter(({ type }) => type === "D" || type === "d").length;
  const errors = messages.filter(({ type }) => type === "E").map(({ body }) => errorFields(body));
  const refused = errors.find((fields) => /"code"/.test(fields["D"] ?? ""));
  return {
    refusal: refused === undefined ? null : (refused["M"] ?? "").replaceAll(/\b(public|hr|arch)\.[\w.]+/g, "…").slice(0, 90),
    rows,
    failure: refused === undefined && errors.length > 0 ? `${errors[0]!["C"]} ${errors[0]!["M"]}`.slice(0, 90) : null,
  };
}
