/**
 * Errors with stable codes. The code and the public text go to people; the cause is logged (without data) and never sent.
 * A code is part of the interface: it may be added, never renamed. Each protocol maps codes to its own numbers.
 */

/** What went wrong, for machines. One line a code; the comment is what it means to a caller. */
export type ErrorCode =
  // who you are
  | "login_failed" // the token was not accepted, or none was given
  | "login_timeout" // authentication was not finished in time
  | "too_many_connections" // a cap per address, principal or gateway is reached
  | "resource_unknown" // no such resource, or not for this principal: both look the same from outside
  | "tls_required" // a token was about to cross an unprotected wire
  // what you may do
  | "denied" // a rule, or the absence of one, refuses the statement
  | "needs_approval" // an approve rule matched and nobody has approved
  | "limit_reached" // a limit rule's rows are used up
  | "unsupported" // the gateway cannot judge this message kind, so it refuses it
  // what was sent
  | "protocol_violation" // malformed or out-of-state message; the session ends
  | "frame_too_large" // a declared length above the limit; the session ends
  | "statement_too_long" // statement text above the limit
  | "statement_invalid" // a NUL byte in the text, or text that is not UTF-8
  | "analysis_unavailable" // the parse worker is gone, overloaded or over its deadline
  | "cancelled" // the caller cancelled the statement before anything of it was sent on
  | "catalog_unavailable" // the target's catalog could not be read in time
  | "ddl_unannounced" // another gateway could not be told of DDL, so it was not sent on
  // the other side
  | "target_unreachable" // the database did not answer, or its TLS or address is wrong
  | "target_auth_failed" // the database refused the agent's credential
  | "target_protocol" // the database answered something the gateway does not know
  | "target_closed" // the database ended the connection in mid session
  | "secret_unavailable" // the credential's source is missing or not bound to this target
  | "agent_unavailable" // no agent that reaches the resource is linked, and none came in time
  // us
  | "policy_stale" // the lease of the last policy snapshot has ended and the control plane has not been heard of
  | "recording_unavailable" // the session cannot be made durable, so it ends
  | "killed" // an administrator or a revocation ended the session
  | "draining" // this gateway is shutting down
  | "config_invalid" // configuration or manifests have faults
  | "not_found" // no such session, recording or object
  | "unauthorized" // the admin API wants a valid token; a node's certificate or token does not allow this
  | "enrolment_refused" // a join token or workload token was not accepted
  | "incompatible" // two nodes whose capabilities do not overlap
  | "node_unreachable" // another node of the installation did not answer
  | "internal"; // a bug; the cause is in the log

export interface ErrorOptions {
  /** What to do next, for people. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Machine-readable additions for protocol details (never data, tokens or secrets). */
  readonly detail?: Readonly<Record<string, string>>;
}

/** The one error class that crosses module boundaries. `message` is public: it never holds data, tokens or secrets. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly detail: Readonly<Record<string, string>> | undefined;

  constructor(code: ErrorCode, publicText: string, options: ErrorOptions = {}) {
    super(publicText, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GatewayError";
    this.code = code;
    this.hint = options.hint;
    this.detail = options.detail;
  }
}

/** Wraps anything thrown: a GatewayError stays as it is, everything else becomes `internal` with the original as cause. */
export function toGatewayError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  return new GatewayError("internal", "The gateway met an unexpected fault and stopped this operation.", {
    cause: thrown,
    hint: "Ask the platform team to look at the gateway's log around this time.",
  });
}
