/**
 * Whether the agent's own configuration lets a secret go to an address: whoever writes manifests cannot send a secret to a
 * server of his own. Checked before any source is asked.
 */
import { isIPv6 } from "node:net";
import { normalize } from "node:path";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { SecretBinding, SecretBindingSource } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { TargetSpec } from "@sluice/core/snapshot.ts";
import { matchesPattern } from "./pattern.ts";
import { bindingEntryOf, nameOf, type SecretSource, vaultIdentity } from "./source-names.ts";

export type TargetAddress = Pick<TargetSpec, "host" | "port">;

/** `namespace`: what a Kubernetes secret without one means. Throws `secret_unavailable`. */
export function requireBinding(
  source: SecretSource,
  target: TargetAddress,
  bindings: readonly SecretBinding[],
  namespace: string,
): void {
  const address = addressOf(target);
  const bound = bindings.filter((binding) => isOfSource(binding.source, source, namespace)).flatMap(({ targets }) => targets);
  if (address !== undefined && bound.some((pattern) => matchesPattern(pattern.toLowerCase(), address))) return;
  throw new GatewayError("secret_unavailable", `The agent's ${nameOf(source)} is not bound to this resource's target.`, {
    hint: `In the agent's configuration add to agent.secrets: { ${bindingEntryOf(source, namespace)}, targets: [ "HOST:PORT" ] } with the resource's target address.`,
  });
}

/** `host:port` in lower case. A colon inside a host that is no IPv6 address could pretend to be another host's port. */
export function addressOf({ host, port }: TargetAddress): string | undefined {
  if (isIPv6(host)) return `[${host.toLowerCase()}]:${port}`;
  return /^[a-z0-9._-]+$/i.test(host) ? `${host.toLowerCase()}:${port}` : undefined;
}

function isOfSource(bound: SecretBindingSource, wanted: SecretSource, namespace: string): boolean {
  switch (bound.kind) {
    case "env":
      return wanted.kind === "env" && wanted.name === bound.name;
    case "file":
      return wanted.kind === "file" && normalize(wanted.path) === normalize(bound.path);
    case "vault":
      if (wanted.kind !== "vaultKv" && wanted.kind !== "vaultDatabase") return false;
      return matchesPattern(bound.path.replace(/^default:/, ""), vaultIdentity(wanted));
    case "kubernetes": {
      if (wanted.kind !== "kubernetes") return false;
      const pattern = bound.secret.includes("/") ? bound.secret : `${namespace}/${bound.secret}`;
      return matchesPattern(pattern, `${wanted.namespace ?? namespace}/${wanted.secret}`);
    }
    case "sealed":
      return wanted.kind === "sealed";
    default:
      return assertNever(bound);
  }
}
