/** The control planes' PostgreSQL, which breaks off and comes back at its place with what it had. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cluster, startCluster } from "@sluice/control-plane/store/embedded-postgres.ts";
import pg from "pg";
import pino from "pino";

export interface FleetStore {
  readonly url: string;
  readonly password: string;
  readonly running: boolean;
  /** Without a goodbye: an immediate shutdown, so that the next start recovers from the log. */
  crash(): Promise<void>;
  start(): Promise<void>;
  /** Stops it and removes its files. */
  stop(): Promise<void>;
}

export async function startStore(): Promise<FleetStore> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-store-"));
  const at = (port: number): Promise<Cluster> =>
    startCluster({ directory, name: "store", port, parameters: { max_connections: "200" }, log: pino({ level: "silent" }) });
  let cluster: Cluster | null = await at(0);
  const { host, port, superuser, password } = cluster;
  const client = new pg.Client({ host, port, user: superuser, password, database: "postgres" });
  await client.connect();
  await client.query("CREATE DATABASE sluice");
  await client.end();
  return {
    url: `postgres://${superuser}@${host}:${port}/sluice`,
    password,
    get running() {
      return cluster !== null;
    },
    crash: async () => {
      const running = cluster;
      cluster = null;
      if (running === null) return;
      process.kill(running.pid, "SIGQUIT");
      await running.ended;
      await running.stop();
    },
    start: async () => {
      cluster ??= await at(port);
    },
    stop: async () => {
      await cluster?.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
