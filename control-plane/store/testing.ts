/** For tests alone: an embedded cluster without fsync and any number of fresh databases on it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { pino } from "pino";
import { startCluster } from "./embedded-postgres.ts";
import { openStore, type Store } from "./store.ts";

export interface TestCluster {
  /** An address for `controlPlane.store`, of a database that was empty. */
  freshDatabase(): Promise<string>;
  /** A store with the whole schema, in a database of its own unless `url` says which. Closed with the cluster. */
  open(url?: string): Promise<Store>;
  close(): Promise<void>;
}

export async function startTestCluster(binariesDirectory?: string): Promise<TestCluster> {
  const directory = mkdtempSync(join(tmpdir(), "sluice-store-test-"));
  const log = pino({ level: "silent" });
  const cluster = await startCluster({
    directory,
    name: "test",
    password: "for tests",
    parameters: { fsync: "off", shared_buffers: "16MB" },
    ...(binariesDirectory === undefined ? {} : { binariesDirectory }),
    log,
  });
  const urlOf = (database: string): string =>
    `postgres://${cluster.superuser}:for%20tests@${cluster.host}:${cluster.port}/${database}`;
  const stores: Store[] = [];
  let made = 0;
  const freshDatabase = async (): Promise<string> => {
    const name = `test_${++made}`;
    const client = new Client(urlOf("postgres"));
    await client.connect();
    await client.query(`create database ${name}`);
    await client.end();
    return urlOf(name);
  };
  return {
    freshDatabase,
    open: async (url) => {
      const store = await openStore({ address: { kind: "postgres", url: url ?? (await freshDatabase()) }, directory, log });
      stores.push(store);
      return store;
    },
    close: async () => {
      await Promise.all(stores.map((store) => store.close().catch(() => undefined))); // some were closed by their test
      await cluster.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
