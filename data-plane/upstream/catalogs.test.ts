import type { Catalog } from "@sluice/core/catalog.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogEpoch, SessionId } from "@sluice/core/ids.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { systemClock } from "@sluice/core/system.ts";
import type { AgentLink, ReadCatalogRequest } from "@sluice/rpc/agent-link.ts";
import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import type { Analyser } from "../analysis/analyser.ts";
import { PolicyStore } from "../policy-watch/policy-store.ts";
import { Catalogs } from "./catalogs.ts";

const resource: ResourceSpec = {
  name: "orders",
  labels: {},
  protocol: "postgres",
  target: { host: "127.0.0.1", port: 5432, database: "orders", databases: [], tls: { mode: "disable" } },
  credential: { username: { kind: "value", value: "app" } },
  inspection: { bulkRowsMin: 1, bulkLimitMax: 1, safeFunctions: [], recording: "auto" },
};
const snapshot: Snapshot = { version: "1", resources: [resource], classifiers: [], policies: [], identityProviders: [] };
const session = "s_1" as SessionId; // a test's own id

/** A target whose catalog reads are answered one by one by the test. */
class Reads {
  readonly waiting: { resolve: (catalog: Catalog) => void; reject: (error: Error) => void }[] = [];
  count = 0;

  readonly users: unknown[] = [];

  read({ resource: { credential } }: ReadCatalogRequest): Promise<Catalog> {
    this.count += 1;
    this.users.push(credential.username);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  async answer(epoch: string): Promise<void> {
    while (this.waiting.length === 0) await tick();
    this.waiting.shift()!.resolve(catalog(epoch));
    await tick();
  }

  async fail(): Promise<void> {
    while (this.waiting.length === 0) await tick();
    this.waiting.shift()!.reject(new GatewayError("target_unreachable", "The database did not answer."));
    await tick();
  }
}

const catalog = (epoch: string): Catalog => ({
  epoch: epoch as CatalogEpoch, // a test's own epoch
  protocol: "postgres",
  serverVersion: 150_000,
  relations: [],
  functions: [],
  builtinFunctions: [],
  userOperators: [],
  userTypes: [],
});

const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));
const opened: Catalogs[] = [];

interface Started {
  readonly reads: Reads;
  readonly catalogs: Catalogs;
  readonly entry: ReturnType<Catalogs["entry"]>;
  /** Puts other resources in force. */
  readonly declare: (resources: readonly ResourceSpec[]) => void;
}

function start(more: { catalogWaitMs?: number; clock?: Clock } = {}): Started {
  const reads = new Reads();
  let publish: (next: Snapshot) => void = () => {};
  const source = { current: snapshot, subscribe: (listener: typeof publish) => ((publish = listener), () => {}) };
  const policies = new PolicyStore(source, pino({ level: "silent" }));
  const catalogs = new Catalogs({
    // Only what catalogs use of each part.
    agentLink: { readCatalog: (request: ReadCatalogRequest) => reads.read(request) } as unknown as AgentLink,
    analyser: { setCatalog: () => {} } as unknown as Analyser,
    policies,
    limits: { ...defaultLimits, catalogWaitMs: more.catalogWaitMs ?? 2_000 },
    clock: more.clock ?? systemClock,
    log: pino({ level: "silent" }),
  });
  opened.push(catalogs);
  const declare = (resources: readonly ResourceSpec[]): void => publish({ ...snapshot, version: "2", resources });
  return { reads, catalogs, entry: catalogs.entry(resource, "orders"), declare };
}

afterEach(() => {
  for (const catalogs of opened.splice(0)) catalogs.close();
});

describe("CatalogEntry", () => {
  it("is one for a resource's database, reads once for all who wait, and then answers at once", async () => {
    const { reads, entry } = start();
    expect(entry.current).toBeUndefined();
    const waits = [entry.wait(), entry.wait(), entry.wait()];
    await reads.answer("a");
    expect((await Promise.all(waits)).map((state) => state.catalog.epoch)).toEqual(["a", "a", "a"]);
    expect(reads.count).toBe(1);
    expect(entry.current?.catalog.epoch).toBe("a");
  });

  it("reads with the credential that is declared now, and nothing once the resource is gone or elsewhere", async () => {
    const { reads, catalogs, entry, declare } = start({ catalogWaitMs: 50 });
    void entry.refresh();
    await reads.answer("a");
    const username = { kind: "value", value: "other" } as const;
    declare([{ ...resource, credential: { username } }]);
    void entry.refresh();
    await reads.answer("b");
    expect(reads.users).toEqual([resource.credential.username, username]);
    expect(catalogs.entry(resource, "orders")).toBe(entry);
    for (const resources of [[], [{ ...resource, target: { ...resource.target, host: "127.0.0.2" } }]]) {
      declare(resources);
      await expect(entry.refresh()).rejects.toMatchObject({ code: "resource_unknown" });
      expect(reads.count).toBe(2);
    }
    declare([resource]);
    expect(catalogs.entry(resource, "orders")).not.toBe(entry);
  });

  it("refuses after its wait when the target cannot be read, and tells what was the matter", async () => {
    const { reads, entry } = start({ catalogWaitMs: 30 });
    const waiting = entry.wait();
    await reads.fail();
    await expect(waiting).rejects.toMatchObject({
      code: "catalog_unavailable",
      hint: expect.stringContaining("target_unreachable"),
    });
  });

  it("is dirty from before DDL until a catalog read after its transaction is there", async () => {
    const { reads, entry } = start();
    const first = entry.wait();
    await reads.answer("a");
    await first;
    entry.beginDdl(session);
    expect([entry.dirty, entry.current?.catalog.epoch]).toEqual([true, "a"]);
    entry.endDdl(session);
    expect([entry.dirty, entry.current]).toEqual([true, undefined]);
    const after = entry.wait();
    await reads.answer("b");
    expect((await after).catalog.epoch).toBe("b");
    expect(entry.dirty).toBe(false);
  });

  it("does not take a read for current that began before the transaction ended", async () => {
    const { reads, entry } = start();
    const first = entry.wait();
    await reads.answer("a");
    await first;
    entry.beginDdl(session);
    const early = entry.refresh();
    entry.endDdl(session);
    await reads.answer("stale");
    expect(entry.current).toBeUndefined();
    await reads.answer("b");
    await early;
    expect(entry.current?.catalog.epoch).toBe("b");
  });
});
