/**
 * Which of a resource's credentials a session is opened with: the one that may only read, wherever policy permits the principal
 * nothing else. It must never say `readOnly` while some statement with another effect could be permitted: what a condition comes
 * to for statements that are not there yet is taken to be anything it can be.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { ResourceSpec, TargetAccount } from "@sluice/core/snapshot.ts";
import { statementClasses, type StatementClass } from "../sql/model.ts";
import type { CompiledRule, CompiledSnapshot } from "./compile.ts";
import { possibleOutcomes } from "./outcomes.ts";
import { applicableRules } from "./protection.ts";

/** Pure. A resource without a credential of its own for reading is always opened with the only one it has. */
export function accountFor(compiled: CompiledSnapshot, principal: Principal, resource: ResourceSpec): TargetAccount {
  if (resource.readOnlyCredential === undefined) return "readWrite";
  const { allow, approve } = applicableRules(compiled, principal, resource);
  const may = [...allow, ...approve].some((rule) =>
    changingClasses.some((statementClass) => mayPermit(rule, { principal, resource, statementClass })),
  );
  return may ? "readWrite" : "readOnly";
}

/** Whether a statement of this class leaves everything at the target as it is. */
export function changesNothing(statementClass: StatementClass): boolean {
  return statementClass === "read" || statementClass === "session" || statementClass === "transaction";
}

const changingClasses: readonly StatementClass[] = statementClasses.filter((one) => !changesNothing(one));

function mayPermit(
  { spec }: CompiledRule,
  facts: { readonly principal: Principal; readonly resource: ResourceSpec; readonly statementClass: StatementClass },
): boolean {
  if (spec.when === undefined) return true;
  const { yes, error } = possibleOutcomes(spec.when, facts);
  switch (spec.effect) {
    case "allow":
      return yes; // an error is no match
    case "approve":
      return yes || error; // an error is a match
    case "deny":
    case "mask":
    case "limit":
      return false;
    default:
      return assertNever(spec);
  }
}
