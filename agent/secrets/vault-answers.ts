/**
 * What Vault's answers mean: the shapes we read, and a sentence for each refusal. Bodies of errors are never repeated: plugins
 * put into them what databases said. Spec: Vault HTTP API, "Response Status Codes".
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { JsonAnswer } from "./http-json.ts";

export interface Grant {
  readonly value: string;
  /** 0: does not end. */
  readonly durationMs: number;
  readonly isRenewable: boolean;
}

/** `auth` of a login or a renewal. */
export function grantOf({ body }: JsonAnswer): Grant | undefined {
  const { client_token: value, lease_duration: seconds, renewable } = record(record(body)["auth"]);
  if (typeof value !== "string" || typeof seconds !== "number") return undefined;
  return { value, durationMs: seconds * 1_000, isRenewable: renewable === true };
}

export interface LeaseGrant {
  readonly id: string;
  readonly durationMs: number;
  readonly isRenewable: boolean;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Of a leased secret, or of the renewal of its lease (then `data` is empty). */
export function leaseOf({ body }: JsonAnswer): LeaseGrant | undefined {
  const { lease_id: id, lease_duration: seconds, renewable, data } = record(body);
  if (typeof id !== "string" || id === "" || typeof seconds !== "number") return undefined;
  return { id, durationMs: seconds * 1_000, isRenewable: renewable === true, data: record(data) };
}

/** Latest version of a KV secret: its fields, or undefined when the version is deleted or destroyed. */
export function versionOf({ body }: JsonAnswer): Readonly<Record<string, unknown>> | undefined {
  const { data } = record(record(body)["data"]);
  return typeof data === "object" && data !== null ? record(data) : undefined;
}

/** Vault answers 404 for a deleted version too, and says then which version it was. */
export function tellsVersion({ body }: JsonAnswer): boolean {
  return typeof record(record(record(body)["data"])["metadata"])["version"] === "number";
}

/** What a refusal means. `what` is what was asked for: `the secret secret/orders`. */
export function refusalOf(server: string, what: string, { status }: JsonAnswer): GatewayError {
  const [text, hint] = sentence(server, what, status);
  return new GatewayError("secret_unavailable", text, { hint });
}

function sentence(server: string, what: string, status: number): readonly [text: string, hint: string] {
  switch (status) {
    case 400:
      return [
        `The agent's ${server} refuses the request for ${what}.`,
        "Check mount and role in the resource's credential; Vault's log tells more.",
      ];
    case 403:
      return [
        `The agent's ${server} does not let it read ${what}.`,
        "Check that its token is valid, and give one of the token's policies the capability for this path.",
      ];
    case 404:
      return [
        `The agent's ${server} has nothing at ${what}.`,
        "Check mount and path in the resource's credential; a KV engine must be of version 2.",
      ];
    case 429:
      return [`The agent's ${server} limits how often it may ask.`, "Raise the quota in Vault."];
    case 307:
    case 308:
    case 472:
    case 473:
      return [
        `The agent's ${server} is a standby that does not forward requests.`,
        "Give the address of the active node in agent.vaults, or enable request forwarding.",
      ];
    case 503:
      return [`The agent's ${server} is sealed or under maintenance.`, "Unseal it; the agent asks again at the next login."];
    default:
      return [
        `The agent's ${server} answered with status ${status} for ${what}.`,
        "Look at Vault's log; the agent asks again at the next login.",
      ];
  }
}

export function strangeAnswer(server: string, what: string): GatewayError {
  return new GatewayError("secret_unavailable", `The agent's ${server} answered something that is not ${what}.`, {
    hint: "Check its address in agent.vaults, and the engine's mount and version.",
  });
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  // Any object will do: fields are looked at one by one.
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
