/** Bodies of the methods about the installation itself, from untrusted JSON to typed requests. Errors name the field, never its value. */
import type {
  EnrollingRole,
  HistoryAdmin,
  JoinTokensAdmin,
  NodesAdmin,
  PrincipalRef,
  PrincipalsAdmin,
  SessionsAdmin,
} from "./services.ts";
import { parseSessionId } from "@sluice/core/ids.ts";
import { fieldsOf, listOf, objectOf, sessionNotFound, textOf, wrong } from "./requests.ts";

/** A join token is for now: a week covers a rollout that waits for somebody. Seconds. */
const JOIN_TOKEN_SECONDS_MAX = 7 * 24 * 3_600;
/** Time for all nodes to learn of a new authority; a week is plenty. Seconds. */
const SIGN_AFTER_SECONDS_MAX = 7 * 24 * 3_600;
const HISTORY_MAX = 1_000;
/** Labels and hosts of one node. */
const ENTRIES_MAX = 64;

export function parseNothing(body: unknown): void {
  fieldsOf(body, "the request", []);
}

export function parseRevokeNode(body: unknown): Parameters<NodesAdmin["revoke"]>[0] {
  const { role, name, reason = "", author } = fieldsOf(body, "the request", ["role", "name", "reason", "author"]);
  return { role: roleOf(role), name: nameOf(name), reason: shortOf(reason, "reason"), author: authorOf(author) };
}

export function parseCreateJoinToken(body: unknown): Parameters<JoinTokensAdmin["create"]>[0] {
  const {
    role,
    name,
    labels = {},
    hosts = [],
    ttlSeconds = 3_600,
    author,
  } = fieldsOf(body, "the request", ["role", "name", "labels", "hosts", "ttlSeconds", "author"]);
  return {
    role: roleOf(role),
    name: name === undefined || name === null ? null : nameOf(name),
    labels: labelsOf(labels, "labels"),
    hosts: hostsOf(hosts),
    ttlMs: secondsOf(ttlSeconds, "ttlSeconds", 1, JOIN_TOKEN_SECONDS_MAX) * 1_000,
    author: authorOf(author),
  };
}

export function parseId(body: unknown): string {
  return shortOf(fieldsOf(body, "the request", ["id"])["id"], "id");
}

export function parseLabels(body: unknown): Readonly<Record<string, string>> {
  return labelsOf(fieldsOf(body, "the request", ["labels"])["labels"] ?? {}, "labels");
}

export function parseRotate(body: unknown): { readonly signAfterMs: number; readonly author: string } {
  const { signAfterSeconds = 3_600, author } = fieldsOf(body, "the request", ["signAfterSeconds", "author"]);
  return {
    signAfterMs: secondsOf(signAfterSeconds, "signAfterSeconds", 0, SIGN_AFTER_SECONDS_MAX) * 1_000,
    author: authorOf(author),
  };
}

export function parseKill(body: unknown): Parameters<SessionsAdmin["kill"]>[0] {
  const { id, reason = "", author } = fieldsOf(body, "the request", ["id", "reason", "author"]);
  const sessionId = parseSessionId(textOf(id, "id"));
  if (sessionId === undefined) throw sessionNotFound();
  return { sessionId, reason: shortOf(reason, "reason"), author: authorOf(author) };
}

export function parseDisable(body: unknown): Parameters<PrincipalsAdmin["disable"]>[0] {
  const {
    subject,
    issuer,
    owner,
    reason = "",
    author,
  } = fieldsOf(body, "the request", ["subject", "issuer", "owner", "reason", "author"]);
  return { ...principalOf({ subject, issuer, owner }), reason: shortOf(reason, "reason"), author: authorOf(author) };
}

export function parsePrincipal(body: unknown): PrincipalRef {
  return principalOf(fieldsOf(body, "the request", ["subject", "issuer", "owner"]));
}

export function parseHistory(body: unknown): Parameters<HistoryAdmin["list"]>[0] {
  const { kind, name, limit = 100 } = fieldsOf(body, "the request", ["kind", "name", "limit"]);
  if (typeof limit !== "number" || !Number.isInteger(limit) || limit < 1 || limit > HISTORY_MAX)
    throw wrong(`limit must be a whole number from 1 to ${HISTORY_MAX}`);
  return {
    ...(kind === undefined ? {} : { kind: shortOf(kind, "kind") }),
    ...(name === undefined ? {} : { name: shortOf(name, "name") }),
    limit,
  };
}

export function parseRevision(body: unknown): number {
  const { revision } = fieldsOf(body, "the request", ["revision"]);
  if (typeof revision !== "number" || !Number.isSafeInteger(revision) || revision < 1)
    throw wrong("revision must be a positive whole number");
  return revision;
}

function principalOf(fields: Readonly<Record<string, unknown>>): PrincipalRef {
  const text = (name: string): string | null => {
    const value = fields[name];
    if (value === undefined || value === null) return null;
    return shortOf(value, name) === "" ? null : shortOf(value, name);
  };
  const principal = { subject: text("subject"), issuer: text("issuer"), owner: text("owner") };
  if ((principal.subject === null) === (principal.owner === null)) throw wrong("give either subject (and its issuer) or owner");
  if (principal.owner !== null && principal.issuer !== null)
    throw wrong("issuer goes with subject; an owner is one over all issuers");
  return principal;
}

function roleOf(value: unknown): EnrollingRole {
  if (value === "gateway" || value === "agent" || value === "recorder") return value;
  throw wrong("role must be gateway, agent or recorder");
}

function nameOf(value: unknown): string {
  const name = textOf(value, "name");
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    throw wrong("name must be of lower-case letters, digits and '-', at most 63");
  return name;
}

function labelsOf(value: unknown, at: string): Readonly<Record<string, string>> {
  const entries = Object.entries(objectOf(value, at));
  if (entries.length > ENTRIES_MAX) throw wrong(`${at} has more than ${ENTRIES_MAX} entries`);
  return Object.fromEntries(
    entries.map(([name, label]) => {
      if (!/^[A-Za-z0-9._/-]{1,63}$/.test(name))
        throw wrong(`${at} has a name that is not of letters, digits, '.', '_', '/' and '-'`);
      return [name, shortOf(label, `${at}.${name}`)];
    }),
  );
}

/** Names and addresses that go into a certificate. */
function hostsOf(value: unknown): readonly string[] {
  const hosts = listOf(value, "hosts");
  if (hosts.length > ENTRIES_MAX) throw wrong(`hosts has more than ${ENTRIES_MAX} entries`);
  return hosts.map((host, at) => {
    const text = textOf(host, `hosts[${at}]`);
    if (!/^[A-Za-z0-9.:_-]{1,253}$/.test(text)) throw wrong(`hosts[${at}] must be a host name or an IP address`);
    return text;
  });
}

function secondsOf(value: unknown, at: string, min: number, max: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
  throw wrong(`${at} must be a whole number of seconds from ${min} to ${max}`);
}

function authorOf(value: unknown): string {
  return value === undefined ? "admin" : shortOf(value, "author");
}

/** One line of at most 200 characters: it is kept, listed and told. */
function shortOf(value: unknown, at: string): string {
  const text = textOf(value, at);
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  if (text.length > 200 || /[\u0000-\u001f\u007f]/.test(text)) throw wrong(`${at} must be one line of at most 200 characters`);
  return text;
}
