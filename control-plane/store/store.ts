/**
 * Opens the control plane's PostgreSQL: an embedded cluster below the data directory, or the one that the configuration names.
 * Brings the schema up to date before anything uses it. Must never put the address' password into an error or a log.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import { Kysely, PostgresDialect, sql } from "kysely";
import { type MigrationResultSet, Migrator } from "kysely/migration";
import { type ClientConfig, Pool } from "pg";
import type { Logger } from "pino";
import { type Cluster, startCluster } from "./embedded-postgres.ts";
import { storeLocks } from "./locks.ts";
import { migrations } from "./migrations.ts";
import { guardedPool } from "./store-pool.ts";
import type { Tables } from "./tables.ts";

export type StoreAddress = { readonly kind: "embedded" } | { readonly kind: "postgres"; readonly url: string };

export interface StoreOptions {
  readonly address: StoreAddress;
  /** Home of the embedded cluster. */
  readonly directory: string;
  readonly log: Logger;
  readonly limits?: Pick<Limits, "storeQueryTimeoutMs">;
}

export interface Store {
  readonly db: Kysely<Tables>;
  /** How to reach the same database with a connection of one's own (`changes.ts`). Holds a password: never log it. */
  readonly connection: ClientConfig;
  /** True when the database answers a question. Bounded by the pool's own time limits. */
  ready(): Promise<boolean>;
  /** Ends the connections, then the embedded cluster. */
  close(): Promise<void>;
}

/** The control plane is off the path of statements: a few connections serve its API and the index of sessions. */
const CONNECTIONS_MAX = 8;
const CONNECT_TIMEOUT_MS = 10_000;
/** Probes begin on a connection that is silent for so long, and find a server that is gone. */
const KEEP_ALIVE_MS = 10_000;

/** Rejects with `config_invalid` when a database that the configuration names does not answer, or its schema is newer than this version. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { address, log } = options;
  const queryTimeoutMs = (options.limits ?? defaultLimits).storeQueryTimeoutMs;
  // Checked here, because the driver's own error for a broken address quotes it with the password.
  if (address.kind === "postgres" && !URL.canParse(address.url)) {
    throw new GatewayError("config_invalid", "controlPlane.store is not an address of the form postgres://user@host/database.");
  }
  let closing = false;
  let cluster: Cluster | undefined;
  if (address.kind === "embedded") {
    cluster = await startCluster({ directory: options.directory, name: "store", log });
    void cluster.ended.then(() => {
      if (!closing) log.error("the embedded store has ended by itself: start again; sessions go on, records wait in the spool");
    });
  }
  const connection: ClientConfig = { ...addressOf(address, cluster), application_name: "sluice-control-plane" };
  const pool = new Pool({
    ...connection,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: Math.min(CONNECT_TIMEOUT_MS, queryTimeoutMs),
    statement_timeout: queryTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
  });
  // A connection that breaks must not end the process: idle (the pool says so) or in the middle of a transaction (the connection itself
  // says so, and whoever uses it gets the error of the query). The next query makes a new one.
  const broken = (error: Error): void => log.warn({ reason: codeOf(error) }, "a connection to the store broke");
  pool.on("error", broken);
  pool.on("connect", (client) => client.on("error", broken));
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool: guardedPool(pool) }) });
  const close = async (): Promise<void> => {
    closing = true;
    await db.destroy();
    await cluster?.stop();
  };
  try {
    await migrate(db, log);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    db,
    connection,
    ready: async () => {
      try {
        await pool.query("select 1");
        return true;
      } catch {
        return false;
      }
    },
    close,
  };
}

function addressOf(address: StoreAddress, cluster: Cluster | undefined): ClientConfig {
  if (address.kind === "postgres") return { connectionString: address.url };
  if (cluster === undefined) throw new Error("the embedded cluster was not started");
  return {
    host: cluster.host,
    port: cluster.port,
    user: cluster.superuser,
    password: cluster.password,
    database: "postgres", // the cluster is ours alone
  };
}

/** Replicas that start at once on a new database wait for each other here: the migrator's own lock begins only after it made its tables. */
async function migrate(db: Kysely<Tables>, log: Logger): Promise<void> {
  const { error, results } = await migrateAlone(db).catch((thrown: unknown) => ({ error: thrown, results: [] }));
  for (const result of results ?? []) log.info({ step: result.migrationName, status: result.status }, "store schema");
  if (error === undefined) return;
  const code = codeOf(error);
  throw new GatewayError("config_invalid", `The control plane's store cannot be used (${code}).`, {
    cause: error,
    hint: hintFor(code, error),
  });
}

/** What to do, by what went wrong: never the error's own words, which may quote an address. */
function hintFor(code: string, error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  if (code === "28P01" || code === "28000") {
    return "The server does not take this user with this password: check controlPlane.store, PGPASSWORD or the password file, and pg_hba.conf.";
  }
  if (message.includes("client password must be a")) {
    return "The server wants a password and there is none: give it in PGPASSWORD or a password file (PGPASSFILE).";
  }
  if (code === "3D000") return "There is no such database on the server: make it, or name another one in controlPlane.store.";
  if (code === "42501")
    return "This user may not create tables there: make it the owner of the database, or grant CREATE on its schema.";
  return "Check controlPlane.store: the server must answer, take this user (password from PGPASSWORD or a password file), and let it create tables.";
}

async function migrateAlone(db: Kysely<Tables>): Promise<MigrationResultSet> {
  return await db.transaction().execute(async (lock) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(storeLocks.migration)})`.execute(lock);
    return await new Migrator({ db, provider: migrations }).migrateToLatest();
  });
}

/** A code of Node, of PostgreSQL, or the error's class: never its message, which may quote an address or data. */
export function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if (error instanceof GatewayError && error.cause !== undefined) return codeOf(error.cause);
  const code = (error as NodeJS.ErrnoException).code;
  return typeof code === "string" ? code : error.name;
}
