/**
 * From a resource to a session's connection at its PostgreSQL servers: which account, which address, a kept connection or a new
 * one. The credential is resolved for each address anew, so that no secret goes where the agent's configuration does not let it.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { CredentialSpec, ResourceSpec, TargetAccount } from "@sluice/core/snapshot.ts";
import type { Logger } from "pino";
import { type TargetAddress, TargetAddresses, tryInOrder } from "../addresses.ts";
import { toDialError } from "./dial.ts";
import { type OpenPostgresRequest, openPostgres, type PostgresConnection } from "./open.ts";
import { isApplicationName, POOLED_APPLICATION_NAME, PostgresPool } from "./pool.ts";
import { ScramKeyCache } from "./scram-keys.ts";
import { askSessionStart } from "./session-start.ts";

export interface ConnectRequest {
  readonly resource: ResourceSpec;
  readonly database: string;
  readonly account: TargetAccount;
  readonly startup: Readonly<Record<string, string>>;
  /** For a session: it may be one that was used before, where the resource has a pool, and says what names mean in it. */
  readonly pooled: boolean;
  readonly signal: AbortSignal;
}

export interface PostgresTargetsOptions {
  /** Throws GatewayError `secret_unavailable` unless all of it may go to this address. */
  readonly resolveCredential: (credential: CredentialSpec, address: TargetAddress) => Promise<LoginCredential>;
  /** The target refused what was resolved: it may have been replaced at its source just now. */
  readonly invalidateCredential: (credential: CredentialSpec) => void;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Pick<Logger, "debug">;
}

interface LoginCredential {
  readonly user: string;
  readonly password: string | undefined;
}

/** Closing ends idle connections; those in use belong to their holders. */
export class PostgresTargets {
  readonly #options: PostgresTargetsOptions;
  readonly #addresses = new TargetAddresses();
  readonly #pool: PostgresPool;
  readonly #scramKeys: ScramKeyCache;

  constructor(options: PostgresTargetsOptions) {
    this.#options = options;
    this.#pool = new PostgresPool(options);
    this.#scramKeys = new ScramKeyCache(options.random, options.limits.scramKeysMax);
  }

  /** Throws GatewayError `target_unreachable`, `target_auth_failed`, `target_protocol` or `secret_unavailable`. */
  async connect(request: ConnectRequest): Promise<PostgresConnection> {
    const { clock, limits } = this.#options;
    const { target } = request.resource;
    return await tryInOrder(
      this.#addresses.inOrder(target, clock.monotonicMs()),
      { timeoutMs: limits.targetConnectTimeoutMs, monotonicMs: () => clock.monotonicMs(), signal: request.signal },
      async (address, signal) => {
        try {
          const connection = await this.#connectTo(address, { ...request, signal });
          this.#addresses.answered(target, address, clock.monotonicMs());
          return connection;
        } catch (error) {
          throw toDialError(error);
        }
      },
    );
  }

  /** Connections that wait for a session. */
  get idle(): number {
    return this.#pool.idle;
  }

  close(): void {
    this.#pool.close();
  }

  /** A credential that was rotated a moment ago is asked for once more. */
  async #connectTo(address: TargetAddress, request: ConnectRequest): Promise<PostgresConnection> {
    const { resolveCredential, invalidateCredential } = this.#options;
    const spec = credentialOf(request.resource, request.account);
    const first = await resolveCredential(spec, address);
    try {
      return await this.#logIn(address, first, request);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== "target_auth_failed" || request.signal.aborted) throw error;
      invalidateCredential(spec);
      const second = await resolveCredential(spec, address);
      if (second.user === first.user && second.password === first.password) throw error;
      return await this.#logIn(address, second, request);
    }
  }

  async #logIn(address: TargetAddress, credential: LoginCredential, request: ConnectRequest): Promise<PostgresConnection> {
    const { resource, database, startup, signal } = request;
    const target = { ...address, tls: resource.target.tls };
    const opening: OpenPostgresRequest = { target, database, ...credential, startup, signal };
    const open = async (asked: OpenPostgresRequest): Promise<PostgresConnection> => {
      const connection = await openPostgres(asked, { ...this.#options, scramKeys: this.#scramKeys });
      requireRole(connection, request);
      return connection;
    };
    const openAsked = async (): Promise<PostgresConnection> => {
      const connection = await open(opening);
      return request.pooled ? await withSessionStart(connection, this.#options.limits, signal) : connection;
    };
    const settings = resource.target.pool;
    if (settings === undefined || !request.pooled) return await openAsked();
    const key = this.#pool.keyOf({ resource, address, ...credential, database, startup });
    const [, applicationName = ""] = Object.entries(startup).find(([name]) => isApplicationName(name)) ?? [];
    const use = { resource: resource.name, applicationName, signal };
    const kept = await this.#pool.take(key, settings, use, () => open({ ...opening, startup: withNeutralName(startup) }));
    return kept ?? (await openAsked());
  }
}

/** What names mean at first. Those who read catalogs for themselves do not ask. */
async function withSessionStart(
  connection: PostgresConnection,
  limits: Limits,
  signal: AbortSignal,
): Promise<PostgresConnection> {
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.targetConnectTimeoutMs)]);
    const session = await askSessionStart(connection, limits.targetLoginFrameBytesMax, deadline);
    return session === undefined ? connection : { ...connection, session };
  } catch (error) {
    connection.stream.destroy();
    throw error;
  }
}

function credentialOf(resource: ResourceSpec, account: TargetAccount): CredentialSpec {
  return account === "readOnly" ? (resource.readOnlyCredential ?? resource.credential) : resource.credential;
}

function withNeutralName(startup: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const others = Object.entries(startup).filter(([name]) => !isApplicationName(name));
  return { ...Object.fromEntries(others), application_name: POOLED_APPLICATION_NAME };
}

/**
 * Servers report both settings while starting up (since PostgreSQL 14). What the session asked for itself, and what is set for an
 * account that only reads, says nothing about the server.
 */
function requireRole(connection: PostgresConnection, { resource, account, startup }: ConnectRequest): void {
  if (resource.target.role !== "primary") return;
  const reported = new Map(connection.parameters);
  const ownWish = Object.entries(startup).some(([name, value]) => /default_transaction_read_only/i.test(`${name} ${value}`));
  const readOnly = account === "readWrite" && !ownWish && reported.get("default_transaction_read_only") === "on";
  if (reported.get("in_hot_standby") !== "on" && !readOnly) return;
  connection.stream.destroy();
  throw new GatewayError("target_unreachable", "None of the database's servers takes writes at the moment.", {
    hint: "Try again in a moment: after a fail-over the new primary takes a little time.",
  });
}
