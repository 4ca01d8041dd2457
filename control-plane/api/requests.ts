/**
 * Bodies of the admin API, from untrusted JSON to typed requests. A field that is not known is refused: a misspelt option must
 * not be silently without effect. Errors name the field, never its value.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { ExplainRequest } from "@sluice/rpc/explain.ts";
import type { MintRequest } from "../identity/development-issuer.ts";
import type { ManifestFile } from "../interface.ts";

export type Fields = Readonly<Record<string, unknown>>;

export function parseEmptyRequest(body: unknown): Record<string, never> {
  fieldsOf(body, "the request", []);
  return {};
}

export interface ApplyFilesRequest {
  readonly files: readonly ManifestFile[];
  readonly author: string | undefined;
}

export function parseApplyRequest(body: unknown): ApplyFilesRequest {
  const { files, author } = fieldsOf(body, "the request", ["files", "author"]);
  return {
    files: listOf(files, "files").map((file, at) => {
      const { path, text } = fieldsOf(file, `files[${at}]`, ["path", "text"]);
      return { path: storableOf(path, `files[${at}].path`), text: storableOf(text, `files[${at}].text`) };
    }),
    author: author === undefined ? undefined : storableOf(author, "author").slice(0, 200),
  };
}

export function parseMintRequest(body: unknown): MintRequest {
  const {
    subject,
    groups = [],
    claims = {},
    ttlSeconds = 3_600,
  } = fieldsOf(body, "the request", ["subject", "groups", "claims", "ttlSeconds"]);
  if (typeof ttlSeconds !== "number") throw wrong("ttlSeconds must be a number");
  return {
    subject: textOf(subject, "subject"),
    groups: textsOf(groups, "groups"),
    claims: objectOf(claims, "claims"),
    ttlSeconds,
  };
}

export function parseExplainRequest(body: unknown): ExplainRequest {
  return explainRequestOf(fieldsOf(body, "the request", ["as", "resource", "sql"]), "");
}

export interface BatchLine {
  /** Copied to the answer as it is. */
  readonly id: unknown;
  readonly request: ExplainRequest;
}

export function parseExplainBatchRequest(body: unknown): readonly BatchLine[] {
  const { lines } = fieldsOf(body, "the request", ["lines"]);
  return listOf(lines, "lines").map((line, at) => {
    const fields = fieldsOf(line, `lines[${at}]`, ["id", "as", "resource", "sql"]);
    return { id: fields["id"] ?? null, request: explainRequestOf(fields, `lines[${at}].`) };
  });
}

/** A session id that is not shaped like one is simply not found. */
export function parseSessionRequest(body: unknown): SessionId {
  const { id } = fieldsOf(body, "the request", ["id"]);
  const sessionId = parseSessionId(textOf(id, "id"));
  if (sessionId === undefined) throw sessionNotFound();
  return sessionId;
}

export function sessionNotFound(): GatewayError {
  return new GatewayError("not_found", "There is no session with this id.", { hint: "`sluice sessions list` shows the ids." });
}

function explainRequestOf(fields: Fields, at: string): ExplainRequest {
  const { sub, groups = [], iss, claims } = fieldsOf(fields["as"], `${at}as`, ["sub", "groups", "iss", "claims"]);
  const sql = typeof fields["sql"] === "string" ? [fields["sql"]] : textsOf(fields["sql"], `${at}sql`);
  if (sql.length === 0) throw wrong(`${at}sql holds no statement`);
  return {
    as: {
      sub: textOf(sub, `${at}as.sub`),
      groups: textsOf(groups, `${at}as.groups`),
      ...(iss === undefined ? {} : { iss: textOf(iss, `${at}as.iss`) }),
      ...(claims === undefined ? {} : { claims: objectOf(claims, `${at}as.claims`) }),
    },
    resource: textOf(fields["resource"], `${at}resource`),
    sql,
  };
}

export function fieldsOf(value: unknown, at: string, known: readonly string[]): Fields {
  const fields = objectOf(value, at);
  const unknown = Object.keys(fields).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    const names = known.length === 0 ? "it takes none" : `it takes ${known.join(", ")}`;
    throw wrong(`${at} has a field that is not known (${JSON.stringify(unknown.slice(0, 60))}); ${names}`);
  }
  return fields;
}

export function objectOf(value: unknown, at: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(`${at} must be a JSON object`);
  return value as Fields; // an object by the check above
}

export function listOf(value: unknown, at: string): readonly unknown[] {
  if (!Array.isArray(value)) throw wrong(`${at} must be a list`);
  return value;
}

function textsOf(value: unknown, at: string): readonly string[] {
  return listOf(value, at).map((one, index) => textOf(one, `${at}[${index}]`));
}

export function textOf(value: unknown, at: string): string {
  if (typeof value !== "string") throw wrong(`${at} must be a text`);
  return value;
}

/** PostgreSQL keeps any text but NUL. Statements to explain may hold one: judging them is the gateway's business. */
function storableOf(value: unknown, at: string): string {
  const text = textOf(value, at);
  if (text.includes("\0")) throw wrong(`${at} holds a NUL character`);
  return text;
}

export function wrong(problem: string): GatewayError {
  return new GatewayError("protocol_violation", `The request is not understood: ${problem}.`);
}
