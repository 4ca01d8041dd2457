import type { Catalog } from "@sluice/core/catalog.ts";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogEpoch, SessionId } from "@sluice/core/ids.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { ClassifierSpec, ResourceSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { systemClock } from "@sluice/core/system.ts";
import type { AgentLink, ReadCatalogRequest } from "@sluice/rpc/agent-link.ts";
import type { LabelRules } from "@sluice/inspect/policy/label-rules.ts";
import type { EncodedCatalog } from "@sluice/rpc/encoded-catalog.ts";
import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import type { Analyser, CatalogToLoad } from "../analysis/analyser.ts";
import { type CatalogFacts, catalogFacts } from "../analysis/catalog-facts.ts";
import { PolicyStore } from "../policy-watch/policy-store.ts";
import { Catalogs } from "./catalogs.ts";
import type { DdlAcrossGateways, DdlFollower } from "./ddl.ts";

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
  readonly waiting: { resolve: (catalog: EncodedCatalog) => void; reject: (error: Error) => void }[] = [];
  count = 0;

  readonly users: unknown[] = [];

  read({ resource: { credential } }: ReadCatalogRequest): Promise<EncodedCatalog> {
    this.count += 1;
    this.users.push(credential.username);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  async answer(epoch: string): Promise<void> {
    while (this.waiting.length === 0) await tick();
    this.waiting.shift()!.resolve({ bytes: new Uint8Array(new SharedArrayBuffer(0)), digest: epoch });
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
  relations: [
    {
      oid: 1,
      schema: "public",
      name: "customers",
      kind: "table",
      system: false,
      columns: [{ number: 1, name: "ssn", typeOid: 25 }],
      parents: [],
      estimatedRows: 1,
      hiddenFunctions: [],
    },
  ],
  functions: [],
  builtinFunctions: [],
  userOperators: [],
  userTypes: [],
});

/** A worker that keeps what it is given, at its word; how often it had to do something. */
class Worker {
  readonly loaded: string[] = [];
  readonly labelled: string[] = [];
  readonly kept = new Set<string>();
  labelling: Promise<void> = Promise.resolve();

  hasCatalog(key: string): boolean {
    return this.kept.has(key);
  }

  async loadCatalog(key: string, { encoded, rules }: CatalogToLoad): Promise<CatalogFacts> {
    this.loaded.push(encoded.digest);
    this.kept.add(key);
    return catalogFacts(catalog(encoded.digest), rules);
  }

  async labelCatalog(key: string, epoch: CatalogEpoch, rules: LabelRules): Promise<CatalogFacts> {
    await this.labelling;
    this.labelled.push(epoch);
    if (!this.kept.has(key)) throw new GatewayError("catalog_unavailable", "It is not kept.");
    return catalogFacts(catalog(epoch), rules);
  }

  forgetCatalog(key: string): void {
    this.kept.delete(key);
  }
}

const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));
const opened: Catalogs[] = [];

interface Started {
  readonly reads: Reads;
  readonly worker: Worker;
  readonly catalogs: Catalogs;
  readonly entry: ReturnType<Catalogs["entry"]>;
  /** Puts other resources in force. */
  readonly declare: (resources: readonly ResourceSpec[], classifiers?: readonly ClassifierSpec[]) => void;
}

function start(more: { catalogWaitMs?: number; clock?: Clock; ddl?: DdlAcrossGateways } = {}): Started {
  const reads = new Reads();
  const worker = new Worker();
  let publish: (next: Snapshot) => void = () => {};
  const source = { current: snapshot, subscribe: (listener: typeof publish) => ((publish = listener), () => {}) };
  const policies = new PolicyStore(source, pino({ level: "silent" }));
  const catalogs = new Catalogs({
    // Only what catalogs use of each part.
    agentLink: { readCatalog: (request: ReadCatalogRequest) => reads.read(request) } as unknown as AgentLink,
    analyser: worker as unknown as Analyser,
    policies,
    ...(more.ddl === undefined ? {} : { ddl: more.ddl }),
    limits: { ...defaultLimits, catalogWaitMs: more.catalogWaitMs ?? 2_000 },
    clock: more.clock ?? systemClock,
    log: pino({ level: "silent" }),
  });
  opened.push(catalogs);
  const declare: Started["declare"] = (resources, classifiers = []) =>
    publish({ ...snapshot, version: "2", resources, classifiers });
  return { reads, worker, catalogs, entry: catalogs.entry(resource, "orders"), declare };
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

describe("labels", () => {
  const ssn: ClassifierSpec = { name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn"] };

  it("are not made again while neither catalog nor classifiers have changed", async () => {
    const { reads, worker, entry, declare } = start();
    void entry.refresh();
    await reads.answer("a");
    const state = entry.current;
    void entry.refresh();
    await reads.answer("a");
    declare([{ ...resource, labels: { of: "another snapshot" } }]);
    expect(entry.current).toBe(state);
    expect([worker.loaded, worker.labelled]).toEqual([["a"], []]);
    // A worker that was lost over it has given it up.
    worker.kept.clear();
    void entry.refresh();
    await reads.answer("a");
    expect(worker.loaded).toEqual(["a", "a"]);
  });

  it("are made again when the classifiers change, and nothing is judged meanwhile", async () => {
    const { reads, worker, entry, declare } = start();
    void entry.refresh();
    await reads.answer("a");
    expect(entry.current?.labels.hasLabels).toBe(false);
    const labelling = Promise.withResolvers<void>();
    worker.labelling = labelling.promise;
    declare([resource], [ssn]);
    expect(entry.current).toBeUndefined();
    const waiting = entry.wait();
    await tick();
    expect(entry.current).toBeUndefined();
    labelling.resolve();
    expect((await waiting).labels.entitiesOf("public.customers.ssn")).toEqual(["US_SSN"]);
    expect([reads.count, worker.labelled]).toEqual([1, ["a"]]);
  });

  it("are made from a new read when the worker has lost the catalog", async () => {
    const { reads, worker, entry, declare } = start();
    void entry.refresh();
    await reads.answer("a");
    worker.kept.clear();
    declare([resource], [ssn]);
    const waiting = entry.wait();
    await reads.answer("a");
    expect((await waiting).labels.hasLabels).toBe(true);
    expect(worker.loaded).toEqual(["a", "a"]);
  });

  it("are forgotten with their entry", async () => {
    const { reads, worker, entry, declare } = start();
    const reading = entry.refresh().catch((error: unknown) => error);
    await tick();
    declare([]);
    await reads.answer("a");
    await reading;
    expect([entry.current, [...worker.kept]]).toEqual([undefined, []]);
  });
});

/** The other gateways, as the test wants them. */
class Others implements DdlAcrossGateways {
  readonly calls: string[] = [];
  follower: DdlFollower | undefined;
  open: readonly (readonly [mark: string, database: string])[] = [];

  announced(): boolean {
    return this.calls.length > 0;
  }

  announce(of: SessionId, { resource: name, database }: { resource: string; database: string }): Promise<void> {
    this.calls.push(`announce ${of} ${name}/${database}`);
    return Promise.resolve();
  }

  end(of: SessionId): void {
    this.calls.push(`end ${of}`);
  }

  follow(follower: DdlFollower): () => void {
    this.follower = follower;
    for (const [mark, database] of this.open) follower.begin(mark, { resource: "orders", database });
    return () => {
      this.follower = undefined;
    };
  }

  onLost(): () => void {
    return () => undefined;
  }
}

describe("DDL of other gateways", () => {
  const scope = { resource: "orders", database: "orders" };

  async function known(others: Others): Promise<Started> {
    const started = start({ ddl: others });
    const first = started.entry.wait();
    await started.reads.answer("a");
    await first;
    return started;
  }

  it("makes an entry dirty as one's own does, until a read that began after it", async () => {
    const others = new Others();
    const { reads, entry } = await known(others);
    others.follower!.begin("m", scope);
    others.follower!.begin("m", scope);
    expect([entry.dirty, entry.current?.catalog.epoch, entry.changes]).toEqual([true, "a", 1]);
    // Also what is read meanwhile is not to be trusted.
    void entry.refresh();
    await reads.answer("b");
    expect([entry.dirty, entry.current?.catalog.epoch]).toEqual([true, "b"]);
    others.follower!.end("m");
    expect([entry.dirty, entry.current]).toEqual([true, undefined]);
    await reads.answer("c");
    expect([entry.dirty, entry.current?.catalog.epoch, entry.changes]).toEqual([false, "c", 1]);
  });

  it("is not lost to a read that is under way when it begins, nor to one when it ends", async () => {
    const others = new Others();
    const { reads, entry } = await known(others);
    const reading = entry.refresh();
    others.follower!.begin("m", scope);
    await reads.answer("b");
    await reading;
    expect(entry.dirty).toBe(true);
    const during = entry.refresh();
    others.follower!.end("m");
    await reads.answer("stale");
    expect([entry.dirty, entry.current]).toEqual([true, undefined]);
    await reads.answer("c");
    await during;
    expect([entry.dirty, entry.current?.catalog.epoch]).toEqual([false, "c"]);
    // Both within one read: what it found may be of before.
    const around = entry.refresh();
    others.follower!.begin("n", scope);
    others.follower!.end("n");
    await reads.answer("stale");
    expect(entry.current).toBeUndefined();
    await reads.answer("d");
    await around;
    expect([entry.dirty, entry.current?.catalog.epoch]).toEqual([false, "d"]);
  });

  it("lasts until the last of it has ended", async () => {
    const others = new Others();
    const { reads, entry } = await known(others);
    others.follower!.begin("m", scope);
    others.follower!.begin("n", scope);
    entry.beginDdl(session);
    for (const end of [() => others.follower!.end("m"), () => entry.endDdl(session)]) {
      end();
      await reads.answer("b");
      expect([entry.dirty, entry.current?.catalog.epoch]).toEqual([true, "b"]);
    }
    others.follower!.end("n");
    await reads.answer("c");
    expect(entry.dirty).toBe(false);
  });

  it("counts for entries that are made later, and for those alone that are of that database", async () => {
    const others = new Others();
    others.open = [
      ["m", "orders"],
      ["n", "archive"],
    ];
    const { reads, catalogs, entry } = await known(others);
    expect(entry.dirty).toBe(true);
    const archive = catalogs.entry(resource, "archive");
    const quiet = catalogs.entry(resource, "quiet");
    for (const one of [archive, quiet]) one.refreshIfAbsent();
    await reads.answer("b");
    await reads.answer("c");
    expect([archive.dirty, quiet.dirty]).toEqual([true, false]);
    others.follower!.begin("nobody's", { resource: "unheard-of", database: "orders" });
    others.follower!.end("unknown");
    expect(quiet.dirty).toBe(false);
  });

  it("counts for every resource that is the same database, as one's own does", async () => {
    const others = new Others();
    const { reads, catalogs, declare, entry } = await known(others);
    const alias = { ...resource, name: "ledger" };
    const elsewhere = { ...resource, name: "far", target: { ...resource.target, port: 5433 } };
    declare([resource, alias, elsewhere]);
    const entries = [entry, catalogs.entry(alias, "orders"), catalogs.entry(elsewhere, "orders")];
    for (const one of entries) one.refreshIfAbsent();
    await reads.answer("b");
    await reads.answer("c");
    others.follower!.begin("m", { resource: "ledger", database: "orders" });
    expect(entries.map(({ dirty }) => dirty)).toEqual([true, true, false]);
    others.follower!.end("m");
    await reads.answer("d");
    await reads.answer("e");
    expect(entries.map(({ dirty }) => dirty)).toEqual([false, false, false]);
    entries[1]!.beginDdl(session);
    expect(entries.map(({ dirty }) => dirty)).toEqual([true, true, false]);
  });

  it("is told of one's own, and of its end even where it never began", async () => {
    const others = new Others();
    const { entry } = await known(others);
    expect(entry.announced(session)).toBe(false);
    await entry.announce(session);
    expect(entry.announced(session)).toBe(true);
    entry.endDdl(session);
    expect(others.calls).toEqual(["announce s_1 orders/orders", "end s_1"]);
    expect(entry.dirty).toBe(false);
    expect(start().entry.announced(session)).toBe(true);
  });
});
