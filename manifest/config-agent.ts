/** The agent's section of a configuration: defaults are filled in here. What its checks rule out throws. */
import type { AgentConfig, KubernetesConfig, SecretBinding, SecretBindingSource, VaultConfig } from "@sluice/core/config.ts";
import type { AgentShape, SecretBindingShape, VaultShape } from "./config-shape.ts";
import { checked } from "./words.ts";

/** Where Kubernetes puts what a pod needs: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/ */
const IN_CLUSTER_ADDRESS = "https://kubernetes.default.svc";
const IN_CLUSTER_CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const IN_CLUSTER_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/** `fromConfig` makes a path absolute. */
export function agentOf(shape: AgentShape, fromConfig: (path: string) => string): AgentConfig {
  const { secrets = [], nearest = 2, vaults = [], kubernetes } = shape;
  return {
    secrets: secrets.map((secret): SecretBinding => ({ source: sourceOf(secret, fromConfig), targets: secret.targets })),
    nearest,
    vaults: vaults.map((vault) => vaultOf(vault, fromConfig)),
    kubernetes: kubernetes === undefined ? null : kubernetesOf(kubernetes, fromConfig),
  };
}

function sourceOf(
  { env, file, vault, kubernetes, sealed }: SecretBindingShape,
  fromConfig: (path: string) => string,
): SecretBindingSource {
  if (env !== undefined) return { kind: "env", name: env };
  if (file !== undefined) return { kind: "file", path: fromConfig(file) };
  if (vault !== undefined) return { kind: "vault", path: vault };
  if (kubernetes !== undefined) return { kind: "kubernetes", secret: kubernetes };
  checked(sealed);
  return { kind: "sealed" };
}

function vaultOf(shape: VaultShape, fromConfig: (path: string) => string): VaultConfig {
  const { name = "default", address, caFile, namespace = null } = shape;
  return {
    name,
    address,
    caFile: caFile === undefined ? null : fromConfig(caFile),
    namespace,
    auth: vaultLoginOf(shape.auth, fromConfig),
  };
}

function vaultLoginOf(
  { tokenFile, tokenEnv, appRole, kubernetes }: VaultShape["auth"],
  fromConfig: (path: string) => string,
): VaultConfig["auth"] {
  if (tokenFile !== undefined) return { kind: "tokenFile", path: fromConfig(tokenFile) };
  if (tokenEnv !== undefined) return { kind: "tokenEnv", name: tokenEnv };
  if (appRole !== undefined) {
    const { mount = "approle", roleId, secretIdFile } = appRole;
    return { kind: "appRole", mount, roleId, secretIdFile: fromConfig(secretIdFile) };
  }
  const { mount = "kubernetes", role, tokenFile: podTokenFile = IN_CLUSTER_TOKEN } = checked(kubernetes);
  return { kind: "kubernetes", mount, role, tokenFile: fromConfig(podTokenFile) };
}

function kubernetesOf(
  {
    address = IN_CLUSTER_ADDRESS,
    caFile = IN_CLUSTER_CA,
    tokenFile = IN_CLUSTER_TOKEN,
    namespace = "",
  }: NonNullable<AgentShape["kubernetes"]>,
  fromConfig: (path: string) => string,
): KubernetesConfig {
  return { address, caFile: fromConfig(caFile), tokenFile: fromConfig(tokenFile), namespace };
}
