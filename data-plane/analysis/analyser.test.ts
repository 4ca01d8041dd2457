/** The supervised worker: answers, shares, refuses in time, and outlives texts made to hurt the parser. */
import { zstdCompressSync } from "node:zlib";
import type { Catalog } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import { defaultLimits, type Limits } from "@sluice/core/limits.ts";
import type { ClassifierSpec } from "@sluice/core/snapshot.ts";
import { columnLabels } from "@sluice/inspect/policy/labels.ts";
import type { Analysis } from "@sluice/inspect/sql/model.ts";
import { emptyScope } from "@sluice/inspect/sql/scope.ts";
import { afterEach, describe, expect, it } from "vitest";
import { Analyser, type AnalysisRequest } from "./analyser.ts";
import type { CatalogFacts } from "./catalog-facts.ts";

const open: Analyser[] = [];
const warnings: string[] = [];

afterEach(async () => {
  warnings.length = 0;
  await Promise.all(open.splice(0).map((analyser) => analyser.close()));
});

function start(more: Partial<Limits> = {}): Analyser {
  const log = { warn: (fields: object, message: string): void => void warnings.push(`${message} ${JSON.stringify(fields)}`) };
  const analyser = new Analyser({ limits: { ...defaultLimits, ...more }, log });
  open.push(analyser);
  void load(analyser, "orders", catalogOf("one", ["id", "ssn"])).catch(() => undefined);
  return analyser;
}

function load(analyser: Analyser, key: string, catalog: unknown): Promise<CatalogFacts> {
  const compressed = zstdCompressSync(JSON.stringify(catalog));
  const bytes = new Uint8Array(new SharedArrayBuffer(compressed.length));
  bytes.set(compressed);
  return analyser.loadCatalog(key, { encoded: { bytes, digest: "" }, protocol: "postgres", rules: { classifiers: [ssn] } });
}

const ssn: ClassifierSpec = { name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn"] };

function catalogOf(epoch: string, columns: readonly string[]): Catalog {
  return {
    epoch: epoch as CatalogEpoch, // tests mint their own
    protocol: "postgres",
    serverVersion: 150_000,
    relations: [
      {
        oid: 16_384,
        schema: "public",
        name: "customers",
        kind: "table",
        system: false,
        columns: columns.map((name, at) => ({ number: at + 1, name, typeOid: 25 })),
        parents: [],
        estimatedRows: 5,
        hiddenFunctions: [],
      },
    ],
    functions: [],
    builtinFunctions: [],
    userOperators: [],
    userTypes: [],
  };
}

const settings = { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [] };

function request(text: string, epoch = "one"): AnalysisRequest {
  return { catalogKey: "orders", epoch: epoch as CatalogEpoch, text, scope: emptyScope, settings };
}

/** A worker may take longer to start than a test's short deadline. */
async function eventually(analyser: Analyser, text: string): Promise<Analysis> {
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      return await analyser.analyse(request(text));
    } catch (error) {
      expect(error).toMatchObject({ code: "analysis_unavailable" });
    }
  }
  throw new Error("the worker did not start");
}

describe("analyser", () => {
  it("analyses in the worker and answers at once from then on", async () => {
    const analyser = start();
    expect(analyser.cached(request("SELECT * FROM customers"))).toBeUndefined();
    const analysis = await analyser.analyse(request("SELECT * FROM customers"));
    expect(analysis).toMatchObject({ kind: "ok", epoch: "one", statements: [{ columns: [{ name: "id" }, { name: "ssn" }] }] });
    expect(analyser.cached(request("SELECT * FROM customers"))).toBe(analysis);
    expect(analyser.cached(request("SELECT * FROM customers "))).toBeUndefined();
    expect(await analyser.analyse(request("SELEC"))).toMatchObject({ kind: "unparsed" });
  });

  it("answers for the epoch asked for and no other", async () => {
    const analyser = start();
    await analyser.analyse(request("TABLE customers"));
    await load(analyser, "orders", catalogOf("two", ["id"]));
    expect(analyser.cached(request("TABLE customers", "two"))).toBeUndefined();
    expect(await analyser.analyse(request("TABLE customers", "two"))).toMatchObject({
      statements: [{ columns: [{ name: "id" }] }],
    });
    await expect(analyser.analyse(request("SELECT 1", "one"))).rejects.toMatchObject({ code: "catalog_unavailable" });
    await expect(analyser.analyse({ ...request("SELECT 1"), catalogKey: "other" })).rejects.toMatchObject({
      code: "catalog_unavailable",
    });
  });

  it("refuses what must not reach a parser", async () => {
    const analyser = start();
    await expect(analyser.analyse(request("SELECT 1\0"))).rejects.toMatchObject({ code: "statement_invalid" });
    await expect(analyser.analyse(request("(".repeat(300)))).rejects.toMatchObject({ code: "statement_too_long" });
    expect(warnings).toEqual([]);
  });

  it("tries unusual texts apart and says when they are too deep", async () => {
    const analyser = start({ analysisTimeoutMs: 15_000 }); // what is unusual is under test, not how fast the cores are
    expect(await analyser.analyse(request(`SELECT 1${"::int".repeat(2_000)}`))).toMatchObject({ kind: "ok" });
    await expect(analyser.analyse(request(`SELECT 1${"::int".repeat(10_000)}`))).rejects.toMatchObject({
      code: "statement_too_long",
    });
    expect(await analyser.analyse(request(`INSERT INTO customers VALUES ${"(1),".repeat(15_000)}(1)`))).toMatchObject({
      kind: "ok",
    });
    expect(warnings).toEqual([]);
  });

  it("gives up on a text that takes too long, and goes on with the others", async () => {
    const analyser = start({ analysisTimeoutMs: 600, trustedStatementBytesMax: 2_000_000 });
    await eventually(analyser, "SELECT 1");
    const slow = analyser.analyse(request(`SELECT 1${"+1".repeat(400_000)}`));
    await expect(slow).rejects.toMatchObject({ code: "analysis_unavailable", hint: expect.stringContaining("not run") });
    expect(analyser.cached(request("SELECT 1"))).toBeDefined();
    expect(await eventually(analyser, "SELECT 2")).toMatchObject({ kind: "ok" });
    // Where other tests have the cores, the new worker may miss so short a deadline too.
    expect(warnings.length).toBeGreaterThan(0);
    for (const warning of warnings) expect(warning).toContain("the analysis worker was replaced");
  });

  it("replaces a worker that has failed, with its catalogs", async () => {
    const analyser = start();
    await analyser.analyse(request("SELECT 1"));
    // A scope that is none makes the worker throw what is no refusal, as a damaged parser would.
    const failed = analyser.analyse({ ...request("EXECUTE p"), scope: { ...emptyScope, digest: "x", prepared: null as never } });
    const waiting = analyser.analyse(request("TABLE customers"));
    await expect(failed).rejects.toMatchObject({ code: "analysis_unavailable" });
    expect(await waiting).toMatchObject({ statements: [{ columns: [{ name: "id" }, { name: "ssn" }] }] });
    expect(warnings).toEqual([expect.stringContaining("the analysis worker was replaced")]);
    expect(warnings.join()).not.toContain("EXECUTE");
  });

  it("goes on with other catalogs when one cannot be indexed", async () => {
    const analyser = start();
    await eventually(analyser, "SELECT 1");
    const broken = { ...catalogOf("bad", []), relations: [null] } as unknown as Catalog;
    await expect(load(analyser, "broken", broken)).rejects.toMatchObject({ code: "catalog_unavailable" });
    await expect(analyser.analyse({ ...request("SELECT 2", "bad"), catalogKey: "broken" })).rejects.toMatchObject({
      code: "catalog_unavailable",
    });
    expect(await analyser.analyse(request("SELECT 3"))).toBeDefined();
    expect(warnings).toEqual([]);
  });

  it("answers with what this thread must know of a catalog, and labels it again when asked", async () => {
    const analyser = start();
    const { head, labels } = await load(analyser, "orders", catalogOf("two", ["id", "ssn"]));
    expect(head).toMatchObject({ epoch: "two", serverVersion: 150_000 });
    expect(columnLabels(labels).entitiesOf("public.customers.ssn")).toEqual(["US_SSN"]);
    const epoch = "two" as CatalogEpoch; // a test's own
    const again = await analyser.labelCatalog("orders", epoch, { classifiers: [{ ...ssn, columnNames: ["id"] }] });
    expect([...columnLabels(again.labels).labelledColumns()]).toMatchObject([{ qualified: "public.customers.id" }]);
    const former = "one" as CatalogEpoch; // a test's own
    await expect(analyser.labelCatalog("orders", former, { classifiers: [] })).rejects.toMatchObject({
      code: "catalog_unavailable",
    });
    analyser.forgetCatalog("orders");
    await expect(analyser.labelCatalog("orders", epoch, { classifiers: [] })).rejects.toMatchObject({
      code: "catalog_unavailable",
    });
  });

  it("keeps the former catalog where the next one is none or takes too long, and gives a replaced worker all of them", async () => {
    const analyser = start({ catalogLoadTimeoutMs: 5_000, analysisTimeoutMs: 15_000 });
    await load(analyser, "archive", catalogOf("old", ["id"]));
    await expect(load(analyser, "orders", { epoch: "none" })).rejects.toMatchObject({ code: "catalog_unavailable" });
    await analyser.analyse(request("SELECT 1"));
    for (let round = 0; round < 2; round++) {
      const failed = analyser.analyse({
        ...request(`EXECUTE p${round}`),
        scope: { ...emptyScope, digest: "x", prepared: null as never },
      });
      await expect(failed).rejects.toMatchObject({ code: "analysis_unavailable" });
    }
    expect([analyser.hasCatalog("orders"), analyser.hasCatalog("archive")]).toEqual([true, true]);
    expect(await analyser.analyse(request("TABLE customers"))).toMatchObject({ kind: "ok", epoch: "one" });
    expect(await analyser.analyse({ ...request("TABLE customers", "old"), catalogKey: "archive" })).toMatchObject({
      kind: "ok",
      epoch: "old",
    });
  });

  it("lets one principal wait with a share of the queue only, and others take their turns", async () => {
    const analyser = start({ analysisQueuePerPrincipalMax: 8, analysisTimeoutMs: 15_000 });
    const order: string[] = [];
    const ask = (asker: string, text: string): Promise<unknown> =>
      analyser.analyse({ ...request(text), asker }).then(() => order.push(asker));
    const greedy = Promise.allSettled(Array.from({ length: 1_000 }, (_, at) => ask("greedy", `SELECT ${at}`)));
    await Promise.all([ask("modest", "SELECT 'a'"), ask("modest", "SELECT 'b'")]);
    const refused = (await greedy).filter(({ status }) => status === "rejected");
    expect(refused.length).toBeGreaterThanOrEqual(990);
    for (const one of refused) expect(one).toMatchObject({ reason: { code: "analysis_unavailable" } });
    expect(order.indexOf("modest")).toBeLessThanOrEqual(2);
    expect(order.lastIndexOf("modest")).toBeLessThanOrEqual(4);
  });

  it("bounds what waits", async () => {
    const analyser = start({ analysisQueueMax: 4 });
    const all = await Promise.allSettled(Array.from({ length: 20 }, (_, at) => analyser.analyse(request(`SELECT ${at}`))));
    const refused = all.filter((result) => result.status === "rejected");
    expect(refused.length).toBeGreaterThanOrEqual(15);
    for (const result of refused) expect(result.reason).toMatchObject({ code: "analysis_unavailable" });
    expect(await analyser.analyse(request("SELECT 99"))).toMatchObject({ kind: "ok" });
  });

  it("analyses a text once however many ask at the same time", async () => {
    const analyser = start({ analysisQueueMax: 1 });
    const all = await Promise.all(Array.from({ length: 20 }, () => analyser.analyse(request("SELECT 5"))));
    expect(new Set(all).size).toBe(1);
  });

  it("rejects what waits when it closes, and everything after", async () => {
    const analyser = start();
    const waiting = Promise.allSettled([1, 2, 3].map((at) => analyser.analyse(request(`SELECT ${at}`))));
    await analyser.close();
    for (const result of await waiting)
      expect(result).toMatchObject({ status: "rejected", reason: { code: "analysis_unavailable" } });
    await expect(analyser.analyse(request("SELECT 4"))).rejects.toMatchObject({ code: "analysis_unavailable" });
  });
});
