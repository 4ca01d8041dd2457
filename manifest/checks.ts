/**
 * Checks that JSON Schema cannot express, by the name that schemas use in `x-check`. Each takes any value and keeps silent
 * about what is not of the shape it looks at: the schema speaks of shapes, so that all faults come out in one round.
 */
import { type Check, type CheckFault, here, isMapping, list, mapping } from "./check-faults.ts";
import { configChecks } from "./config-checks.ts";
import { resourceChecks } from "./resource-checks.ts";
import { isLoopback, parseDurationMs } from "./words.ts";

export type { CheckFault } from "./check-faults.ts";

/** An approval that nobody gave within a day is not wanted any more. Milliseconds. */
const APPROVAL_TIMEOUT_MS_MAX = 24 * 3_600_000;

export const checks: Readonly<Record<string, Check>> = {
  ...configChecks,
  ...resourceChecks,
  keyUrl: checkKeyUrl,
  approvalTimeout: checkApprovalTimeout,
  classifierMatches: checkClassifierMatches,
  valueDetector: checkValueDetector,
  partialKeeps: (value) => {
    const { keepFirst = 0, keepLast = 0, ...others } = mapping(value);
    const said = Object.keys(mapping(value)).length === 0 || Object.keys(others).length > 0;
    if (said || keepFirst !== 0 || keepLast !== 0) return [];
    return here((where) => `${where} keeps nothing; write operator: redact to hide the whole value`);
  },
  uniqueRuleNames: checkUniqueRuleNames,
};

/** Keys fetched over plain HTTP are whoever's stands between; on loopback nobody does. */
function checkKeyUrl(value: unknown): readonly CheckFault[] {
  if (typeof value !== "string") return [];
  const url = URL.parse(value);
  if (url === null || url.username !== "" || url.password !== "" || url.hash !== "") {
    return here((where) => `${where} must be a URL without user, password and fragment`);
  }
  if (url.protocol === "https:" || isLoopback(url.hostname.replaceAll(/[[\]]/g, ""))) return [];
  return here((where) => `${where} must be https (http only on loopback), since signing keys are fetched from it`);
}

function checkApprovalTimeout(value: unknown): readonly CheckFault[] {
  const timeoutMs = typeof value === "string" ? parseDurationMs(value) : undefined;
  if (timeoutMs === undefined || (timeoutMs > 0 && timeoutMs <= APPROVAL_TIMEOUT_MS_MAX)) return [];
  return here((where) => `${where} must be longer than nothing and at most 24h`);
}

function checkClassifierMatches(value: unknown): readonly CheckFault[] {
  if (!isMapping(value) || ["columns", "columnNames", "values"].some((key) => value[key] !== undefined)) return [];
  return here((where) => `${where} needs at least one of columns, columnNames and values, or the classifier would match nothing`);
}

function checkValueDetector(value: unknown): readonly CheckFault[] {
  if (!isMapping(value)) return [];
  if (value["detector"] === undefined && value["pattern"] === undefined)
    return here((where) => `${where} needs a detector or a pattern`);
  const extra = ["pattern", "validator", "context"].filter((key) => value[key] !== undefined);
  if (value["detector"] === undefined || extra.length === 0) return [];
  return here((where) => `${where} has a built-in detector, which takes no ${extra.join(", ")}; use either detector or pattern`);
}

function checkUniqueRuleNames(value: unknown): readonly CheckFault[] {
  const seen = new Map<unknown, number>();
  return list(value).flatMap((rule, index): readonly CheckFault[] => {
    const { name } = mapping(rule);
    const first = seen.get(name);
    if (typeof name !== "string") return [];
    if (first === undefined) {
      seen.set(name, index);
      return [];
    }
    return [
      { path: [index, "name"], says: (where) => `${where} is the name of rule ${first} (counted from 0) of this policy too` },
    ];
  });
}
