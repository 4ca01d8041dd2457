/**
 * Resolves what a resource names as its credential, where the agent's own configuration allows it: whoever writes manifests
 * cannot send a secret to a server of his own. Read afresh at each use, so that rotation needs no restart.
 * Never puts a secret's value into an error or a log; a source's name is all that is told.
 */
import { open } from "node:fs/promises";
import { isIPv6 } from "node:net";
import { normalize } from "node:path";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { SecretBinding } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CredentialSpec, SecretRef, TargetSpec } from "@sluice/core/snapshot.ts";
import { matchesPattern } from "./pattern.ts";

export interface SecretSources {
  readonly bindings: readonly SecretBinding[];
  readonly readEnvironment: (name: string) => string | undefined;
  /** Bytes. */
  readonly secretBytesMax: number;
}

export interface Credential {
  readonly user: string;
  readonly password: string | undefined;
}

type SecretSource = Exclude<SecretRef, { kind: "value" }>;

/** Throws GatewayError `secret_unavailable`, naming the source and what to mend. */
export async function resolveCredential(
  credential: CredentialSpec,
  target: Pick<TargetSpec, "host" | "port">,
  sources: SecretSources,
): Promise<Credential> {
  const { username, password } = credential;
  if (password?.kind === "value") {
    throw new GatewayError("secret_unavailable", "The resource holds its password itself, which is not accepted.", {
      hint: "Name an environment variable or a file of the agent: password: { env: NAME }.",
    });
  }
  return {
    user: username.kind === "value" ? username.value : await readSecret(username, target, sources),
    password: password === undefined ? undefined : await readSecret(password, target, sources),
  };
}

async function readSecret(
  source: SecretSource,
  target: Pick<TargetSpec, "host" | "port">,
  sources: SecretSources,
): Promise<string> {
  requireBinding(source, target, sources.bindings);
  const value =
    source.kind === "env" ? sources.readEnvironment(source.name) : await readSecretFile(source.path, sources.secretBytesMax);
  if (value === undefined || value === "") {
    throw new GatewayError("secret_unavailable", `The agent's ${nameOf(source)} is missing or empty.`, {
      hint:
        source.kind === "env"
          ? "Set it in the environment that the agent is started with."
          : "Write the secret into it; the agent reads it at each use.",
    });
  }
  if (Buffer.byteLength(value) > sources.secretBytesMax || value.includes("\0")) throw unusable(source);
  return value;
}

/** A secret goes to an address only when the agent's own configuration says so. */
function requireBinding(
  source: SecretSource,
  target: Pick<TargetSpec, "host" | "port">,
  bindings: readonly SecretBinding[],
): void {
  const address = addressOf(target);
  const bound = bindings.filter((binding) => isSameSource(binding.source, source)).flatMap((binding) => binding.targets);
  if (address !== undefined && bound.some((pattern) => matchesPattern(pattern.toLowerCase(), address))) return;
  const entry = source.kind === "env" ? `env: ${source.name}` : `file: ${source.path}`;
  throw new GatewayError("secret_unavailable", `The agent's ${nameOf(source)} is not bound to this resource's target.`, {
    hint: `In the agent's configuration add to agent.secrets: { ${entry}, targets: [ "HOST:PORT" ] } with the resource's target address.`,
  });
}

/** `host:port` in lower case. A colon inside a host that is no IPv6 address could pretend to be another host's port. */
function addressOf({ host, port }: Pick<TargetSpec, "host" | "port">): string | undefined {
  if (isIPv6(host)) return `[${host.toLowerCase()}]:${port}`;
  return /^[a-z0-9._-]+$/i.test(host) ? `${host.toLowerCase()}:${port}` : undefined;
}

function isSameSource(bound: SecretBinding["source"], wanted: SecretSource): boolean {
  switch (bound.kind) {
    case "env":
      return wanted.kind === "env" && wanted.name === bound.name;
    case "file":
      return wanted.kind === "file" && normalize(wanted.path) === normalize(bound.path);
    default:
      return assertNever(bound);
  }
}

/** Without the one line end that editors and `echo` add; undefined when there is no such file. */
async function readSecretFile(path: string, bytesMax: number): Promise<string | undefined> {
  const source: SecretSource = { kind: "file", path };
  try {
    // The path that was compared with the binding, and no other: "link/../name" is somewhere else for the kernel.
    await using file = await open(normalize(path), "r");
    const state = await file.stat();
    if (!state.isFile() || state.size > bytesMax) throw unusable(source);
    return (await file.readFile("utf8")).replace(/\r?\n$/, "");
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined; // what fs rejects with
    throw new GatewayError("secret_unavailable", `The agent cannot read its ${nameOf(source)}.`, {
      hint: "Check that the agent's account may read it.",
      cause,
    });
  }
}

function unusable(source: SecretSource): GatewayError {
  return new GatewayError("secret_unavailable", `What the agent's ${nameOf(source)} holds cannot be a secret.`, {
    hint: "It must be one text without NUL bytes, in a regular file if it is one, and not too long.",
  });
}

function nameOf(source: SecretSource): string {
  return source.kind === "env" ? `environment variable ${source.name}` : `file ${source.path}`;
}
