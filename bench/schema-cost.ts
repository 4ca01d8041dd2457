/** A process of its own, so that memory is that of one load: tells its parent what ten thousand tables cost, and ends. */
import { execFileSync } from "node:child_process";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { defaultLimits } from "@sluice/core/limits.ts";
import { Analyser } from "@sluice/data-plane/analysis/analyser.ts";
import { columnLabels } from "@sluice/inspect/policy/labels.ts";
import { encodeCatalog, encodedCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { makeBigCatalog } from "../test/support/big-catalog.ts";
import { residentBytes } from "./measure.ts";

export interface SchemaCost {
  readonly loadMs: number;
  readonly memoryMb: number;
  readonly stallMs: number;
}

const rules = {
  classifiers: [
    { name: "ssn", entity: "US_SSN", columns: [], columnNames: ["ssn*", "*email*"] },
    { name: "name", entity: "PERSON", columns: ["app_1.*.name*"], columnNames: [] },
  ],
};

const analyser = new Analyser({ limits: defaultLimits });
const small = await encodeCatalog(makeBigCatalog({ tables: 10, columnsPerTable: 5, views: 1, functions: 1 }));
await analyser.loadCatalog("small", { encoded: small, protocol: "postgres", rules });
// Made by a process that ends: what making it takes of memory is the agent's.
const maker = fileURLToPath(new URL("./schema-maker.ts", import.meta.url));
const encoded = await encodedCatalog([execFileSync(process.execPath, [maker], { maxBuffer: 2 ** 30 })]);
const before = await residentBytes(process.pid);
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
const started = performance.now();
const facts = await analyser.loadCatalog("big", { encoded, protocol: "postgres", rules });
const loadMs = performance.now() - started;
delay.disable();
if (!columnLabels(facts.labels).hasLabels) throw new Error("nothing was labelled");
const cost: SchemaCost = {
  loadMs,
  memoryMb: ((await residentBytes(process.pid)) - before) / 1e6,
  stallMs: delay.percentile(99) / 1e6,
};
await analyser.close();
process.send?.(cost, () => process.disconnect());
