/** Ten thousand tables: the thread that serves sessions neither parses nor walks nor copies them while the worker takes them in. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { ClassifierSpec } from "@sluice/core/snapshot.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { columnLabels } from "@sluice/inspect/policy/labels.ts";
import { emptyScope } from "@sluice/inspect/sql/scope.ts";
import { encodeCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { expect, it } from "vitest";
import { bigCatalog, makeBigCatalog } from "../../test/support/big-catalog.ts";
import { Analyser, type CatalogToLoad } from "./analyser.ts";

const classifiers: readonly ClassifierSpec[] = [
  { name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn*", "*email*"] },
  { name: "name", entity: "PERSON", columns: ["app_1.*.name*"], columnNames: [] },
];
const settings = { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [] };
/** What a catalog of this size costs a thread that parses it is over 300. */
const THREAD_CPU_MS = 60;
const STALL_P99_MS = 20;

it("is loaded without holding up the event loop, and gives exact labels", { timeout: 120_000 }, async () => {
  const catalog = makeBigCatalog(bigCatalog);
  const encoded = await encodeCatalog(catalog);
  const analyser = new Analyser({ limits: defaultLimits });
  try {
    await analyser.loadCatalog("warm", {
      encoded: await encodeCatalog(makeBigCatalog({ tables: 10, columnsPerTable: 5, views: 1, functions: 1 })),
      protocol: "postgres",
      rules: { classifiers },
    });
    // Other processes take the cores from this one too: the best of a few loads is what the load itself does.
    let best = { stallMs: Number.POSITIVE_INFINITY, cpuMs: Number.POSITIVE_INFINITY };
    for (let round = 0; round < 3 && (best.stallMs > STALL_P99_MS || best.cpuMs > THREAD_CPU_MS); round++) {
      const measured = await measureLoad(analyser, `big${round}`, { encoded, protocol: "postgres", rules: { classifiers } });
      best = { stallMs: Math.min(best.stallMs, measured.stallMs), cpuMs: Math.min(best.cpuMs, measured.cpuMs) };
      if (round > 0) analyser.forgetCatalog(`big${round}`);
    }
    expect(best.stallMs).toBeLessThan(STALL_P99_MS);
    expect(best.cpuMs).toBeLessThan(THREAD_CPU_MS);
    const facts = await analyser.labelCatalog("big0", catalog.epoch, { classifiers });
    const labels = columnLabels(facts.labels);
    let labelled = 0;
    for (const relation of catalog.relations) {
      for (const { name, number } of relation.columns) {
        const qualified = `${relation.schema}.${relation.name}.${name}`;
        const expected = [
          ...(relation.schema === "app_1" && name.startsWith("name") ? ["PERSON"] : []),
          ...(relation.kind === "table" && (name.startsWith("ssn") || name.includes("email")) ? ["US_SSN"] : []),
        ];
        if (labels.entitiesOf(qualified).join() !== expected.join()) expect.fail(qualified);
        if (labels.qualifiedByOid(relation.oid, number) !== qualified) expect.fail(`${relation.oid} ${number}`);
        labelled += expected.length > 0 ? 1 : 0;
      }
    }
    expect(labelled).toBeGreaterThan(10_000);
    const view = catalog.relations.at(-1)!;
    const analysis = await analyser.analyse({
      catalogKey: "big0",
      epoch: catalog.epoch,
      text: `SELECT ${view.columns[3]!.name} FROM ${view.schema}.${view.name}`,
      scope: emptyScope,
      settings,
    });
    const table = catalog.relations.find(({ name, kind }) => kind === "table" && view.name.startsWith(`v_${name}_`))!;
    expect(analysis).toMatchObject({
      statements: [{ columns: [{ origins: [expect.stringContaining(table.columns[3]!.name)] }] }],
    });
  } finally {
    await analyser.close();
  }
});

async function measureLoad(
  analyser: Analyser,
  key: string,
  load: CatalogToLoad,
): Promise<{ readonly stallMs: number; readonly cpuMs: number }> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const before = process.threadCpuUsage();
  await analyser.loadCatalog(key, load);
  const { user, system } = process.threadCpuUsage(before);
  delay.disable();
  return { stallMs: delay.percentile(99) / 1e6, cpuMs: (user + system) / 1e3 };
}
