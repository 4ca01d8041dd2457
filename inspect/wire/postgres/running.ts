/** Small questions about a text that runs, shared by who reads the target's answers to it. State is elsewhere. */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { StatementPlan } from "../judgement.ts";
import type { ExpectedAnswer, Run } from "./answers.ts";
import type { Frame } from "./frames.ts";
import type { Portal } from "./names.ts";
import { targetFault } from "./refusals.ts";

/** The plan of the statement that is running. Throws `target_protocol` when there are more results than statements. */
export function planOf(run: Run): StatementPlan {
  const plan = run.permission.statements[run.index];
  if (plan === undefined) throw targetFault("more results than statements");
  return plan;
}

/** Rows that count against the limit: a portal's over all its Executes. */
export function releasedRows(run: Run): number {
  const portal: Portal | null = run.portal;
  return run.rows + (portal === null ? 0 : portal.rows);
}

/** What came is no answer to what was asked. */
export function unexpected(head: ExpectedAnswer, frame: Frame): GatewayError {
  return targetFault(`message ${JSON.stringify(String.fromCharCode(frame.type))} as the answer to ${head.kind}`);
}
