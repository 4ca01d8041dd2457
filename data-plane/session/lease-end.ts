/** Sessions end with the lease of the policy that lets them run: one timer for all of them. */
import type { SnapshotSource } from "@sluice/rpc/snapshot-source.ts";
import type { PolicyStore } from "../policy-watch/policy-store.ts";
import type { LiveSessions } from "./live-sessions.ts";
import { staleError } from "./resource-access.ts";

/** Milliseconds: within the second that a revocation may take. */
const LOOK_EVERY_MS = 500;

/** Returns how to stop. Nothing is done where the policy has no lease. */
export function endWithLease(
  { lease }: SnapshotSource,
  policies: PolicyStore,
  sessions: LiveSessions,
  lookEveryMs: number = LOOK_EVERY_MS,
): () => void {
  if (lease === undefined) return () => {};
  const timer = setInterval(() => {
    const [strict, other] = [staleError(policies, true), staleError(policies, false)];
    if (strict === null && other === null) return;
    sessions.endWhere((session) => (session.strict ? strict : other));
  }, lookEveryMs);
  timer.unref();
  return () => clearInterval(timer);
}
