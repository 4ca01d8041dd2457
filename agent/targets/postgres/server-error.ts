/**
 * A target's ErrorResponse in our words. The server's own text goes into the cause, which is logged and never sent.
 * Source for numbers: PostgreSQL documentation, "PostgreSQL Error Codes".
 */
import { type ErrorCode, GatewayError } from "@sluice/core/errors.ts";
import { BodyReader } from "@sluice/inspect/wire/postgres/frames.ts";

export interface ServerError {
  /** Five characters; empty when the server gave none. */
  readonly sqlState: string;
  readonly message: string;
}

/** Enough to find the line in the server's own log. */
const LOGGED_CHARACTERS_MAX = 300;

/** Reads an ErrorResponse or NoticeResponse body. Throws `protocol_violation` when it is malformed. */
export function readErrorFields(body: Buffer): ServerError {
  const reader = new BodyReader(body);
  let sqlState = "";
  let message = "";
  for (let field = reader.byte(); field !== 0; field = reader.byte()) {
    const value = reader.cstring();
    if (field === 0x43) sqlState = /^[0-9A-Z]{5}$/.test(value) ? value : "";
    if (field === 0x4d) message = value;
  }
  return { sqlState, message };
}

/** Why a login ended, by SQLSTATE, in a sentence that tells a caller nothing about the target but what he can act on. */
export function refusedLogin(error: ServerError): GatewayError {
  const [code, text, hint] = wordsOf(error.sqlState);
  return new GatewayError(code, text, { hint, cause: serverErrorCause(error) });
}

export function serverErrorCause(error: ServerError): Error {
  return new Error(`the target said ${error.sqlState || "without a code"}: ${error.message.slice(0, LOGGED_CHARACTERS_MAX)}`);
}

function wordsOf(sqlState: string): readonly [ErrorCode, string, string] {
  const askPlatform = "Ask the platform team to look at the agent's log around this time.";
  if (sqlState.startsWith("28")) {
    return ["target_auth_failed", "The database refused the agent's credential.", askPlatform];
  }
  switch (sqlState) {
    case "42501":
      return ["target_auth_failed", "The agent's user may not connect to this database.", askPlatform];
    case "3D000":
      return ["target_unreachable", "The target has no database of this name.", "Check the database name after the resource's."];
    case "53300":
      return ["target_unreachable", "The database has no free connection at the moment.", "Try again in a moment."];
    case "57P03":
    case "57P01":
    case "57P02":
      return ["target_unreachable", "The database is starting up or shutting down.", "Try again in a moment."];
    default:
      return ["target_protocol", "The database refused the connection.", askPlatform];
  }
}
