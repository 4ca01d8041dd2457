/** Several control planes on one real PostgreSQL: they start at once on an empty database, hear of changes, and share jobs. */
import { systemRandom } from "@sluice/core/system.ts";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Changes, listenForChanges } from "./changes.ts";
import { holdLease } from "./leases.ts";
import type { Store } from "./store.ts";
import { startTestCluster, type TestCluster } from "./testing.ts";

const log = pino({ level: "silent" });
let cluster: TestCluster;
const open: Changes[] = [];

beforeAll(async () => {
  cluster = await startTestCluster();
}, 60_000);

afterAll(async () => {
  await Promise.all(open.map((changes) => changes.close()));
  await cluster.close();
});

async function listen(store: Store, probeMs?: number): Promise<Changes> {
  const changes = await listenForChanges({
    connection: store.connection,
    random: systemRandom,
    log,
    ...(probeMs === undefined ? {} : { probeMs }),
  });
  open.push(changes);
  return changes;
}

it("migrates an empty database from six replicas at once", async () => {
  const url = await cluster.freshDatabase();
  const stores = await Promise.all(Array.from({ length: 6 }, () => cluster.open(url)));
  for (const store of stores) {
    const { rows } = await sql<{ n: string }>`select count(*) as n from kysely_migration`.execute(store.db);
    expect(rows).toEqual([{ n: "3" }]);
  }
});

describe("changes", () => {
  it("are heard by every replica, in order, when their transaction commits and only then", async () => {
    const url = await cluster.freshDatabase();
    const [one, two] = [await cluster.open(url), await cluster.open(url)];
    const [here, there] = [await listen(one), await listen(two)];
    const heard: string[] = [];
    const last = new Promise<void>((resolve) => {
      there.onChange("trust", (payload) => {
        heard.push(`there ${payload}`);
        if (payload === "last") resolve();
      });
    });
    here.onChange("trust", (payload) => heard.push(`here ${payload}`));
    const stop = there.onChange("nodes", (payload) => heard.push(`nodes ${payload}`));
    await one.db.transaction().execute(async (transaction) => {
      await here.notify(transaction, "trust", "in a transaction");
      await two.db.executeQuery(sql`select 1`.compile(two.db));
      expect(heard).toEqual([]);
    });
    const rolledBack = one.db.transaction().execute(async (transaction) => {
      await here.notify(transaction, "trust", "never");
      throw new Error("rolled back");
    });
    await expect(rolledBack).rejects.toThrow("rolled back");
    await here.notify(one.db, "nodes", "a b");
    await here.notify(one.db, "trust", "last");
    await last;
    stop();
    expect(heard.filter((line) => !line.startsWith("here"))).toEqual(["there in a transaction", "nodes a b", "there last"]);
    expect(heard).not.toContain("here never");
    await expect(here.notify(one.db, "Not A Topic", "")).rejects.toThrow("topic");
    await expect(here.notify(one.db, "trust", "x".repeat(8_000))).rejects.toThrow("hint");
  });

  it("may have been missed when the connection was cut: listeners are told, and hear again", async () => {
    const store = await cluster.open();
    const changes = await listen(store, 50);
    const heard: (string | null)[] = [];
    const told = new Promise<void>((resolve) => {
      changes.onChange("trust", (payload) => {
        heard.push(payload);
        if (payload === null) resolve();
      });
    });
    changes.onChange("trust", () => {
      throw new Error("a bad listener harms nobody else");
    });
    await sql`select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'select 1' or query ilike 'listen%'`.execute(
      store.db,
    );
    await told;
    const again = new Promise<void>((resolve) => {
      changes.onChange("trust", () => resolve());
    });
    await changes.notify(store.db, "trust", "again");
    await again;
    expect(heard).toEqual([null, "again"]);
  });
});

describe("leases", () => {
  it("have one holder at a time, and the next when it lets go or is not heard of", async () => {
    const store = await cluster.open();
    const options = { db: store.db, name: "job", ttlMs: 300, log };
    const running = new Set<string>();
    let overlaps = 0;
    const begun: string[] = [];
    const waiters: ((holder: string) => void)[] = [];
    const nextBegin = (): Promise<string> => new Promise((resolve) => waiters.push(resolve));
    const start = (holder: string, signal: AbortSignal): Promise<void> =>
      holdLease({ ...options, holder, signal }, async (held) => {
        running.add(holder);
        if (running.size > 1) overlaps += 1;
        begun.push(holder);
        for (const waiter of waiters.splice(0)) waiter(holder);
        await new Promise<void>((resolve) => held.addEventListener("abort", () => resolve(), { once: true }));
        running.delete(holder);
      });
    const stops = new Map(["a", "b", "c"].map((holder) => [holder, new AbortController()]));
    const first = nextBegin();
    const jobs = [...stops].map(([holder, stop]) => start(holder, stop.signal));
    const winner = await first;
    const second = nextBegin();
    stops.get(winner)?.abort();
    const successor = await second;
    expect(successor).not.toBe(winner);
    // The successor is robbed, as if the database had given its lease to somebody after a pause: it must stop.
    const stopped = new Promise<void>((resolve) => {
      const poll = setInterval(() => {
        if (running.has(successor)) return;
        clearInterval(poll);
        resolve();
      }, 10);
    });
    await store.db
      .updateTable("leases")
      .set({ holder: "robber", until: new Date(Date.now() + 600) })
      .execute();
    await stopped;
    const third = nextBegin();
    expect(await third).not.toBe(winner);
    for (const stop of stops.values()) stop.abort();
    await Promise.all(jobs);
    expect(overlaps).toBe(0);
    expect(begun.length).toBe(3);
    expect((await store.db.selectFrom("leases").selectAll().execute()).filter(({ holder }) => holder !== "robber")).toEqual([]);
  });

  it("work that throws is begun again, and a store that is away ends the work before others may begin", async () => {
    const url = await cluster.freshDatabase();
    const store = await cluster.open(url);
    const stop = new AbortController();
    let runs = 0;
    const again = Promise.withResolvers<void>();
    const endedAt = new Promise<number>((resolve) => {
      void holdLease({ db: store.db, name: "job", holder: "a", ttlMs: 200, signal: stop.signal, log }, async (held) => {
        runs += 1;
        if (runs === 1) throw new Error("once");
        again.resolve();
        await new Promise<void>((ended) => held.addEventListener("abort", () => ended(), { once: true }));
        resolve(performance.now());
      });
    });
    await again.promise;
    await store.close();
    const closedAt = performance.now();
    expect((await endedAt) - closedAt).toBeLessThan(200);
    stop.abort();
  });
});
