/** Turns whatever a command threw into lines for standard error and an exit status. It must never print a stack or a cause. */
import { GatewayError } from "@sluice/core/errors.ts";
import { AdminError } from "../admin-client.ts";
import { NegativeAnswer, UsageError } from "../context.ts";

export interface Failure {
  /** 1: refused or failed. 2: wrong usage. */
  readonly status: 1 | 2;
  readonly lines: readonly string[];
}

export function describeFailure(thrown: unknown): Failure {
  if (thrown instanceof NegativeAnswer) return { status: 1, lines: [] };
  if (thrown instanceof UsageError)
    return { status: 2, lines: [`sluice: ${thrown.message}`, "See `sluice --help` for how to use it."] };
  if (thrown instanceof AdminError) return { status: 1, lines: describeAdminError(thrown) };
  if (thrown instanceof GatewayError) {
    return { status: 1, lines: [`sluice: ${thrown.message}`, ...(thrown.hint === undefined ? [] : [`hint: ${thrown.hint}`])] };
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { status: 1, lines: [`sluice: unexpected failure: ${message}`] };
}

/** Faults first, each at its place; then the sentence. Faults may already stand in the sentence: then not twice. */
function describeAdminError(error: AdminError): readonly string[] {
  const faults = error.faults.map((fault) => `${fault.file}:${fault.line}: ${fault.message}`);
  return [
    ...faults.filter((fault) => !error.message.includes(fault)),
    `sluice: ${error.message}`,
    ...(error.hint === undefined ? [] : [`hint: ${error.hint}`]),
  ];
}
