/** Checks of kind Resource that JSON Schema cannot express, by the name that its schema uses in `x-check`. */
import { type Check, type CheckFault, exactlyOneOf, here, isMapping, list, mapping, textCheck } from "./check-faults.ts";
import { parseAddress, parseDurationMs } from "./words.ts";

/** A connection that nobody used for this long costs the target more than a login. Milliseconds. */
const POOL_IDLE_MS_MAX = 24 * 3_600_000;

export const resourceChecks: Readonly<Record<string, Check>> = {
  targetAddress: textCheck(
    (text) => parseAddress(text, false) !== undefined,
    "host:port, such as db.internal:5432 or [::1]:5432",
  ),
  failover: (value) => {
    const { address, failover } = mapping(value);
    return list(failover).flatMap((other, index): readonly CheckFault[] =>
      typeof other === "string" && other === address
        ? [{ path: ["failover", index], says: (where) => `${where} is the target's own address; it is tried first anyway` }]
        : [],
    );
  },
  poolIdle: (value) => {
    const idleMs = typeof value === "string" ? parseDurationMs(value) : undefined;
    if (idleMs === undefined || (idleMs > 0 && idleMs <= POOL_IDLE_MS_MAX)) return [];
    return here((where) => `${where} must be longer than nothing and at most 24h`);
  },
  oneCredential: exactlyOneOf("credential", "credentials"),
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
  accountOfOneLease: checkLease,
  vaultSecret: checkVaultSecret,
  sealedText: textCheck(isSealed, "a text as `sluice seal` prints it"),
};

/** User name and password of a leased account belong together: half of one is no account. */
function checkLease(value: unknown): readonly CheckFault[] {
  const { username, password } = mapping(value);
  const [user, secret] = [leaseOf(username), leaseOf(password)];
  if (user === undefined && secret === undefined) return [];
  if (user !== undefined && secret !== undefined && user.account === secret.account) {
    if (user.field === "username" && secret.field === "password") return [];
  }
  const says = (where: string): string =>
    `${where} must take both parts from the same leased account: username: { vault: { database: MOUNT/ROLE, field: username } }, password: { vault: { database: MOUNT/ROLE, field: password } }`;
  return here(says);
}

function leaseOf(secret: unknown): { readonly account: string; readonly field: unknown } | undefined {
  const { database, server = "default", mount = "", field } = mapping(mapping(secret)["vault"]);
  return typeof database === "string" ? { account: JSON.stringify([database, server, mount]), field } : undefined;
}

const oneEngine: Check = exactlyOneOf("kv", "database");

function checkVaultSecret(value: unknown): readonly CheckFault[] {
  const faults = oneEngine(value);
  if (faults.length > 0 || !isMapping(value)) return faults;
  const { kv, database, mount, field } = value;
  const path = kv ?? database;
  const found: CheckFault[] = [];
  if (typeof path === "string" && typeof mount === "string" && !path.startsWith(`${mount}/`)) {
    found.push({ path: ["mount"], says: (where) => `${where} must be the beginning of the path: MOUNT/…` });
  }
  const role = typeof mount === "string" ? String(database).slice(mount.length + 1) : String(database).replace(/^[^/]*\//, "");
  if (typeof database === "string" && role.includes("/")) {
    found.push({
      path: ["database"],
      says: (where) => `${where} must end with the name of a role; say with mount where the engine is, if that has several parts`,
    });
  }
  if (typeof database === "string" && field !== "username" && field !== "password" && typeof field === "string") {
    found.push({ path: ["field"], says: (where) => `${where} of a database account must be username or password` });
  }
  return found;
}

/** The outside of RFC 7516, section 7.2.1, in base64url; what is inside only agents can tell. */
function isSealed(text: string): boolean {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) return false;
  try {
    const jwe = mapping(JSON.parse(Buffer.from(text, "base64url").toString("utf8")));
    const texts = ["protected", "iv", "ciphertext", "tag"].every((field) => typeof jwe[field] === "string");
    return texts && list(jwe["recipients"]).length > 0;
  } catch {
    return false;
  }
}
