/**
 * Requests of the admin API, from messages of the right shape to values that make sense. That a field is known and of its type was
 * checked before; here it is what it says. Errors name the field, never its value.
 */
import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { GatewayError } from "@sluice/core/errors.ts";
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { ApplyRequest, HistoryRequest } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import type { ExplainedPrincipal, ExplainLine, ExplainRequest as Question } from "@sluice/proto/sluice/admin/v1/policy_pb.ts";
import type { MintRequest as MintMessage } from "@sluice/proto/sluice/admin/v1/token_pb.ts";
import type { ExplainRequest } from "@sluice/rpc/explain.ts";
import type { MintRequest } from "../identity/development-issuer.ts";
import type { ManifestFile } from "../interface.ts";
import type { HistoryAdmin } from "./services.ts";

const HISTORY_MAX = 1_000;

export interface ApplyFilesRequest {
  readonly files: readonly ManifestFile[];
  readonly author: string;
}

export function parseApply({ files, author }: ApplyRequest): ApplyFilesRequest {
  return {
    files: files.map(({ path, text }, at) => ({
      path: storableOf(path, `files[${at}].path`),
      text: storableOf(text, `files[${at}].text`),
    })),
    author: authorOf(author),
  };
}

export function parseHistory({ kind, name, limit = 100 }: HistoryRequest): Parameters<HistoryAdmin["list"]>[0] {
  if (limit < 1 || limit > HISTORY_MAX) throw wrong(`limit must be a whole number from 1 to ${HISTORY_MAX}`);
  return {
    ...(kind === undefined ? {} : { kind: shortOf(kind, "kind") }),
    ...(name === undefined ? {} : { name: shortOf(name, "name") }),
    limit,
  };
}

export function parseRevision({ revision }: { readonly revision: number }): number {
  if (revision < 1) throw wrong("revision must be a positive whole number");
  return revision;
}

export function parseMint({ subject, groups, claims = {}, ttlSeconds = 3_600 }: MintMessage): MintRequest {
  return { subject, groups, claims, ttlSeconds };
}

export function parseExplain({ as, resource, sql }: Question): ExplainRequest {
  return questionOf(as, resource, sql, "");
}

export interface BatchLine {
  /** Copied to the answer as it is. */
  readonly id: JsonValue;
  readonly request: ExplainRequest;
}

export function parseExplainLines(lines: readonly ExplainLine[]): readonly BatchLine[] {
  return lines.map(({ id, as, resource, sql }, at) => ({
    id: id === undefined ? null : toJson(ValueSchema, id),
    request: questionOf(as, resource, sql, `lines[${at}].`),
  }));
}

/** A session id that is not shaped like one is simply not found. */
export function parseSession({ id }: { readonly id: string }): SessionId {
  const sessionId = parseSessionId(id);
  if (sessionId === undefined) throw sessionNotFound();
  return sessionId;
}

export function sessionNotFound(): GatewayError {
  return new GatewayError("not_found", "There is no session with this id.", { hint: "`sluice sessions list` shows the ids." });
}

function questionOf(as: ExplainedPrincipal | undefined, resource: string, sql: readonly string[], at: string): ExplainRequest {
  if (as === undefined) throw wrong(`${at}as is missing`);
  if (sql.length === 0) throw wrong(`${at}sql holds no statement`);
  const { sub, groups, iss, claims } = as;
  return {
    as: { sub, groups, ...(iss === undefined ? {} : { iss }), ...(claims === undefined ? {} : { claims }) },
    resource,
    sql,
  };
}

/** Who stands in the history. */
export function authorOf(author: string | undefined): string {
  return author === undefined ? "admin" : shortOf(author, "author");
}

/** One line of at most 200 characters: it is kept, listed and told. */
export function shortOf(text: string, at: string): string {
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  if (text.length > 200 || /[\u0000-\u001f\u007f]/.test(text)) throw wrong(`${at} must be one line of at most 200 characters`);
  return text;
}

/** PostgreSQL keeps any text but NUL. Statements to explain may hold one: judging them is the gateway's business. */
function storableOf(text: string, at: string): string {
  if (text.includes("\0")) throw wrong(`${at} holds a NUL character`);
  return text;
}

export function wrong(problem: string): GatewayError {
  return new GatewayError("protocol_violation", `The request is not understood: ${problem}.`);
}
