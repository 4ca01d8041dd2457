/**
 * Secrets of one Vault server: the KV engine (version 2) and the database engine. Never writes a secret, never lists.
 * Spec: Vault HTTP API, "KV secrets engine - version 2", "Database secrets engine".
 */
import type { VaultConfig } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SecretRef } from "@sluice/core/snapshot.ts";
import { FetchedSecrets } from "./fetched.ts";
import { type Account, type AccountRole, LeasedAccounts } from "./leased-accounts.ts";
import { nameOf, type VaultSource } from "./source-names.ts";
import { refusalOf, tellsVersion, versionOf } from "./vault-answers.ts";
import { encodePath, type VaultOptions, VaultSession } from "./vault-session.ts";

type KvSource = Extract<SecretRef, { kind: "vaultKv" }>;

export interface VaultSecrets {
  /** A field of a KV secret's newest version; undefined when there is no such field. Throws GatewayError `secret_unavailable`. */
  read(source: KvSource): Promise<string | undefined>;
  /** The account that is leased for a role of the database engine. Throws GatewayError `secret_unavailable`. */
  account(role: AccountRole): Promise<Account>;
  invalidate(source: VaultSource): void;
  /** Gives back leases and the token that was got by login. */
  close(): Promise<void>;
}

/** Asks nobody for anything yet. */
export function createVaultSecrets(config: VaultConfig, options: VaultOptions): VaultSecrets {
  const session = new VaultSession(config, options);
  const accounts = new LeasedAccounts(session, options);
  const fetched = new FetchedSecrets<Readonly<Record<string, unknown>>>(options.clock, options.limits);
  return {
    read: async (source) => {
      const fields = await fetched.get(keyOf(source), () => readNewest(session, source));
      const value = Object.hasOwn(fields, source.field) ? fields[source.field] : undefined;
      if (value === undefined || typeof value === "string") return value;
      throw new GatewayError("secret_unavailable", `What the agent's ${nameOf(source)} holds is not text.`, {
        hint: "Write it as a text: numbers and structures are not taken.",
      });
    },
    account: ({ mount, role }) => {
      requirePath(`${mount}/${role}`);
      return accounts.get({ mount, role });
    },
    invalidate: (source) => {
      if (source.kind === "vaultKv") fetched.invalidate(keyOf(source));
      else accounts.invalidate(source);
    },
    close: async () => {
      fetched.clear();
      await accounts.close();
      await session.close();
    },
  };
}

/** All fields of a secret come with one request. A mount may have several parts, so the two are kept apart. */
function keyOf({ mount, path }: KvSource): string {
  return `${mount}/data/${path}`;
}

async function readNewest(session: VaultSession, source: KvSource): Promise<Readonly<Record<string, unknown>>> {
  const { mount, path } = source;
  requirePath(`${mount}/${path}`);
  const what = `the secret ${mount}/${path}`;
  const { answer } = await session.ask({ method: "GET", path: `/v1/${encodePath(mount)}/data/${encodePath(path)}` });
  const fields = answer.status === 200 ? versionOf(answer) : undefined;
  if (fields !== undefined) return fields;
  if (tellsVersion(answer)) {
    throw new GatewayError("secret_unavailable", `The newest version of ${what} in the agent's ${session.name} is deleted.`, {
      hint: "Write a new version, or undelete it.",
    });
  }
  throw refusalOf(session.name, what, answer.status === 200 ? { status: 404, body: undefined } : answer);
}

/** Segments that go up would be another secret than the one whose name was compared with the bindings. */
function requirePath(path: string): void {
  if (path.split("/").every((part) => part !== "" && part !== "." && part !== "..")) return;
  throw new GatewayError("secret_unavailable", "The resource names a Vault path that goes up or has empty parts.", {
    hint: "Write MOUNT/PATH with '/' between its parts only.",
  });
}
