/**
 * Resolves what a resource names as its credential, where the agent's own configuration allows it. Fetched afresh after a short
 * while, so that rotation needs no restart. Never puts a secret's value into an error or a log; a source's name is all that is told.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { AgentConfig, SecretBinding } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { CredentialSpec, SecretRef } from "@sluice/core/snapshot.ts";
import type { Logger } from "pino";
import { addressOf, requireBinding, type TargetAddress } from "./bindings.ts";
import { createKubernetesSecrets, type KubernetesSecrets } from "./kubernetes.ts";
import { matchesPattern } from "./pattern.ts";
import type { SealingKey } from "./sealing-key.ts";
import { readSecretFile, UnusableFile } from "./secret-file.ts";
import { nameOf, type SecretSource, type VaultSource } from "./source-names.ts";
import { createVaultSecrets, type VaultSecrets } from "./vault.ts";

export interface SecretSources {
  readonly bindings: readonly SecretBinding[];
  readonly readEnvironment: (name: string) => string | undefined;
  /** Bytes. */
  readonly secretBytesMax: number;
  /** By the name that credentials use. Absent: none is configured. */
  readonly vaults?: ReadonlyMap<string, VaultSecrets>;
  readonly kubernetes?: KubernetesSecrets;
  readonly sealingKey?: Pick<SealingKey, "decrypt">;
}

export interface SecretSourcesOptions {
  readonly config: Pick<AgentConfig, "secrets" | "vaults" | "kubernetes">;
  readonly readEnvironment: (name: string) => string | undefined;
  /** Null: sealed secrets cannot be opened. */
  readonly sealingKey: Pick<SealingKey, "decrypt"> | null;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: SecretLog;
}

export type SecretLog = Pick<Logger, "debug" | "info" | "warn">;

export interface OpenSecretSources extends SecretSources {
  /** The target refused it: the next one who asks gets a fresh one, unless it was fetched only just now. */
  invalidate(credential: CredentialSpec): void;
  /** Gives back what was leased. */
  close(): Promise<void>;
}

export interface Credential {
  readonly user: string;
  readonly password: string | undefined;
}

/** Asks nobody for anything yet. */
export function createSecretSources(options: SecretSourcesOptions): OpenSecretSources {
  const { config, limits, sealingKey } = options;
  const vaults = new Map(config.vaults.map((vault) => [vault.name, createVaultSecrets(vault, options)]));
  const kubernetes = config.kubernetes === null ? undefined : createKubernetesSecrets(config.kubernetes, options);
  const invalidateOne = (ref: SecretRef): void => {
    if (ref.kind === "vaultKv" || ref.kind === "vaultDatabase") vaults.get(ref.vault)?.invalidate(ref);
    if (ref.kind === "kubernetes") kubernetes?.invalidate(ref);
  };
  return {
    bindings: config.secrets,
    readEnvironment: options.readEnvironment,
    secretBytesMax: limits.secretBytesMax,
    vaults,
    ...(kubernetes === undefined ? {} : { kubernetes }),
    ...(sealingKey === null ? {} : { sealingKey }),
    invalidate: ({ username, password }) => {
      invalidateOne(username);
      if (password !== undefined) invalidateOne(password);
    },
    close: async () => {
      kubernetes?.close();
      await Promise.all([...vaults.values()].map((vault) => vault.close()));
    },
  };
}

/** `target` is the address that will get it. Throws GatewayError `secret_unavailable`, naming the source and what to mend. */
export async function resolveCredential(
  credential: CredentialSpec,
  target: TargetAddress,
  sources: SecretSources,
): Promise<Credential> {
  const { username, password } = credential;
  if (password?.kind === "value") {
    throw new GatewayError("secret_unavailable", "The resource holds its password itself, which is not accepted.", {
      hint: "Name an environment variable or a file of the agent: password: { env: NAME }.",
    });
  }
  const asked = [username, password].filter((ref): ref is SecretSource => ref !== undefined && ref.kind !== "value");
  const namespace = asked.some(({ kind }) => kind === "kubernetes") ? ((await sources.kubernetes?.namespace()) ?? "") : "";
  for (const source of asked) requireBinding(source, target, sources.bindings, namespace);
  if (username.kind === "vaultDatabase" && password?.kind === "vaultDatabase") {
    return await readAccount(username, password, sources);
  }
  return {
    user: username.kind === "value" ? username.value : await readSecret(username, target, sources),
    password: password === undefined ? undefined : await readSecret(password, target, sources),
  };
}

type LeasedSource = Extract<SecretRef, { kind: "vaultDatabase" }>;

/** Both parts out of one lease, even while it is being replaced. */
async function readAccount(username: LeasedSource, password: LeasedSource, sources: SecretSources): Promise<Credential> {
  const isPair =
    username.vault === password.vault &&
    username.mount === password.mount &&
    username.role === password.role &&
    username.field === "username" &&
    password.field === "password";
  if (!isPair) {
    throw new GatewayError("secret_unavailable", "The resource mixes parts of different database accounts of Vault.", {
      hint: "Take username and password from the same database role: fields username and password of one MOUNT/ROLE.",
    });
  }
  const account = await vaultOf(username, sources).account(username);
  return {
    user: requireUsable(account.username, username, sources.secretBytesMax),
    password: requireUsable(account.password, password, sources.secretBytesMax),
  };
}

async function readSecret(source: SecretSource, target: TargetAddress, sources: SecretSources): Promise<string> {
  return requireUsable(await fetchSecret(source, target, sources), source, sources.secretBytesMax);
}

async function fetchSecret(source: SecretSource, target: TargetAddress, sources: SecretSources): Promise<string | undefined> {
  switch (source.kind) {
    case "env":
      return sources.readEnvironment(source.name);
    case "file":
      return await readBoundFile(source, sources.secretBytesMax);
    case "vaultKv":
      return await vaultOf(source, sources).read(source);
    case "vaultDatabase":
      throw new GatewayError("secret_unavailable", "The resource takes half of a database account of Vault.", {
        hint: "Take both username and password from the same database role.",
      });
    case "kubernetes":
      if (sources.kubernetes === undefined) throw notConfigured(source, "agent.kubernetes: {}");
      return await sources.kubernetes.read(source);
    case "sealed":
      return await openSealed(source, target, sources);
    default:
      return assertNever(source);
  }
}

function vaultOf(source: VaultSource, { vaults }: SecretSources): VaultSecrets {
  const vault = vaults?.get(source.vault);
  if (vault !== undefined) return vault;
  const name = source.vault === "default" ? "" : `name: ${source.vault}, `;
  throw notConfigured(source, `agent.vaults: [ { ${name}address: …, auth: … } ]`);
}

function notConfigured(source: SecretSource, entry: string): GatewayError {
  return new GatewayError("secret_unavailable", `The agent has no server for its ${nameOf(source)}.`, {
    hint: `Add it to the agent's configuration: ${entry}.`,
  });
}

async function openSealed(
  source: Extract<SecretRef, { kind: "sealed" }>,
  target: TargetAddress,
  { sealingKey }: SecretSources,
): Promise<string> {
  if (sealingKey === undefined) {
    throw new GatewayError("secret_unavailable", "The agent has no key to open sealed secrets with.", {
      hint: "Start it with a data directory that it may write to.",
    });
  }
  const { secret, targets } = await sealingKey.decrypt(source.jwe);
  const address = addressOf(target);
  if (address !== undefined && matchesPattern(targets.toLowerCase(), address)) return secret;
  throw new GatewayError("secret_unavailable", "The sealed secret was sealed for other targets than this resource's.", {
    hint: "Seal it again for this resource's target address: sluice seal --target HOST:PORT.",
  });
}

async function readBoundFile(source: Extract<SecretRef, { kind: "file" }>, secretBytesMax: number): Promise<string | undefined> {
  try {
    return await readSecretFile(source.path, secretBytesMax);
  } catch (cause) {
    if (!(cause instanceof UnusableFile)) throw cause;
    if (cause.reason === "unusable") throw unusable(source);
    throw new GatewayError("secret_unavailable", `The agent cannot read its ${nameOf(source)}.`, {
      hint: "Check that the agent's account may read it.",
      cause: cause.cause,
    });
  }
}

function requireUsable(value: string | undefined, source: SecretSource, bytesMax: number): string {
  if (value === undefined || value === "") {
    throw new GatewayError("secret_unavailable", `The agent's ${nameOf(source)} is missing or empty.`, {
      hint: hintForMissing(source),
    });
  }
  if (Buffer.byteLength(value) > bytesMax || value.includes("\0")) throw unusable(source);
  return value;
}

function hintForMissing(source: SecretSource): string {
  switch (source.kind) {
    case "env":
      return "Set it in the environment that the agent is started with.";
    case "file":
      return "Write the secret into it; the agent reads it at each use.";
    case "vaultKv":
    case "vaultDatabase":
    case "kubernetes":
      return "Write the secret there; the agent reads it within seconds.";
    case "sealed":
      return "Seal it again: sluice seal.";
    default:
      return assertNever(source);
  }
}

function unusable(source: SecretSource): GatewayError {
  return new GatewayError("secret_unavailable", `What the agent's ${nameOf(source)} holds cannot be a secret.`, {
    hint: "It must be one text without NUL bytes, in a regular file if it is one, and not too long.",
  });
}
