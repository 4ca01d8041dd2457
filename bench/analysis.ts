/**
 * Analysis alone: how fast statements are told apart, with and without the way between threads; what a big schema costs; and whether
 * texts made to hurt the parser are felt by statements that are known already, through a real gateway.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { defaultLimits } from "@sluice/core/limits.ts";
import { Analyser, type AnalysisRequest } from "@sluice/data-plane/analysis/analyser.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { indexCatalog } from "@sluice/inspect/sql/catalog-index.ts";
import { emptyScope } from "@sluice/inspect/sql/scope.ts";
import { encodeCatalog } from "@sluice/rpc/encoded-catalog.ts";
import { loadModule, parseSync } from "libpg-query";
import { makeBigCatalog } from "../test/support/big-catalog.ts";
import { type HostileFigures, measureHostile } from "./hostile-texts.ts";
import { median, type Pace, type Row } from "./measure.ts";
import type { SchemaCost } from "./schema-cost.ts";

/** Milliseconds the first load of ten thousand tables may take, megabytes it may cost a gateway, and how long its thread may stall. */
const LOAD_MS = 5_000;
const MEMORY_MB = 200;
const STALL_MS = 20;

export async function measureAnalysis(pace: Pace, progress: (line: string) => void, keep: (row: Row) => void): Promise<void> {
  progress("measuring hits and misses of the analysis cache");
  for (const row of await measureSpeed(pace)) keep(row);
  progress("loading ten thousand tables, from an agent's bytes to labels, in a process of its own");
  for (const row of await measureSchema(pace)) keep(row);
  progress("sending texts made to hurt the parser through a gateway");
  keep(hostileRow(await measureHostile(pace)));
}

const catalog = makeBigCatalog({ tables: 200, columnsPerTable: 12, views: 20, functions: 20 });
const settings = { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [] };

function joinOfThree(n: number): string {
  const [a, b, c] = [catalog.relations[0]!, catalog.relations[1]!, catalog.relations[2]!];
  const [first, second] = [a.columns[1]!.name, b.columns[2]!.name];
  return `SELECT a.id, a.${first}, b.${second}, c.${c.columns[4]!.name} AS last FROM ${a.schema}.${a.name} a JOIN ${b.schema}.${b.name} b ON b.id = a.id LEFT JOIN ${c.schema}.${c.name} c ON c.id = b.id WHERE a.${first} = $1 AND b.id > ${n} ORDER BY b.id LIMIT 50`;
}

async function measureSpeed({ quick }: Pace): Promise<readonly Row[]> {
  const statements = quick ? 500 : 4_000;
  await loadModule();
  const index = indexCatalog(catalog, parseSync);
  const alone = times(statements, (n) => void analyse(parseSync, joinOfThree(n), index, emptyScope, settings));
  const analyser = new Analyser({ limits: defaultLimits });
  try {
    const encoded = await encodeCatalog(catalog);
    await analyser.loadCatalog("bench", { encoded, protocol: "postgres", rules: { classifiers: [] } });
    const request = (n: number): AnalysisRequest => ({
      catalogKey: "bench",
      epoch: catalog.epoch,
      text: joinOfThree(n),
      scope: emptyScope,
      settings,
    });
    const withHop: number[] = [];
    for (let n = 0; n < statements; n++) {
      const started = performance.now();
      await analyser.analyse(request(n));
      withHop.push((performance.now() - started) * 1_000);
    }
    const known = request(1);
    const hits = times(statements, () => {
      for (let at = 0; at < 100; at++) if (analyser.cached(known) === undefined) throw new Error("it should be cached");
    }).map((us) => us / 100);
    return [
      row("analysis: a statement that is known (cache hit)", "µs", hits, 3),
      row("analysis: a join of three tables, parse + classify + lineage, in the worker", "µs", alone, 150),
      row("analysis: the same with the way to the worker and back", "µs", withHop),
    ];
  } finally {
    await analyser.close();
  }
}

/** Microseconds of each call, the first quarter left out: code is warm in a gateway. */
function times(count: number, call: (n: number) => void): readonly number[] {
  const all: number[] = [];
  for (let n = 0; n < count; n++) {
    const started = performance.now();
    call(n);
    all.push((performance.now() - started) * 1_000);
  }
  return all.slice(count >> 2);
}

async function measureSchema({ quick }: Pace): Promise<readonly Row[]> {
  const costs: SchemaCost[] = [];
  for (let round = 0; round < (quick ? 1 : 3); round++) costs.push(await schemaCost());
  const of = (name: string, unit: string, read: (cost: SchemaCost) => number, most: number): Row =>
    row(`10,000 tables, 200,000 columns, 2,000 views: ${name}`, unit, costs.map(read), most);
  return [
    of("bytes to labels", "ms", ({ loadMs }) => loadMs, LOAD_MS),
    of("memory of the whole process", "MB", ({ memoryMb }) => memoryMb, MEMORY_MB),
    of("p99 stall of the sessions' thread", "ms", ({ stallMs }) => stallMs, STALL_MS),
  ];
}

async function schemaCost(): Promise<SchemaCost> {
  const child = fork(fileURLToPath(new URL("./schema-cost.ts", import.meta.url)), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [cost] = (await once(child, "message")) as [SchemaCost]; // the child says nothing else
  if (child.exitCode === null) await once(child, "exit");
  return cost;
}

function hostileRow({ quietP99Ms, p99Ms, refused }: HostileFigures): Row {
  const side = (name: string, value: number, unit: string): Row["measured"][number] => ({
    side: name,
    unit,
    median: value,
    rounds: [value],
    cpuUsPerTransaction: {},
  });
  return {
    name: "p99 of a known statement through a gateway, while eight sessions send texts made to hurt the parser",
    measured: [side("nobody hurts", quietP99Ms, "ms"), side("eight do", p99Ms, "ms"), side("texts refused", refused, "texts")],
    verdicts: [{ of: "eight do", value: p99Ms, better: "less", first: 50, later: 10 }],
  };
}

function row(name: string, unit: string, values: readonly number[], most?: number): Row {
  const value = median(values);
  return {
    name,
    measured: [{ side: "sluice", unit, median: value, rounds: values.length > 10 ? [] : [...values], cpuUsPerTransaction: {} }],
    verdicts: most === undefined ? [] : [{ of: "sluice", value, better: "less", first: most }],
  };
}
