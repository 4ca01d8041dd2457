/** Checks of kind Config that JSON Schema cannot express, by the name that its schema uses in `x-check`. */
import { didYouMean } from "@sluice/core/did-you-mean.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { type Check, type CheckFault, exactlyOneOf, here, isMapping, list, mapping, textCheck } from "./check-faults.ts";
import type { ValuePath } from "./fault.ts";
import { isIpAddress, isLoopback, parseAddress, parseDurationMs } from "./words.ts";

/** Longer than a long weekend, a node that hears nothing should stop: nobody can revoke anything on it meanwhile. */
const LEASE_MS_MAX = 7 * 24 * 3_600_000;
/** Below this, one slow heartbeat would stop a gateway. */
const LEASE_MS_MIN = 1_000;

export const configChecks: Readonly<Record<string, Check>> = {
  listenAddress: textCheck(
    (text) => parseAddress(text, true) !== undefined,
    "host:port, such as 127.0.0.1:6432 or [::1]:6432; port 0 is any free one",
  ),
  reachableAddress: textCheck(
    (text) => parseAddress(text, false) !== undefined,
    "host:port, such as gateway.example.com:6432 or [::1]:6432",
  ),
  ipAddress: textCheck(isIpAddress, "an IP address, such as 10.0.0.7 or fd00::7"),
  store: checkStore,
  sharedStore: checkSharedStore,
  listeners: checkListeners,
  hostsOfCertificate: (value) =>
    mapping(value)["mode"] === "plaintext-loopback" && mapping(value)["hosts"] !== undefined
      ? [{ path: ["hosts"], says: (where) => `${where} belongs to a certificate; with plaintext-loopback there is none` }]
      : [],
  joinSource: checkJoinSource,
  oneKeySource: exactlyOneOf("file", "env", "command"),
  oneSecretSource: exactlyOneOf("env", "file", "vault", "kubernetes", "sealed"),
  oneVaultLogin: exactlyOneOf("tokenFile", "tokenEnv", "appRole", "kubernetes"),
  workloadKeys: checkWorkloadKeys,
  uniqueNames: (value) => repeatedNames(value, undefined),
  uniqueVaultNames: (value) => repeatedNames(value, "default"),
  leaseTime: (value) => {
    const ms = typeof value === "string" ? parseDurationMs(value) : undefined;
    if (ms === undefined || (ms >= LEASE_MS_MIN && ms <= LEASE_MS_MAX)) return [];
    return here((where) => `${where} must be at least 1s and at most 168h`);
  },
  leaseOrder: checkLeaseOrder,
  secretServerUrl: checkSecretServerUrl,
  vaultPattern: textCheck(
    (text) => /^([a-z0-9-]+:)?[^\s/\\:]+(\/[^\s/\\]+)*$/.test(text) && !text.split(/[/:]/).some((part) => /^\.\.?$/.test(part)),
    "MOUNT/PATH without '/' at its ends (after SERVER: for a server with a name), in which '*' matches any run of characters",
  ),
  eventBus: checkEventBus,
  natsServer: checkNatsServer,
  recordingStore: textCheck((text) => /^file:./.test(text), "file:DIRECTORY (relative to the data directory)"),
  tracesUrl: textCheck((text) => {
    const url = /^https?:/.test(text) ? URL.parse(text) : null;
    return url !== null && url.username === "" && url.password === "";
  }, "a URL without user and password, such as http://127.0.0.1:4318/v1/traces"),
  limitNames: checkLimitNames,
};

function checkStore(value: unknown): readonly CheckFault[] {
  if (typeof value !== "string" || value === "embedded") return [];
  const url = /^postgres(?:ql)?:\/\//.test(value) ? URL.parse(value) : null;
  if (url === null || url.hostname === "") return here((where) => `${where} must be embedded or postgres://user@host/database`);
  if (url.password === "" && !url.searchParams.has("password")) return [];
  return here((where) => `${where} must not hold a password; use PGPASSWORD, a password file or a client certificate`);
}

/** Of the whole `controlPlane`: what several replicas share must be readable by each of them. */
function checkSharedStore(value: unknown): readonly CheckFault[] {
  const { store, nodes, encryptionKey } = mapping(value);
  if (typeof store !== "string" || !store.startsWith("postgres") || nodes === undefined || encryptionKey !== undefined) return [];
  const says = (where: string): string =>
    `${where} needs an encryptionKey (file, env or command): the store is a server of its own, and so must be the key to what it holds`;
  return here(says);
}

/** Of the whole `dataPlane`: no address twice, and no plain text beyond the machine. */
function checkListeners(value: unknown): readonly CheckFault[] {
  const { tls, listeners, links } = mapping(value);
  const plain = mapping(tls)["mode"] === "plaintext-loopback";
  const places: readonly (readonly [name: string, path: ValuePath, listen: unknown])[] = [
    ...list(listeners).map(
      (listener, at) =>
        [`listener ${at} (counted from 0)`, ["listeners", at, "listen"], mapping(listener)["listen"]] satisfies [
          string,
          ValuePath,
          unknown,
        ],
    ),
    ["links.control", ["links", "control"], mapping(links)["control"]],
    ["links.sessions", ["links", "sessions"], mapping(links)["sessions"]],
  ];
  const seen = new Map<string, string>();
  return places.flatMap(([name, path, listen]): readonly CheckFault[] => {
    const address = typeof listen === "string" ? parseAddress(listen, true) : undefined;
    if (address === undefined) return [];
    const key = `${address.host} ${address.port}`;
    const first = address.port === 0 ? undefined : seen.get(key);
    seen.set(key, first ?? name);
    if (first !== undefined) return [{ path, says: (where) => `${where} is the address of ${first} too` }];
    // Links have mutual TLS of their own, whatever callers have.
    if (!plain || path[0] === "links" || isLoopback(address.host)) return [];
    const says = (where: string): string =>
      `${where} is not a loopback address, so dataPlane.tls cannot be plaintext-loopback: tokens would cross the network in clear`;
    return [{ path, says }];
  });
}

const oneJoinSource: Check = exactlyOneOf("tokenFile", "tokenEnv", "workloadTokenFile");

function checkJoinSource(value: unknown): readonly CheckFault[] {
  const { workloadTokenFile, caFile } = mapping(value);
  const faults = oneJoinSource(value);
  if (faults.length > 0) return faults;
  if (workloadTokenFile !== undefined && caFile === undefined) {
    return here((where) => `${where} needs caFile beside workloadTokenFile: nothing else tells which control plane to trust`);
  }
  if (workloadTokenFile !== undefined || caFile === undefined) return [];
  return [{ path: ["caFile"], says: (where) => `${where} belongs to workloadTokenFile; a join token says itself whom to trust` }];
}

/** Tokens are checked with keys fetched from the issuer: over plain HTTP they are whoever's stands between. */
function checkWorkloadKeys(value: unknown): readonly CheckFault[] {
  const { issuer, jwksUri, tokenFile } = mapping(value);
  if (tokenFile !== undefined && jwksUri === undefined) {
    return here(
      (where) =>
        `${where} needs jwksUri beside tokenFile: a token goes to an address that is written here, not to one that is discovered`,
    );
  }
  const url = typeof issuer === "string" && jwksUri === undefined ? URL.parse(issuer) : null;
  if (url === null || url.protocol === "https:" || isLoopbackUrl(url)) return [];
  const says = (where: string): string =>
    `${where} must be https (http only on loopback), unless jwksUri says where its keys are`;
  return [{ path: ["issuer"], says }];
}

function repeatedNames(value: unknown, unnamed: string | undefined): readonly CheckFault[] {
  const seen = new Map<unknown, number>();
  return list(value).flatMap((entry, index): readonly CheckFault[] => {
    const name = mapping(entry)["name"] ?? unnamed;
    const first = seen.get(name);
    if (typeof name !== "string") return [];
    seen.set(name, first ?? index);
    if (first === undefined) return [];
    const path = mapping(entry)["name"] === undefined ? [index] : [index, "name"];
    return [{ path, says: (where) => `${where} has the name '${name}' of entry ${first} (counted from 0) too` }];
  });
}

function checkLeaseOrder(value: unknown): readonly CheckFault[] {
  const { policy = "4h", strict = "1h" } = mapping(value);
  const policyMs = typeof policy === "string" ? parseDurationMs(policy) : undefined;
  const strictMs = typeof strict === "string" ? parseDurationMs(strict) : undefined;
  if (policyMs === undefined || strictMs === undefined || strictMs <= policyMs) return [];
  return here((where) => `${where} has a strict time (1h unless given) longer than the one for all others (4h unless given)`);
}

function checkSecretServerUrl(value: unknown): readonly CheckFault[] {
  if (typeof value !== "string") return [];
  const url = /^https?:\/\//.test(value) ? URL.parse(value) : null;
  if (
    url === null ||
    url.username !== "" ||
    url.password !== "" ||
    url.search !== "" ||
    url.hash !== "" ||
    url.pathname !== "/"
  ) {
    return here((where) => `${where} must be a URL of scheme, host and port alone, such as https://vault.internal:8200`);
  }
  if (url.protocol === "https:" || isLoopbackUrl(url)) return [];
  return here((where) => `${where} must be https (http only on loopback), since secrets are fetched from it`);
}

function checkEventBus(value: unknown): readonly CheckFault[] {
  if (!isMapping(value)) return [];
  if (value["bus"] === "nats") {
    return value["servers"] === undefined
      ? here((where) => `${where} needs servers, such as [ "nats://nats.internal:4222" ], for the bus 'nats'`)
      : [];
  }
  return Object.keys(value)
    .filter((field) => ["servers", "caFile", "credentialsFile", "replicas", "streamBytes"].includes(field))
    .map((field) => ({ path: [field], says: (where) => `${where} belongs to the bus 'nats'; the embedded bus has none` }));
}

function checkNatsServer(value: unknown): readonly CheckFault[] {
  if (typeof value !== "string") return [];
  const url = /^(?:nats|tls):\/\//.test(value) ? URL.parse(value) : null;
  if (url === null || url.hostname === "" || !/^\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "") {
    return here((where) => `${where} must be nats://host:port or tls://host:port`);
  }
  if (url.username === "" && url.password === "") return [];
  return here((where) => `${where} must not hold a user or password; use credentialsFile`);
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

function isLoopbackUrl(url: URL): boolean {
  return isLoopback(url.hostname.replaceAll(/[[\]]/g, ""));
}
