/**
 * Versions of what nodes say to each other. A node works with every peer whose range meets its own; each line says what is new,
 * and what a newer node does for an older one. Only ever appended to.
 */
import { GatewayError } from "@sluice/core/errors.ts";

export interface Capability {
  readonly number: number;
  readonly what: string;
}

export const capabilityHistory: readonly Capability[] = [
  { number: 1, what: "Enrolment, signed snapshots, agent links, cancel between gateways." },
  { number: 2, what: "Agents take Release and use target connections again; to a peer of 1 the connection is closed instead." },
];

/** What this version speaks at best, and the oldest it can still work with: always n and n-1. */
export const CAPABILITY = 2;
export const CAPABILITY_MIN = 1;

/** What two nodes speak with each other. Throws `incompatible` when their ranges do not meet. */
export function agreeOn(peer: { readonly capability: number; readonly capabilityMin: number }, own: number = CAPABILITY): number {
  const agreed = Math.min(own, peer.capability);
  if (agreed >= CAPABILITY_MIN && agreed >= peer.capabilityMin) return agreed;
  throw new GatewayError(
    "incompatible",
    `This node speaks versions ${CAPABILITY_MIN} to ${own}, the other ${peer.capabilityMin} to ${peer.capability}.`,
    {
      hint: "Upgrade the older one: nodes work together over one version. docs/guides/upgrade.md says in which order.",
    },
  );
}
