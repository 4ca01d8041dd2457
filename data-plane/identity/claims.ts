/**
 * Claims of a verified token to a principal. A missing groups claim is no groups; a claim of the wrong form refuses the login,
 * because guessing what an issuer meant could give rights.
 */
import type { Principal } from "@sluice/core/principal.ts";
import type { IdentityProviderSpec } from "@sluice/core/snapshot.ts";
import type { JWTPayload } from "jose";
import { refusal } from "./refusal.ts";

/** Names end up in logs, in `application_name` at the target and on terminals: no control characters. */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const controlCharacter = /[\u0000-\u001f\u007f-\u009f]/;

/** Takes the payload of a token whose signature, issuer, audience and times were checked. Throws `login_failed` (malformed). */
export function principalOf(payload: JWTPayload, provider: IdentityProviderSpec): Principal {
  const subject = stringClaim(payload, "sub");
  if (subject === "") throw refusal("malformed", "The token names no subject (sub).");
  return {
    subject,
    issuer: provider.issuer,
    groups: groupsOf(payload, provider.groupsClaim),
    kind: stringClaim(payload, "sluice_kind") || "user",
    owner: stringClaim(payload, "sluice_owner"),
    task: stringClaim(payload, "sluice_task"),
    claims: payload,
  };
}

function groupsOf(payload: JWTPayload, claim: string): readonly string[] {
  const value = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
  if (value === undefined || value === null) return [];
  const groups: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (!groups.every((group): group is string => typeof group === "string" && !controlCharacter.test(group))) {
    throw refusal("malformed", "The token's groups claim is neither a list of names nor one name.");
  }
  return [...new Set(groups)];
}

function stringClaim(payload: JWTPayload, claim: string): string {
  const value = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
  if (value === undefined || value === null) return "";
  if (typeof value !== "string" || controlCharacter.test(value)) {
    throw refusal("malformed", `The token's ${claim} claim is not a plain text.`);
  }
  return value;
}
