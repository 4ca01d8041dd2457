/**
 * Turns a snapshot into what decisions run on: conditions compiled once, policies and rules in one fixed order. Must never drop a
 * rule: one whose condition has a fault fails towards no (an allow rule never matches, every other kind always does).
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { PolicySpec, ResourceSpec, RuleSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { type Condition, type ConditionFacts, compileCondition } from "./conditions.ts";
import { matchesPrincipal, matchesResource } from "./selectors.ts";

export interface CompiledSnapshot {
  readonly snapshot: Snapshot;
  /** The snapshot's content hash: `policyVersion` of every decision. */
  readonly version: string;
  /** Sorted by name; rules within sorted by name. Order in the manifests does not matter. */
  readonly policies: readonly CompiledPolicy[];
  /** Entities that some classifier can find by looking at values, with how. */
  readonly valueEntities: ReadonlySet<string>;
}

export interface CompiledPolicy {
  readonly spec: PolicySpec;
  readonly rules: readonly CompiledRule[];
}

export interface CompiledRule<Spec extends RuleSpec = RuleSpec> {
  /** `policy/rule`. */
  readonly id: string;
  readonly spec: Spec;
  /** Whether the rule holds. Facts are made only when there is a condition to ask. Never throws. */
  readonly matches: (facts: () => ConditionFacts) => RuleMatch;
}

/** `error`: the condition could not be evaluated; it counts as `no` for an allow rule and as `yes` for every other kind. */
export type RuleMatch = "yes" | "no" | "error";

/** A fault in a policy that only compiling shows. `path` leads to it inside the document, for `locate`. */
export interface PolicyFault {
  readonly kind: "Policy";
  readonly name: string;
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/**
 * Compiles all policies. With any fault the snapshot must not be put in force; `compiled` is usable even so and refuses rather
 * than allows where a condition is broken. Classifiers' value patterns are compiled by `inspect/dlp`.
 */
export function compileSnapshot(snapshot: Snapshot): {
  readonly compiled: CompiledSnapshot;
  readonly faults: readonly PolicyFault[];
} {
  const faults: PolicyFault[] = [];
  const policies = snapshot.policies.map((spec): CompiledPolicy => {
    const rules = spec.rules.map((rule, index) => compileRule(spec.name, rule, index, faults));
    return { spec, rules: rules.sort(byId) };
  });
  policies.sort((a, b) => compareText(a.spec.name, b.spec.name));
  const valueEntities = new Set(snapshot.classifiers.filter((one) => one.values !== undefined).map((one) => one.entity));
  return { compiled: { snapshot, version: snapshot.version, policies, valueEntities }, faults };
}

/**
 * Whether any policy lets this principal do anything on this resource. Without that the resource is not even named to them.
 * Conditions are not asked: they speak of statements.
 */
export function mayReach(compiled: CompiledSnapshot, principal: Principal, resource: ResourceSpec): boolean {
  return compiled.policies.some(
    ({ spec, rules }) =>
      matchesPrincipal(spec.principals, principal) &&
      matchesResource(spec.resources, resource) &&
      rules.some((rule) => rule.spec.effect === "allow" || rule.spec.effect === "approve"),
  );
}

function compileRule(policy: string, spec: RuleSpec, index: number, faults: PolicyFault[]): CompiledRule {
  const id = `${policy}/${spec.name}`;
  if (spec.when === undefined) return { id, spec, matches: () => "yes" };
  const result = compileCondition(spec.when, permitsAlone(spec));
  if (result.ok) return { id, spec, matches: (facts) => evaluate(result.condition, facts) };
  faults.push({
    kind: "Policy",
    name: policy,
    path: ["spec", "rules", index, "when"],
    message: `rule '${spec.name}': ${result.message}`,
  });
  return { id, spec, matches: () => "error" };
}

function permitsAlone(spec: RuleSpec): boolean {
  switch (spec.effect) {
    case "allow":
      return true;
    case "deny":
    case "mask":
    case "limit":
    case "approve":
      return false;
    default:
      return assertNever(spec);
  }
}

function evaluate(condition: Condition, facts: () => ConditionFacts): RuleMatch {
  try {
    return condition(facts()) ? "yes" : "no";
  } catch {
    return "error"; // what it means is the rule's kind's affair; the text may hold data and goes nowhere
  }
}

function byId(a: CompiledRule, b: CompiledRule): number {
  return compareText(a.spec.name, b.spec.name);
}

/** By code units: the same on every machine, whatever its locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
