/**
 * What of a resource is protected for a principal, whatever the statement: rules by kind, columns that some mask rule covers.
 * Mask rules with a condition count here as if it held: built-in denials must not depend on what a statement looks like.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { ResourceSpec, RuleSpec } from "@sluice/core/snapshot.ts";
import type { CompiledRule, CompiledSnapshot } from "./compile.ts";
import type { ColumnLabels } from "./labels.ts";
import { matchesPrincipal, matchesResource } from "./selectors.ts";

type RuleOf<Effect extends RuleSpec["effect"]> = CompiledRule<Extract<RuleSpec, { readonly effect: Effect }>>;
export type MaskRule = RuleOf<"mask">;

/** Rules of all policies that speak of one principal and one resource, each list in the order of policy and rule names. */
export interface ApplicableRules {
  readonly policies: number;
  readonly allow: readonly RuleOf<"allow">[];
  readonly approve: readonly RuleOf<"approve">[];
  readonly deny: readonly RuleOf<"deny">[];
  readonly mask: readonly MaskRule[];
  readonly limit: readonly RuleOf<"limit">[];
}

export interface Protection {
  /** Some column of the resource is protected for this principal. */
  readonly protects: boolean;
  readonly columns: { has(column: string): boolean };
  /** `schema.table` of every relation with a protected column. */
  readonly relations: { has(relation: string): boolean };
  /** Some entity that a mask rule covers is also looked for in the values of text columns. */
  readonly scansValues: boolean;
  /** What may be done with a protected column outside the output: the strictest of the rules that cover it. */
  influenceOf(column: string): "equality" | "allow" | "deny";
}

/** A value of this kind cannot be known: it may be any column of the resource. */
export const UNKNOWN_ORIGIN = "*";

/** Finds the rules; remembered per snapshot, principal and resource as long as these objects live. */
export function applicableRules(compiled: CompiledSnapshot, principal: Principal, resource: ResourceSpec): ApplicableRules {
  const byPrincipal = entry(ruleCache, compiled, () => new WeakMap<Principal, WeakMap<ResourceSpec, ApplicableRules>>());
  const byResource = entry(byPrincipal, principal, () => new WeakMap<ResourceSpec, ApplicableRules>());
  return entry(byResource, resource, () => collectRules(compiled, principal, resource));
}

/** Finds what is protected; remembered per rules and labels as long as these objects live. */
export function protectionFor(rules: ApplicableRules, labels: ColumnLabels, compiled: CompiledSnapshot): Protection {
  const byLabels = entry(protectionCache, rules, () => new WeakMap<ColumnLabels, Protection>());
  return entry(byLabels, labels, () => collectProtection(rules, labels, compiled));
}

const ruleCache = new WeakMap<CompiledSnapshot, WeakMap<Principal, WeakMap<ResourceSpec, ApplicableRules>>>();
const protectionCache = new WeakMap<ApplicableRules, WeakMap<ColumnLabels, Protection>>();

function entry<Key extends WeakKey, Value>(cache: WeakMap<Key, Value>, key: Key, make: () => Value): Value {
  const known = cache.get(key);
  if (known !== undefined) return known;
  const made = make();
  cache.set(key, made);
  return made;
}

function collectRules(compiled: CompiledSnapshot, principal: Principal, resource: ResourceSpec): ApplicableRules {
  const policies = compiled.policies.filter(
    ({ spec }) => matchesPrincipal(spec.principals, principal) && matchesResource(spec.resources, resource),
  );
  const rules = policies.flatMap((policy) => policy.rules);
  return {
    policies: policies.length,
    allow: rules.filter((rule): rule is RuleOf<"allow"> => rule.spec.effect === "allow"),
    approve: rules.filter((rule): rule is RuleOf<"approve"> => rule.spec.effect === "approve"),
    deny: rules.filter((rule): rule is RuleOf<"deny"> => rule.spec.effect === "deny"),
    mask: rules.filter((rule): rule is MaskRule => rule.spec.effect === "mask"),
    limit: rules.filter((rule): rule is RuleOf<"limit"> => rule.spec.effect === "limit"),
  };
}

/** By sets of entities, which are few; a resource may have very many columns. */
function collectProtection(rules: ApplicableRules, labels: ColumnLabels, compiled: CompiledSnapshot): Protection {
  const influences = new Map<readonly string[], "equality" | "allow" | "deny">();
  const covered = new Set(rules.mask.flatMap((rule) => rule.spec.entities));
  for (const entities of labels.entitySets) {
    for (const rule of rules.mask) {
      if (!entities.some((entity) => rule.spec.entities.includes(entity))) continue;
      influences.set(entities, stricter(influences.get(entities) ?? "allow", rule.spec.influences));
    }
  }
  const strictest = [...influences.values()].reduce(stricter, "allow");
  const influenceOf = (column: string): "equality" | "allow" | "deny" | undefined => influences.get(labels.entitiesOf(column));
  return {
    protects: influences.size > 0,
    columns: { has: (column) => influenceOf(column) !== undefined },
    relations: { has: (relation) => labels.entitiesOfRelation(relation).some((entity) => covered.has(entity)) },
    scansValues: rules.mask.some((rule) => rule.spec.entities.some((entity) => compiled.valueEntities.has(entity))),
    influenceOf: (column) => (column === UNKNOWN_ORIGIN ? strictest : (influenceOf(column) ?? "allow")),
  };
}

function stricter(a: "equality" | "allow" | "deny", b: "equality" | "allow" | "deny"): "equality" | "allow" | "deny" {
  return influenceRank(a) >= influenceRank(b) ? a : b;
}

function influenceRank(influence: "equality" | "allow" | "deny"): number {
  switch (influence) {
    case "deny":
      return 2;
    case "equality":
      return 1;
    case "allow":
      return 0;
    default:
      return assertNever(influence);
  }
}
