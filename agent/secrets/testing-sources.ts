/** For tests of sources of secrets: a clock that can be moved, and everything that was said, to be searched for secrets. */
import type { Clock } from "@sluice/core/clock.ts";
import type { AgentConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { CredentialSpec } from "@sluice/core/snapshot.ts";
import { type Credential, createSecretSources, type OpenSecretSources, resolveCredential, type SecretLog } from "./sources.ts";

export interface TestSources {
  readonly sources: OpenSecretSources;
  /** Everything beyond real time, from now on. Milliseconds. */
  readonly advance: (ms: number) => void;
  readonly resolve: (credential: CredentialSpec) => Promise<Credential>;
  /** What people would read of the failure, causes too. */
  readonly failure: (credential: CredentialSpec) => Promise<string>;
}

export const target = { host: "db.example", port: 5432 };

/** `told` gets every log line and every error. */
export function createTestSources(
  config: Partial<AgentConfig>,
  told: string[],
  options: { readonly environment?: Readonly<Record<string, string>>; readonly limits?: Partial<Limits> } = {},
): TestSources {
  let skewMs = 0;
  const clock: Clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() + skewMs };
  const say = (...words: unknown[]): void => void told.push(JSON.stringify(words));
  const log: SecretLog = { debug: say, info: say, warn: say };
  const sources = createSecretSources({
    config: { secrets: [], vaults: [], kubernetes: null, ...config },
    readEnvironment: (name) => options.environment?.[name],
    sealingKey: null,
    limits: { ...defaultLimits, secretRequestTimeoutMs: 1_000, ...options.limits },
    clock,
    log,
  });
  const resolve = (credential: CredentialSpec): Promise<Credential> => resolveCredential(credential, target, sources);
  return {
    sources,
    advance: (ms) => {
      skewMs += ms;
    },
    resolve,
    failure: async (credential) => {
      const error: unknown = await resolve(credential).then(
        () => new Error("it should have failed"),
        (thrown: unknown) => thrown,
      );
      const text = describeAll(error);
      told.push(text);
      if (!(error instanceof GatewayError) || error.code !== "secret_unavailable") throw error;
      return `${error.message} ${error.hint ?? ""}`;
    },
  };
}

/** Message, hint, stack and causes. */
function describeAll(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, stack, cause, ...others } = error;
  return [message, stack, JSON.stringify(others), cause === undefined ? "" : describeAll(cause)].join("\n");
}
