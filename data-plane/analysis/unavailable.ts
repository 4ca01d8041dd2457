/** The words for analyses that cannot be had. They never speak of the text. */
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { FromWorker } from "./messages.ts";
import type { ThreadEnd } from "./parse-thread.ts";

export function unavailable(text: string): GatewayError {
  return new GatewayError("analysis_unavailable", text, {
    hint: "It was not run. Send it again in a moment; if it stays, make the statement smaller or simpler.",
  });
}

export function whatHappened(reason: ThreadEnd): string {
  switch (reason) {
    case "late":
      return "The statement took too long to analyse.";
    case "broken":
      return "The statement could not be analysed.";
    case "closed":
      return "The gateway is shutting down.";
    default:
      return assertNever(reason);
  }
}

/** The error for an answer of another kind than was hoped for. */
export function refusalOf(answer: FromWorker): GatewayError {
  if (answer.kind === "refused")
    return new GatewayError(answer.code, answer.message, answer.hint === "" ? {} : { hint: answer.hint });
  return unavailable("The statement could not be analysed.");
}
