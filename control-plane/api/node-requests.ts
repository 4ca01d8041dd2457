/** Requests about the installation itself, from messages of the right shape to values that make sense. Errors name the field, never its value. */
import type { RotateRequest } from "@sluice/proto/sluice/admin/v1/authority_pb.ts";
import type { BindingServiceForgetRequest, BindingServiceListRequest } from "@sluice/proto/sluice/admin/v1/binding_pb.ts";
import type { CreateJoinTokenRequest, RevokeRequest } from "@sluice/proto/sluice/admin/v1/node_pb.ts";
import type { DisableRequest } from "@sluice/proto/sluice/admin/v1/principal_pb.ts";
import type { KillRequest } from "@sluice/proto/sluice/admin/v1/session_pb.ts";
import { authorOf, parseSession, shortOf, wrong } from "./requests.ts";
import type {
  AuthoritiesAdmin,
  BindingsAdmin,
  EnrollingRole,
  JoinTokensAdmin,
  NodesAdmin,
  PrincipalRef,
  PrincipalsAdmin,
  SessionsAdmin,
} from "./services.ts";

/** A join token is for now: a week covers a rollout that waits for somebody. Seconds. */
const JOIN_TOKEN_SECONDS_MAX = 7 * 24 * 3_600;
/** Time for all nodes to learn of a new authority; a week is plenty. Seconds. */
const SIGN_AFTER_SECONDS_MAX = 7 * 24 * 3_600;
/** Labels and hosts of one node. */
const ENTRIES_MAX = 64;
/** Bindings listed at once. */
const BINDINGS_MAX = 100_000;

export function parseRevokeNode({ role, name, reason, author }: RevokeRequest): Parameters<NodesAdmin["revoke"]>[0] {
  return { role: roleOf(role), name: nameOf(name), reason: shortOf(reason, "reason"), author: authorOf(author) };
}

export function parseCreateJoinToken(request: CreateJoinTokenRequest): Parameters<JoinTokensAdmin["create"]>[0] {
  const { role, name, labels, hosts, ttlSeconds = 3_600, author } = request;
  return {
    role: roleOf(role),
    name: name === undefined ? null : nameOf(name),
    labels: parseLabels({ labels }),
    hosts: hostsOf(hosts),
    ttlMs: secondsOf(ttlSeconds, "ttlSeconds", 1, JOIN_TOKEN_SECONDS_MAX) * 1_000,
    author: authorOf(author),
  };
}

export function parseId({ id }: { readonly id: string }): string {
  return shortOf(id, "id");
}

export function parseLabels({ labels }: { readonly labels: Readonly<Record<string, string>> }): Readonly<Record<string, string>> {
  const entries = Object.entries(labels);
  if (entries.length > ENTRIES_MAX) throw wrong(`labels has more than ${ENTRIES_MAX} entries`);
  for (const [name, label] of entries) {
    if (!/^[A-Za-z0-9._/-]{1,63}$/.test(name))
      throw wrong("labels has a name that is not of letters, digits, '.', '_', '/' and '-'");
    shortOf(label, `labels.${name}`);
  }
  return labels;
}

export function parseRotate({ signAfterSeconds = 3_600, author }: RotateRequest): Parameters<AuthoritiesAdmin["rotate"]>[0] {
  return {
    signAfterMs: secondsOf(signAfterSeconds, "signAfterSeconds", 0, SIGN_AFTER_SECONDS_MAX) * 1_000,
    author: authorOf(author),
  };
}

export function parseKill({ id, reason, author }: KillRequest): Parameters<SessionsAdmin["kill"]>[0] {
  return { sessionId: parseSession({ id }), reason: shortOf(reason, "reason"), author: authorOf(author) };
}

export function parseDisable(request: DisableRequest): Parameters<PrincipalsAdmin["disable"]>[0] {
  const { reason, author } = request;
  return { ...parsePrincipal(request), reason: shortOf(reason, "reason"), author: authorOf(author) };
}

export function parsePrincipal(request: {
  readonly subject?: string | undefined;
  readonly issuer?: string | undefined;
  readonly owner?: string | undefined;
}): PrincipalRef {
  const textOf = (name: "subject" | "issuer" | "owner"): string | null => {
    const text = shortOf(request[name] ?? "", name);
    return text === "" ? null : text;
  };
  const principal = { subject: textOf("subject"), issuer: textOf("issuer"), owner: textOf("owner") };
  if ((principal.subject === null) === (principal.owner === null)) throw wrong("give either subject (and its issuer) or owner");
  if (principal.owner !== null && principal.issuer !== null)
    throw wrong("issuer goes with subject; an owner is one over all issuers");
  return principal;
}

export function parseListBindings({
  resource,
  renamed,
  limit = 1_000,
  skip = 0,
}: BindingServiceListRequest): Parameters<BindingsAdmin["list"]>[0] {
  if (limit < 1 || limit > BINDINGS_MAX) throw wrong(`limit must be a whole number from 1 to ${BINDINGS_MAX}`);
  return { resource: resource === undefined ? null : shortOf(resource, "resource"), renamed, limit, skip };
}

export function parseForgetBindings({
  resource,
  column,
  entity,
  author,
}: BindingServiceForgetRequest): Parameters<BindingsAdmin["forget"]>[0] {
  if (resource === "") throw wrong("resource is needed");
  if (column === undefined && entity === undefined) throw wrong("give a column or an entity");
  return {
    resource: shortOf(resource, "resource"),
    column: column === undefined ? null : shortOf(column, "column"),
    entity: entity === undefined ? null : shortOf(entity, "entity"),
    author: authorOf(author),
  };
}

function roleOf(role: string): EnrollingRole {
  if (role === "gateway" || role === "agent" || role === "recorder") return role;
  throw wrong("role must be gateway, agent or recorder");
}

function nameOf(name: string): string {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    throw wrong("name must be of lower-case letters, digits and '-', at most 63");
  return name;
}

/** Names and addresses that go into a certificate. */
function hostsOf(hosts: readonly string[]): readonly string[] {
  if (hosts.length > ENTRIES_MAX) throw wrong(`hosts has more than ${ENTRIES_MAX} entries`);
  for (const [at, host] of hosts.entries())
    if (!/^[A-Za-z0-9.:_-]{1,253}$/.test(host)) throw wrong(`hosts[${at}] must be a host name or an IP address`);
  return hosts;
}

function secondsOf(seconds: number, at: string, min: number, max: number): number {
  if (seconds >= min && seconds <= max) return seconds;
  throw wrong(`${at} must be a whole number of seconds from ${min} to ${max}`);
}
