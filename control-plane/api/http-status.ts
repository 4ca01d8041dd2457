/** HTTP status of each error code, after Connect's mapping where one fits. https://connectrpc.com/docs/protocol#error-codes */
import type { ErrorCode } from "@sluice/core/errors.ts";

const badRequest: readonly ErrorCode[] = ["protocol_violation", "config_invalid", "statement_invalid", "statement_too_long"];
const missing: readonly ErrorCode[] = ["not_found", "resource_unknown"];
const refused: readonly ErrorCode[] = ["denied", "needs_approval"];
const busy: readonly ErrorCode[] = ["too_many_connections", "limit_reached"];
const later: readonly ErrorCode[] = [
  "analysis_unavailable",
  "catalog_unavailable",
  "target_unreachable",
  "draining",
  "recording_unavailable",
  "agent_unavailable",
  "node_unreachable",
  "policy_stale",
];

/** Codes that are in no group are faults of this side: 500. */
export function httpStatusOf(code: ErrorCode): number {
  if (code === "unauthorized" || code === "login_failed" || code === "enrolment_refused") return 401;
  if (code === "frame_too_large") return 413;
  if (code === "unsupported") return 501;
  if (badRequest.includes(code)) return 400;
  if (missing.includes(code)) return 404;
  if (refused.includes(code)) return 403;
  if (busy.includes(code)) return 429;
  if (later.includes(code)) return 503;
  return 500;
}
