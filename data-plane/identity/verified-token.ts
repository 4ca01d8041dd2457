/** What a checked token says. */
import type { Principal } from "@sluice/core/principal.ts";

export interface VerifiedToken {
  readonly principal: Principal;
  /** The token's own `exp`, milliseconds since the epoch, without any tolerance. */
  readonly expiresAtMs: number;
}
