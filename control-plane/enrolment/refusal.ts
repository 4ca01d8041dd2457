/**
 * How an enrolment is refused. Whoever does not hold a valid token hears the same words whatever the reason; whoever does, and the
 * log, hear which it was. Never holds a token or a secret.
 */
import { GatewayError } from "@sluice/core/errors.ts";

/** Thrown inside `enrolment/` only: what goes out is `toAnswer`. */
export class Refusal extends Error {
  /** For the holder of a valid token; null for strangers. */
  readonly told: string | null;
  readonly hint: string;

  constructor(reason: string, { told, hint }: { readonly told: boolean; readonly hint: string }) {
    super(reason);
    this.name = "Refusal";
    this.told = told ? reason : null;
    this.hint = hint;
  }
}

const newToken =
  "Make a new one with `sluice nodes join-token create`; its --role and --name must be those of the node that uses it.";

/** Said to holders of the token and to the log. */
export function refuse(reason: string, hint: string = newToken): Refusal {
  return new Refusal(reason, { told: true, hint });
}

/** Said to the log alone: nothing was proven yet. */
export function refuseStranger(reason: string): Refusal {
  return new Refusal(reason, { told: false, hint: "Check that the whole token was given, to the installation that made it." });
}

export function toAnswer(refusal: Refusal): GatewayError {
  return new GatewayError("enrolment_refused", refusal.told ?? "This token is not accepted here.", { hint: refusal.hint });
}
