/** Turns decisions and faults into what a caller is told: a sentence, a hint, and JSON for machines. Holds no statement text. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Decision } from "@sluice/inspect/policy/decision.ts";
import type { Refusal } from "@sluice/inspect/wire/judgement.ts";

/** PostgreSQL's number for a syntax error: clients know it, and it says the same here. */
const SYNTAX_ERROR = "42601";

export function refusalOfDecision(decision: Decision): Refusal {
  const approve = decision.effect === "approve";
  const code = approve ? "needs_approval" : "denied";
  return {
    kind: "refuse",
    code,
    message: approve ? `This statement needs approval: ${decision.reason}` : decision.reason,
    hint: hintOf(decision, approve),
    detail: JSON.stringify({ code, decision: decision.id, rule: decision.rule }),
  };
}

/** The grammar did not accept the text: never forwarded, answered as the database would. */
export function refusalOfSyntax(message: string, position: number, decision: Decision): Refusal {
  return {
    kind: "refuse",
    code: "denied",
    message,
    hint: "The gateway could not parse this statement, so it was not sent to the database.",
    detail: JSON.stringify({ code: "denied", decision: decision.id, rule: decision.rule }),
    sqlState: SYNTAX_ERROR,
    ...(position > 0 ? { position } : {}),
  };
}

export function refusalOfError(error: GatewayError): Refusal {
  return {
    kind: "refuse",
    code: error.code,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    detail: JSON.stringify({ ...error.detail, code: error.code }),
  };
}

function hintOf(decision: Decision, approve: boolean): string {
  if (approve)
    return "Approvals cannot be given on this gateway yet: ask a reviewer to run the statement, or ask the platform team for an allow rule.";
  if (decision.hint !== undefined) return decision.hint;
  return `Decided by ${decision.rule}. Ask the platform team if you need this, and name decision ${decision.id}.`;
}

/** The caller gave up a statement that waited here: in the words the database has for it. */
export function cancelledError(): GatewayError {
  return new GatewayError("cancelled", "canceling statement due to user request");
}
