/** From a document of kind Resource that its schema accepts to a part of the snapshot. What a check rules out throws. */
import type { CredentialSpec, ResourceSpec, SecretRef, TargetSpec } from "@sluice/core/snapshot.ts";
import type { CredentialShape, Envelope, ResourceShape, SecretShape, VaultSecretShape } from "./shapes.ts";
import { checked, parseAddress, parseDurationMs } from "./words.ts";

/** A minute: a plan's next step finds its connection, a plan that has ended holds none. */
const POOL_IDLE_DEFAULT = "60s";

export function resourceOf({ metadata, spec }: Envelope<ResourceShape>): ResourceSpec {
  const { target, credential, credentials, agents, inspection } = spec;
  return {
    name: metadata.name,
    labels: { ...metadata.labels },
    protocol: spec.protocol,
    target: targetOf(target),
    credential: credentialOf(checked(credentials?.readWrite ?? credential)),
    ...(credentials === undefined ? {} : { readOnlyCredential: credentialOf(credentials.readOnly) }),
    ...(agents === undefined ? {} : { agents: { ...agents.labels } }),
    inspection: {
      bulkRowsMin: inspection?.bulk?.rows ?? 10_000,
      bulkLimitMax: inspection?.bulk?.limit ?? 1_000,
      safeFunctions: inspection?.safeFunctions ?? [],
      recording: inspection?.recording ?? "auto",
    },
  };
}

function targetOf(target: ResourceShape["target"]): TargetSpec {
  const { mode = "verify-full", caFile, serverName } = target.tls ?? {};
  const { failover, role, pool } = target;
  return {
    ...checked(parseAddress(target.address, false)),
    database: target.database,
    databases: target.databases ?? [],
    tls: { mode, ...(caFile === undefined ? {} : { caFile }), ...(serverName === undefined ? {} : { serverName }) },
    ...(failover === undefined ? {} : { failover: failover.map((address) => checked(parseAddress(address, false))) }),
    ...(role === undefined ? {} : { role }),
    ...(pool === undefined
      ? {}
      : { pool: { connectionsMax: pool.connections, idleMs: checked(parseDurationMs(pool.idle ?? POOL_IDLE_DEFAULT)) } }),
  };
}

function credentialOf({ username, password }: CredentialShape): CredentialSpec {
  return { username: secretOf(username), ...(password === undefined ? {} : { password: secretOf(password) }) };
}

function secretOf({ env, file, value, vault, kubernetes, sealed }: SecretShape): SecretRef {
  if (env !== undefined) return { kind: "env", name: env };
  if (file !== undefined) return { kind: "file", path: file };
  if (vault !== undefined) return vaultSecretOf(vault);
  if (kubernetes !== undefined) {
    const at = kubernetes.secret.indexOf("/");
    const namespace = at < 0 ? null : kubernetes.secret.slice(0, at);
    return { kind: "kubernetes", namespace, secret: kubernetes.secret.slice(at + 1), key: kubernetes.key };
  }
  if (sealed !== undefined) return { kind: "sealed", jwe: sealed };
  return { kind: "value", value: checked(value) };
}

function vaultSecretOf({ kv, database, mount, field, server = "default" }: VaultSecretShape): SecretRef {
  const path = checked(kv ?? database);
  const mounted = mount ?? path.slice(0, path.indexOf("/"));
  const rest = path.slice(mounted.length + 1);
  if (kv !== undefined) return { kind: "vaultKv", vault: server, mount: mounted, path: rest, field };
  const part = field === "username" || field === "password" ? field : undefined;
  return { kind: "vaultDatabase", vault: server, mount: mounted, role: rest, field: checked(part) };
}
