/** How sources of secrets are called: in messages, in bindings. A name tells where a secret is, never what it is. */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { SecretRef } from "@sluice/core/snapshot.ts";

export type SecretSource = Exclude<SecretRef, { kind: "value" }>;
export type VaultSource = Extract<SecretRef, { kind: "vaultKv" | "vaultDatabase" }>;
export type KubernetesSource = Extract<SecretRef, { kind: "kubernetes" }>;

/** For people: `environment variable X`. */
export function nameOf(source: SecretSource): string {
  switch (source.kind) {
    case "env":
      return `environment variable ${source.name}`;
    case "file":
      return `file ${source.path}`;
    case "vaultKv":
      return `Vault secret ${vaultIdentity(source)} (field ${source.field})`;
    case "vaultDatabase":
      return `Vault database account ${vaultIdentity(source)}`;
    case "kubernetes": {
      const { namespace, secret, key } = source;
      return `Kubernetes secret ${namespace === null ? secret : `${namespace}/${secret}`} (key ${key})`;
    }
    case "sealed":
      return "sealed secret";
    default:
      return assertNever(source);
  }
}

/** `MOUNT/PATH`, after `SERVER:` for a server with a name: what bindings match. A mount holds no colon, so the two are not mistaken. */
export function vaultIdentity(source: VaultSource): string {
  const path = `${source.mount}/${source.kind === "vaultKv" ? source.path : source.role}`;
  return source.vault === "default" ? path : `${source.vault}:${path}`;
}

/** The entry of `agent.secrets` that would allow it, as people write it. */
export function bindingEntryOf(source: SecretSource, namespace: string): string {
  switch (source.kind) {
    case "env":
      return `env: ${source.name}`;
    case "file":
      return `file: ${source.path}`;
    case "vaultKv":
    case "vaultDatabase":
      return `vault: "${vaultIdentity(source)}"`;
    case "kubernetes":
      return `kubernetes: "${source.namespace ?? namespace}/${source.secret}"`;
    case "sealed":
      return "sealed: true";
    default:
      return assertNever(source);
  }
}
