/**
 * The agent in the same process as its gateway: the agent link without a socket between. Resolves the credential, logs in,
 * hands over the stream. It logs every open on its own, so that a gateway that opens what it should not shows.
 * Never hands out a secret, never puts one into an error or a log line.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Clock } from "@sluice/core/clock.ts";
import type { AgentConfig } from "@sluice/core/config.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ResourceSpec, TargetAccount } from "@sluice/core/snapshot.ts";
import { type EncodedCatalog, encodeCatalog } from "@sluice/rpc/encoded-catalog.ts";
import type { WatchCatalogRequest } from "@sluice/rpc/catalog-watch.ts";
import type { AgentLink, OpenTargetRequest, ReadCatalogRequest, TargetConnection } from "@sluice/rpc/agent-link.ts";
import { type AgentMetrics, noAgentMetrics } from "@sluice/telemetry/plane-metrics.ts";
import type { Logger } from "pino";
import { readPostgresCatalog } from "./catalog/postgres.ts";
import { CatalogWatches } from "./catalog/watch.ts";
import type { SealingKey } from "./secrets/sealing-key.ts";
import { createSecretSources, resolveCredential } from "./secrets/sources.ts";
import { PostgresTargets } from "./targets/postgres/connect.ts";
import type { PostgresConnection } from "./targets/postgres/open.ts";

export interface CoLocatedAgentOptions {
  /** The agent's own: which secret may go where, and who is asked for it. */
  readonly config: Pick<AgentConfig, "secrets" | "vaults" | "kubernetes">;
  /** Null: sealed secrets cannot be opened. */
  readonly sealingKey: SealingKey | null;
  readonly readEnvironment: (name: string) => string | undefined;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: AgentLog;
  readonly metrics?: Pick<AgentMetrics, "opened" | "catalogRead">;
}

export interface CoLocatedAgent extends AgentLink {
  watchCatalog(request: WatchCatalogRequest): Promise<void>;
  /** Connections to targets that wait to be used again. */
  readonly pooledConnections: number;
}

export type AgentLog = Pick<Logger, "debug" | "info" | "warn">;

/** `close` ends what is being opened or read, and connections kept for later; those handed over belong to their holders. */
export function createCoLocatedAgent(options: CoLocatedAgentOptions): CoLocatedAgent {
  const { limits, log, clock, metrics = noAgentMetrics } = options;
  const secrets = createSecretSources(options);
  const postgres = new PostgresTargets({
    ...options,
    resolveCredential: (credential, address) => resolveCredential(credential, address, secrets),
    invalidateCredential: (credential) => secrets.invalidate(credential),
  });
  const closing = new AbortController();

  const open = async (
    request: ReadCatalogRequest,
    how: { readonly account: TargetAccount; readonly startup: Readonly<Record<string, string>>; readonly pooled: boolean },
  ): Promise<PostgresConnection> => {
    const { resource, database } = request;
    requireListed(resource, database);
    switch (resource.protocol) {
      case "postgres": {
        const signal = AbortSignal.any([request.signal, closing.signal]);
        return await postgres.connect({ resource, database, ...how, signal });
      }
      default:
        return assertNever(resource.protocol);
    }
  };

  /** One line for each use of a credential, whether it succeeded or not. Catalogs are polled, so theirs is a quiet one. */
  const logged = async <Result>(
    what: "target opened" | "catalog read" | "catalog watched",
    request: ReadCatalogRequest & { readonly sessionId?: string; readonly account?: TargetAccount },
    run: () => Promise<Result>,
  ): Promise<Result> => {
    const { resource, database, sessionId, account } = request;
    const startedMs = clock.monotonicMs();
    const about = {
      resource: resource.name,
      database,
      sessionId,
      account,
      target: `${resource.target.host}:${resource.target.port}`,
    };
    const count = (outcome: string): void => {
      if (what === "target opened") metrics.opened(resource.name, outcome);
      else if (what === "catalog read") metrics.catalogRead(outcome);
    };
    try {
      const result = await run();
      count(what === "catalog read" ? "read" : "opened");
      log[what === "target opened" ? "info" : "debug"]({ ...about, tookMs: Math.round(clock.monotonicMs() - startedMs) }, what);
      return result;
    } catch (thrown) {
      const error = toGatewayError(thrown);
      count(error.code);
      log.warn({ ...about, code: error.code, reason: error.message, cause: causeText(error.cause) }, `${what}: failed`);
      throw error;
    }
  };

  const watches = new CatalogWatches({
    connect: (request) =>
      logged("catalog watched", request, () =>
        open(request, { account: "readWrite", startup: { application_name: "sluice catalog watch" }, pooled: false }),
      ),
    limits,
    clock,
  });

  return {
    get pooledConnections() {
      return postgres.idle;
    },
    openTarget: (request: OpenTargetRequest): Promise<TargetConnection> =>
      logged("target opened", request, () => open(request, { account: request.account, startup: request.startup, pooled: true })),
    readCatalog: (request: ReadCatalogRequest): Promise<EncodedCatalog> =>
      logged("catalog read", request, async () => {
        const connection = await open(request, {
          account: "readWrite",
          startup: { application_name: "sluice catalog" },
          pooled: false,
        });
        const signal = AbortSignal.any([request.signal, closing.signal]);
        return await encodeCatalog(await readPostgresCatalog(connection, limits, signal));
      }),
    watchCatalog: async (request) => {
      await watches.watch({ ...request, signal: AbortSignal.any([request.signal, closing.signal]) });
    },
    close: async () => {
      closing.abort(new Error("the agent is shutting down"));
      postgres.close();
      await secrets.close();
    },
  };
}

/** The gateway checks this too; an agent does not take its word for it. */
function requireListed(resource: ResourceSpec, database: string): void {
  if (database === resource.target.database || resource.target.databases.includes(database)) return;
  throw new GatewayError("target_unreachable", "The database is not one that the resource lists.", {
    hint: "Add it to the resource's target.databases.",
  });
}

function causeText(cause: unknown): string | undefined {
  if (!(cause instanceof Error)) return undefined;
  return cause.cause instanceof Error ? `${cause.message}: ${cause.cause.message}` : cause.message;
}
