/**
 * Errors in PostgreSQL's form: stable codes to SQLSTATE, GatewayError and Refusal to ErrorResponse. It never puts data, tokens
 * or secrets into a field: the texts come from GatewayError and Refusal, which promise that.
 * Spec: PostgreSQL documentation, "Error and Notice Message Fields" and "PostgreSQL Error Codes".
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { ErrorCode, GatewayError } from "@sluice/core/errors.ts";
import type { Refusal } from "../judgement.ts";
import { cstring, encodeMessage } from "./frames.ts";

export interface ErrorFields {
  readonly severity: "ERROR" | "FATAL" | "WARNING" | "NOTICE";
  /** Five characters. */
  readonly sqlState: string;
  readonly message: string;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  /** Characters from 1 in the statement text. */
  readonly position?: number | undefined;
}

/** The SQLSTATE of a code. Class 53 (insufficient resources) for what waiting may mend, 08 for the way to the database. */
export function sqlStateOf(code: ErrorCode): string {
  switch (code) {
    case "login_failed":
    case "login_timeout":
    case "tls_required":
    case "unauthorized":
    case "enrolment_refused":
      return "28000";
    case "too_many_connections":
      return "53300";
    case "resource_unknown":
      return "3D000";
    case "denied":
    case "needs_approval":
    case "unsupported":
      return "42501";
    case "limit_reached":
      return "53400";
    case "protocol_violation":
    case "frame_too_large":
      return "08P01";
    case "statement_too_long":
      return "54000";
    case "statement_invalid":
      return "22021";
    case "analysis_unavailable":
    case "catalog_unavailable":
    case "ddl_unannounced":
      return "53000";
    case "target_unreachable":
    case "target_auth_failed":
    case "target_protocol":
    case "target_closed":
    case "secret_unavailable":
    case "agent_unavailable":
    case "node_unreachable":
    case "incompatible":
      return "08006";
    case "recording_unavailable":
      return "58030";
    case "cancelled":
      return "57014";
    case "killed":
    case "draining":
    case "policy_stale":
      return "57P01";
    case "config_invalid":
      return "F0000";
    case "not_found":
      return "42704";
    case "internal":
      return "XX000";
    default:
      return assertNever(code);
  }
}

/** One ErrorResponse. NUL characters in a text end it there, as the protocol cannot carry them. */
export function encodeError(fields: ErrorFields): Buffer {
  return encodeFields("E", fields);
}

/** One NoticeResponse. */
export function encodeNotice(fields: ErrorFields): Buffer {
  return encodeFields("N", fields);
}

/** DETAIL is JSON for machines: the code, then the error's own additions, then `extraDetail`. HINT is for people. */
export function encodeGatewayError(
  error: GatewayError,
  severity: "ERROR" | "FATAL",
  extraDetail: Readonly<Record<string, string>> = {},
): Buffer {
  return encodeError({
    severity,
    sqlState: sqlStateOf(error.code),
    message: error.message,
    detail: JSON.stringify({ code: error.code, ...error.detail, ...extraDetail }),
    hint: error.hint,
  });
}

/** A refused statement as ErrorResponse of severity ERROR: the session stays usable. */
export function encodeRefusal(refusal: Refusal): Buffer {
  return encodeError({
    severity: "ERROR",
    sqlState: refusal.sqlState ?? sqlStateOf(refusal.code),
    message: refusal.message,
    detail: refusal.detail,
    hint: refusal.hint,
    position: refusal.position,
  });
}

function encodeFields(type: "E" | "N", fields: ErrorFields): Buffer {
  const parts = [
    field("S", fields.severity),
    field("V", fields.severity),
    field("C", fields.sqlState),
    field("M", fields.message),
  ];
  if (fields.detail !== undefined) parts.push(field("D", fields.detail));
  if (fields.hint !== undefined) parts.push(field("H", fields.hint));
  if (fields.position !== undefined && fields.position > 0) parts.push(field("P", String(fields.position)));
  parts.push(Buffer.from([0]));
  return encodeMessage(type, parts);
}

function field(name: string, value: string): Buffer {
  const end = value.indexOf("\0");
  return cstring(name + (end < 0 ? value : value.slice(0, end)));
}
