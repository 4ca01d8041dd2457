/**
 * Messages that always fail, which the gateway forwards in place of what it refuses, and the errors it swaps in. So aborting
 * transactions, skipping to Sync and savepoints stay the target's own doing. They carry no data of the caller.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Refusal } from "../judgement.ts";
import type { Run } from "./answers.ts";
import { encodeError, encodeGatewayError } from "./errors.ts";

/** A statement and portal name that callers may not use, so that Bind, Describe and Execute of it fail. */
export const RESERVED_NAME = "sluice:none";

/** A text that no version of the grammar accepts. The decision's id lets the target's log be joined with ours. */
export function failingText(refusal: Refusal): string {
  const id = decisionId(refusal.detail);
  return id === undefined ? "sluice_refused" : `sluice_refused /* ${id} */`;
}

export function refusalOf(error: GatewayError): Refusal {
  return {
    kind: "refuse",
    code: error.code,
    message: error.message,
    detail: JSON.stringify({ code: error.code, ...error.detail }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}

/** The target's own numbers, which drivers act on: 26000 makes them prepare again. */
export function unknownName(of: "statement" | "portal", name: string): Buffer {
  const shown = Buffer.from(name, "latin1").toString("utf8");
  return encodeError({
    severity: "ERROR",
    sqlState: of === "statement" ? "26000" : "34000",
    message: of === "statement" ? `prepared statement "${shown}" does not exist` : `portal "${shown}" does not exist`,
    detail: JSON.stringify({ code: "unsupported" }),
    hint: "Only what was prepared or bound by protocol messages in this session can be used by them.",
  });
}

export function notUtf8(): GatewayError {
  return new GatewayError("statement_invalid", "The statement is not valid UTF-8.", {
    hint: "Set client_encoding to UTF8 in the client.",
  });
}

export function functionCallRefused(): GatewayError {
  return new GatewayError("unsupported", "The FunctionCall message is not served.", {
    hint: "Call the function by SELECT instead.",
  });
}

export function tooMany(what: "statements" | "portals", max: number): GatewayError {
  return new GatewayError("limit_reached", `This session has ${max} ${what} already, which is the most it may have.`, {
    hint: "Close those that are not needed any more.",
  });
}

export function reservedName(): GatewayError {
  return new GatewayError("unsupported", `The name ${RESERVED_NAME} is reserved.`, { hint: "Use another name." });
}

/** Why a result ends at its row limit. */
export function limitReached(run: Run, rowsMax: number): GatewayError {
  const undone = run.permission.statements[run.index]?.undoWhenExceeded === true ? " Its changes are undone." : "";
  const { decisionId } = run.permission;
  return new GatewayError("limit_reached", `A row limit ended this statement: ${rowsMax} rows were released.${undone}`, {
    hint: "Ask for fewer rows (a narrower WHERE, or LIMIT), or ask the platform team for a higher limit.",
    detail: { rows: String(rowsMax), ...(decisionId === undefined ? {} : { decision: decisionId }) },
  });
}

export function rowTooLarge(bytesMax: number): GatewayError {
  return new GatewayError(
    "limit_reached",
    `A row that holds masked columns is larger than ${bytesMax} bytes, so it cannot be released.`,
    {
      hint: "Select fewer or shorter columns.",
    },
  );
}

export function targetFault(what: string): GatewayError {
  return new GatewayError("target_protocol", `The database answered something that the gateway does not expect: ${what}.`, {
    hint: "The session ends, so that nothing is released unjudged. Connect again.",
  });
}

export function callerFault(what: string): GatewayError {
  return new GatewayError("protocol_violation", what);
}

export function asError(error: GatewayError): Buffer {
  return encodeGatewayError(error, "ERROR");
}

function decisionId(detail: string): string | undefined {
  const found = /"decision":"([A-Za-z0-9_-]{1,64})"/.exec(detail);
  return found?.[1];
}
