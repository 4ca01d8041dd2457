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
import { type ApplicableRules, applicableRules } from "./protection.ts";

/** Pure. A resource without a credential of its own for reading is always opened with the only one it has. */
export function accountFor(compiled: CompiledSnapshot, principal: Principal, resource: ResourceSpec): TargetAccount {
  if (resource.readOnlyCredential === undefined) return "readWrite";
  // The rules of one principal on one resource are one object as long as none of the three changes: a reconnect costs nothing.
  const rules = applicableRules(compiled, principal, resource);
  const known = accounts.get(rules);
  if (known !== undefined) return known;
  const may = [...rules.allow, ...rules.approve].some((rule) => mayPermitChange(rule, principal, resource));
  const account = may ? "readWrite" : "readOnly";
  accounts.set(rules, account);
  return account;
}

const accounts = new WeakMap<ApplicableRules, TargetAccount>();

/** Whether a statement of this class leaves everything at the target as it is. */
export function changesNothing(statementClass: StatementClass): boolean {
  return statementClass === "read" || statementClass === "session" || statementClass === "transaction";
}

const changingClasses: readonly StatementClass[] = statementClasses.filter((one) => !changesNothing(one));

function mayPermitChange({ spec }: CompiledRule, principal: Principal, resource: ResourceSpec): boolean {
  if (spec.when === undefined) return true;
  const outcomes = possibleOutcomes(spec.when);
  return changingClasses.some((statementClass) => {
    const { yes, error } = outcomes({ principal, resource, statementClass });
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
  });
}
