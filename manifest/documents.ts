/**
 * From a document that its schema accepts to a part of the snapshot: defaults are filled in here, and only here (resources:
 * `resource-document.ts`). Every check was made before; what a check rules out throws, since passing it on would put something
 * else in force than was written.
 */
import type { ClassifierSpec, IdentityProviderSpec, MaskOperator, PolicySpec, RuleSpec } from "@sluice/core/snapshot.ts";
import { assertNever } from "@sluice/core/assert-never.ts";
import { defaultTokenAlgorithms } from "./schema/identity-provider.ts";
import type { ClassifierShape, Envelope, IdentityProviderShape, OperatorShape, PolicyShape, RuleShape } from "./shapes.ts";
import { checked, parseDurationMs } from "./words.ts";

/** Five minutes: long enough for a person who is there, short enough for a caller that waits. Milliseconds. */
const APPROVAL_TIMEOUT_MS_DEFAULT = 5 * 60_000;

export function classifierOf({ metadata, spec }: Envelope<ClassifierShape>): ClassifierSpec {
  const { entity, columns = [], columnNames = [], values } = spec;
  const base = { name: metadata.name, entity, columns, columnNames };
  if (values === undefined) return base;
  const { detector, pattern, validator, context = [] } = values;
  if (detector !== undefined) return { ...base, values: { kind: "builtin", detector } };
  return {
    ...base,
    values: { kind: "pattern", pattern: checked(pattern), ...(validator === undefined ? {} : { validator }), context },
  };
}

export function policyOf({ metadata, spec }: Envelope<PolicyShape>): PolicySpec {
  const { claims, ...principals } = spec.principals;
  const { labels, ...resources } = spec.resources;
  return {
    name: metadata.name,
    principals: { ...principals, ...(claims === undefined ? {} : { claims: { ...claims } }) },
    resources: { ...resources, ...(labels === undefined ? {} : { labels: { ...labels } }) },
    rules: spec.rules.map(ruleOf),
  };
}

function ruleOf(rule: RuleShape): RuleSpec {
  const base = {
    name: rule.name,
    ...(rule.when === undefined ? {} : { when: rule.when }),
    ...(rule.reason === undefined ? {} : { reason: rule.reason }),
  };
  switch (rule.effect) {
    case "allow":
    case "deny":
      return { ...base, effect: rule.effect };
    case "mask": {
      const { entities, operator, influences = "equality" } = rule;
      return { ...base, effect: "mask", entities, operator: operatorOf(operator), influences };
    }
    case "limit":
      return { ...base, effect: "limit", rows: rule.rows };
    case "approve": {
      const { groups, count = 1 } = rule.reviewers;
      const timeoutMs = rule.timeout === undefined ? APPROVAL_TIMEOUT_MS_DEFAULT : checked(parseDurationMs(rule.timeout));
      return { ...base, effect: "approve", reviewers: { groups, count }, timeoutMs };
    }
    default:
      return assertNever(rule);
  }
}

function operatorOf(shape: OperatorShape): MaskOperator {
  if (shape === null || shape === "null") return { kind: "null" };
  if (shape === "redact") return { kind: "redact" };
  return { kind: "partial", keepFirst: shape.partial.keepFirst ?? 0, keepLast: shape.partial.keepLast ?? 0 };
}

export function identityProviderOf({ metadata, spec }: Envelope<IdentityProviderShape>): IdentityProviderSpec {
  const { issuer, audiences, algorithms, jwksUri, caFile, groupsClaim } = spec;
  return {
    name: metadata.name,
    issuer,
    audiences,
    algorithms: algorithms ?? defaultTokenAlgorithms,
    ...(jwksUri === undefined ? {} : { jwksUri }),
    ...(caFile === undefined ? {} : { caFile }),
    groupsClaim: groupsClaim ?? "groups",
  };
}
