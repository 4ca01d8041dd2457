/** How a refused login reads: a stable word for machines, a sentence and a next step for people; never the token, never a claim. */
import { GatewayError } from "@sluice/core/errors.ts";

export type LoginRefusal =
  | "malformed"
  | "issuer"
  | "algorithm"
  | "signature"
  | "audience"
  | "expired"
  | "not_yet_valid"
  | "keys_unavailable";

const hints: Readonly<Record<LoginRefusal, string>> = {
  malformed: "Give a token of your identity provider as the password.",
  issuer: "Ask the platform team which identity provider to use, or to declare yours (kind: IdentityProvider).",
  algorithm: "Ask the platform team which signing algorithms they accept for this issuer.",
  signature: "Get a new token from your identity provider and try again.",
  audience: "Ask your identity provider for a token whose audience is this gateway.",
  expired: "Get a new token and connect again.",
  not_yet_valid: "Wait until the token begins, or compare the clocks of the issuer and the gateway.",
  keys_unavailable: "Try again in a moment; if it stays, tell the platform team that the identity provider cannot be reached.",
};

/** A GatewayError `login_failed` with `detail.reason`. `cause` is logged, never sent. */
export function refusal(reason: LoginRefusal, sentence: string, cause?: unknown): GatewayError {
  return new GatewayError("login_failed", sentence, {
    hint: hints[reason],
    detail: { reason },
    ...(cause === undefined ? {} : { cause }),
  });
}
