/**
 * What an agent's refusal means: the target's own failure, which another agent would meet too, or the agent's, for which another
 * agent is tried. Takes only codes that an agent may say, so that no agent can make a caller read that policy denied something.
 */
import { type ErrorCode, GatewayError } from "@sluice/core/errors.ts";
import type { Fault } from "@sluice/proto/sluice/common/v1/common_pb.ts";

/** Ours: this agent will not do, another may. `error` is what is said when there is no other. */
export class AgentFailure extends Error {
  readonly error: GatewayError;
  /** The agent does not know the resource: its declarations may be older than ours. */
  readonly behind: boolean;
  /** Only one connection broke: where there is no other agent, another connection of the same may do. */
  readonly again: boolean;

  constructor(what: string, { cause, behind = false, again = false }: AgentFailureOptions = {}) {
    super(what);
    this.name = "AgentFailure";
    this.behind = behind;
    this.again = again;
    this.error = new GatewayError("agent_unavailable", "The agent that reaches this database could not open it.", {
      cause: cause ?? this,
      hint: "Try again in a moment; if it stays so, ask the platform team to look at the agents of this resource.",
    });
  }
}

export interface AgentFailureOptions {
  readonly cause?: unknown;
  readonly behind?: boolean;
  readonly again?: boolean;
}

/** Codes of the target, and of what the agent needs for it. */
const targetCodes: ReadonlySet<string> = new Set<ErrorCode>([
  "target_unreachable",
  "target_auth_failed",
  "target_protocol",
  "target_closed",
  "secret_unavailable",
  "catalog_unavailable",
]);
/** Sentences are short; more is not one. */
const TEXT_CHARS_MAX = 1_000;

/** A GatewayError for the target's failures, an AgentFailure for everything else. */
export function agentFault(fault: Fault | undefined): GatewayError | AgentFailure {
  const code = fault?.code ?? "internal";
  const message = plain(fault?.message ?? "");
  if (isTargetCode(code)) {
    const hint = plain(fault?.hint ?? "");
    return new GatewayError(code, message === "" ? "The database could not be opened." : message, hint === "" ? {} : { hint });
  }
  const what = `the agent answered ${plain(code)}: ${message}`;
  return new AgentFailure(what, { behind: code === "resource_unknown" });
}

function isTargetCode(code: string): code is ErrorCode {
  return targetCodes.has(code);
}

/** One line without control characters. */
function plain(text: string): string {
  return text.slice(0, TEXT_CHARS_MAX).replace(/\p{Cc}+/gu, " ");
}
