/**
 * From a document that its schema accepts to a part of the snapshot, with the checks that a schema cannot make. Each function
 * reports faults by path and returns its part, or undefined when the part would not be usable.
 */
import type {
  ClassifierSpec,
  IdentityProviderSpec,
  MaskOperator,
  PolicySpec,
  ResourceSpec,
  RuleSpec,
  SecretRef,
} from "@sluice/core/snapshot.ts";
import { assertNever } from "@sluice/core/assert-never.ts";
import { showPath, type ValuePath } from "./fault.ts";
import { defaultTokenAlgorithms } from "./schema/identity-provider.ts";
import type {
  ClassifierShape,
  Envelope,
  IdentityProviderShape,
  OperatorShape,
  PolicyShape,
  ResourceShape,
  RuleShape,
  SecretShape,
} from "./shapes.ts";
import { isLoopback, parseAddress, parseDurationMs } from "./words.ts";

/** Notes a fault at a place of the document; the message is a sentence without file and line. */
export type Report = (path: ValuePath, message: string) => void;

/** An approval that nobody gave within a day is not wanted any more. Milliseconds. */
const APPROVAL_TIMEOUT_MS_MAX = 24 * 3_600_000;
/** Five minutes: long enough for a person who is there, short enough for a caller that waits. Milliseconds. */
const APPROVAL_TIMEOUT_MS_DEFAULT = 5 * 60_000;

export function resourceOf({ metadata, spec }: Envelope<ResourceShape>, report: Report): ResourceSpec | undefined {
  const { target, credential, inspection } = spec;
  const address = parseAddress(target.address, false);
  if (address === undefined) {
    const path = ["spec", "target", "address"];
    report(path, `${showPath(path)} must be host:port, such as db.internal:5432 or [::1]:5432`);
  }
  const username = secretOf(credential.username, ["spec", "credential", "username"], true, report);
  const password =
    credential.password === undefined
      ? undefined
      : secretOf(credential.password, ["spec", "credential", "password"], false, report);
  if (address === undefined || username === undefined || (credential.password !== undefined && password === undefined))
    return undefined;
  const { mode = "verify-full", caFile, serverName } = target.tls ?? {};
  return {
    name: metadata.name,
    labels: { ...metadata.labels },
    protocol: spec.protocol,
    target: {
      ...address,
      database: target.database,
      databases: target.databases ?? [],
      tls: { mode, ...(caFile === undefined ? {} : { caFile }), ...(serverName === undefined ? {} : { serverName }) },
    },
    credential: { username, ...(password === undefined ? {} : { password }) },
    inspection: {
      bulkRowsMin: inspection?.bulk?.rows ?? 10_000,
      bulkLimitMax: inspection?.bulk?.limit ?? 1_000,
      safeFunctions: inspection?.safeFunctions ?? [],
      recording: inspection?.recording ?? "auto",
    },
  };
}

function secretOf(shape: SecretShape, path: ValuePath, isUserName: boolean, report: Report): SecretRef | undefined {
  if (shape.env !== undefined) return { kind: "env", name: shape.env };
  if (shape.file !== undefined) return { kind: "file", path: shape.file };
  if (shape.value !== undefined) {
    if (isUserName) return { kind: "value", value: shape.value };
    report(
      [...path, "value"],
      "a password never stands in a manifest; say where the agent finds it: password: { env: NAME } or password: { file: /PATH }",
    );
    return undefined;
  }
  const source = Object.keys(shape)[0] ?? "";
  report([...path, source], `the credential source '${source}' is not available yet; use env or file`);
  return undefined;
}

export function classifierOf({ metadata, spec }: Envelope<ClassifierShape>, report: Report): ClassifierSpec | undefined {
  const { entity, columns = [], columnNames = [], values } = spec;
  if (columns.length + columnNames.length === 0 && values === undefined) {
    report(["spec"], "a classifier needs at least one of columns, columnNames and values, or it would match nothing");
    return undefined;
  }
  const base = { name: metadata.name, entity, columns, columnNames };
  if (values === undefined) return base;
  const path = ["spec", "values"];
  const { detector, pattern, validator, context } = values;
  if (detector !== undefined) {
    const extra = Object.keys(values).filter((key) => key !== "detector");
    if (extra.length === 0) return { ...base, values: { kind: "builtin", detector } };
    report(path, `spec.values has a built-in detector, which takes no ${extra.join(", ")}; use either detector or pattern`);
    return undefined;
  }
  if (pattern === undefined) {
    report(path, "spec.values needs a detector or a pattern");
    return undefined;
  }
  const checked = validator === undefined ? {} : { validator };
  return { ...base, values: { kind: "pattern", pattern, ...checked, context: context ?? [] } };
}

export function policyOf({ metadata, spec }: Envelope<PolicyShape>, report: Report): PolicySpec | undefined {
  const seen = new Map<string, number>();
  const rules = spec.rules.flatMap((rule, index) => {
    const path = ["spec", "rules", index];
    const first = seen.get(rule.name);
    if (first === undefined) seen.set(rule.name, index);
    else report([...path, "name"], `the rule name '${rule.name}' is taken by spec.rules[${first}] of this policy`);
    return ruleOf(rule, path, report) ?? [];
  });
  const { claims, ...principals } = spec.principals;
  const { labels, ...resources } = spec.resources;
  return {
    name: metadata.name,
    principals: { ...principals, ...(claims === undefined ? {} : { claims: { ...claims } }) },
    resources: { ...resources, ...(labels === undefined ? {} : { labels: { ...labels } }) },
    rules,
  };
}

function ruleOf(rule: RuleShape, path: ValuePath, report: Report): RuleSpec | undefined {
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
      const operator = operatorOf(rule.operator);
      if (operator === undefined) {
        report(
          [...path, "operator"],
          `${showPath([...path, "operator"])} keeps nothing; write operator: redact to hide the whole value`,
        );
        return undefined;
      }
      return { ...base, effect: "mask", entities: rule.entities, operator, influences: rule.influences ?? "equality" };
    }
    case "limit":
      return { ...base, effect: "limit", rows: rule.rows };
    case "approve": {
      const timeoutMs = rule.timeout === undefined ? APPROVAL_TIMEOUT_MS_DEFAULT : (parseDurationMs(rule.timeout) ?? 0);
      if (timeoutMs <= 0 || timeoutMs > APPROVAL_TIMEOUT_MS_MAX) {
        report([...path, "timeout"], `${showPath([...path, "timeout"])} must be longer than nothing and at most 24h`);
        return undefined;
      }
      const { groups, count = 1 } = rule.reviewers;
      return { ...base, effect: "approve", reviewers: { groups, count }, timeoutMs };
    }
    default:
      return assertNever(rule);
  }
}

function operatorOf(shape: OperatorShape): MaskOperator | undefined {
  if (shape === null || shape === "null") return { kind: "null" };
  if (shape === "redact") return { kind: "redact" };
  const { keepFirst = 0, keepLast = 0 } = shape.partial;
  return keepFirst + keepLast === 0 ? undefined : { kind: "partial", keepFirst, keepLast };
}

export function identityProviderOf({ metadata, spec }: Envelope<IdentityProviderShape>, report: Report): IdentityProviderSpec {
  const { issuer, audiences, algorithms, jwksUri, caFile, groupsClaim } = spec;
  checkUrl(issuer, ["spec", "issuer"], report);
  if (jwksUri !== undefined) checkUrl(jwksUri, ["spec", "jwksUri"], report);
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

/** Keys fetched over plain HTTP are whoever's stands between; loopback has nobody between. */
function checkUrl(text: string, path: ValuePath, report: Report): void {
  const url = URL.parse(text);
  if (url === null || url.username !== "" || url.password !== "" || url.hash !== "") {
    report(path, `${showPath(path)} must be a URL without user, password and fragment`);
  } else if (url.protocol !== "https:" && !isLoopback(url.hostname.replaceAll(/[[\]]/g, ""))) {
    report(path, `${showPath(path)} must be https (http only on loopback), since signing keys are fetched from it`);
  }
}
