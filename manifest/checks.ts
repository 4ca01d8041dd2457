/**
 * Checks that JSON Schema cannot express, by the name that schemas use in `x-check`. Each takes any value and keeps silent
 * about what is not of the shape it looks at: the schema speaks of shapes, so that all faults come out in one round.
 */
import { didYouMean } from "@sluice/core/did-you-mean.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ValuePath } from "./fault.ts";
import { isIpAddress, isLoopback, parseAddress, parseDurationMs } from "./words.ts";

export interface CheckFault {
  /** From the checked value on. */
  readonly path: ValuePath;
  /** The sentence; takes the place as people write it. */
  readonly says: (where: string) => string;
}

export type Check = (value: unknown) => readonly CheckFault[];

/** An approval that nobody gave within a day is not wanted any more. Milliseconds. */
const APPROVAL_TIMEOUT_MS_MAX = 24 * 3_600_000;

export const checks: Readonly<Record<string, Check>> = {
  targetAddress: (value) =>
    typeof value === "string" && parseAddress(value, false) === undefined
      ? here((where) => `${where} must be host:port, such as db.internal:5432 or [::1]:5432`)
      : [],
  listenAddress: (value) =>
    typeof value === "string" && parseAddress(value, true) === undefined
      ? here((where) => `${where} must be host:port, such as 127.0.0.1:6432 or [::1]:6432; port 0 is any free one`)
      : [],
  ipAddress: (value) =>
    typeof value === "string" && !isIpAddress(value)
      ? here((where) => `${where} must be an IP address, such as 10.0.0.7 or fd00::7`)
      : [],
  keyUrl: checkKeyUrl,
  approvalTimeout: checkApprovalTimeout,
  secretSource: (value) =>
    Object.keys(mapping(value))
      .filter((key) => key === "vault" || key === "kubernetes" || key === "sealed")
      .map((key) => ({ path: [key], says: () => `the credential source '${key}' is not available yet; use env or file` })),
  passwordSource: (value) =>
    mapping(value)["value"] === undefined
      ? []
      : [
          {
            path: ["value"],
            says: () =>
              "a password never stands in a manifest; say where the agent finds it: password: { env: NAME } or password: { file: /PATH }",
          },
        ],
  classifierMatches: checkClassifierMatches,
  valueDetector: checkValueDetector,
  partialKeeps: (value) => {
    const { keepFirst = 0, keepLast = 0, ...others } = mapping(value);
    const said = Object.keys(mapping(value)).length === 0 || Object.keys(others).length > 0;
    if (said || keepFirst !== 0 || keepLast !== 0) return [];
    return here((where) => `${where} keeps nothing; write operator: redact to hide the whole value`);
  },
  uniqueRuleNames: checkUniqueRuleNames,
  store: checkStore,
  listeners: checkListeners,
  oneSecretSource: (value) =>
    isMapping(value) && (value["env"] === undefined) === (value["file"] === undefined)
      ? here((where) => `${where} must name exactly one of env and file`)
      : [],
  eventBus: checkEventBus,
  recordingStore: (value) =>
    typeof value === "string" && !/^file:./.test(value)
      ? here((where) => `${where} must be file:DIRECTORY (relative to the data directory)`)
      : [],
  limitNames: checkLimitNames,
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

function checkStore(value: unknown): readonly CheckFault[] {
  if (typeof value !== "string" || value === "embedded") return [];
  const url = /^postgres(?:ql)?:\/\//.test(value) ? URL.parse(value) : null;
  if (url === null || url.hostname === "") return here((where) => `${where} must be embedded or postgres://user@host/database`);
  if (url.password === "" && !url.searchParams.has("password")) return [];
  return here((where) => `${where} must not hold a password; use PGPASSWORD, a password file or a client certificate`);
}

/** Of the whole `dataPlane`: no address twice, and no plain text beyond the machine. */
function checkListeners(value: unknown): readonly CheckFault[] {
  const plain = mapping(mapping(value)["tls"])["mode"] === "plaintext-loopback";
  const seen = new Map<string, number>();
  return list(mapping(value)["listeners"]).flatMap((listener, index): readonly CheckFault[] => {
    const { listen } = mapping(listener);
    const address = typeof listen === "string" ? parseAddress(listen, true) : undefined;
    if (address === undefined) return [];
    const path = ["listeners", index, "listen"];
    const key = `${address.host} ${address.port}`;
    const first = address.port === 0 ? undefined : seen.get(key);
    seen.set(key, index);
    if (first !== undefined)
      return [{ path, says: (where) => `${where} is the address of listener ${first} (counted from 0) too` }];
    if (!plain || isLoopback(address.host)) return [];
    const says = (where: string): string =>
      `${where} is not a loopback address, so dataPlane.tls cannot be plaintext-loopback: tokens would cross the network in clear`;
    return [{ path, says }];
  });
}

function checkEventBus(value: unknown): readonly CheckFault[] {
  const { bus, servers } = mapping(value);
  if (bus === "nats") return [{ path: ["bus"], says: () => "the event bus 'nats' is not available yet; use embedded" }];
  if (servers === undefined) return [];
  return [{ path: ["servers"], says: (where) => `${where} belongs to the bus 'nats'; the embedded bus has none` }];
}

function checkLimitNames(value: unknown): readonly CheckFault[] {
  return Object.keys(mapping(value))
    .filter((name) => !Object.hasOwn(defaultLimits, name))
    .map((name) => {
      const guess = didYouMean(name, Object.keys(defaultLimits));
      const help = guess === undefined ? "docs/reference/configuration.md lists them." : `Did you mean '${guess}'?`;
      return { path: [name], says: () => `there is no limit of this name. ${help}` };
    });
}

function here(says: (where: string) => string): readonly CheckFault[] {
  return [{ path: [], says }];
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function mapping(value: unknown): Readonly<Record<string, unknown>> {
  return isMapping(value) ? value : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
