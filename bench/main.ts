/**
 * `npm run bench`: the same load direct, through PgBouncer and through Sluice, in one run, in turn (A B C A B C …), medians and
 * ratios of the rounds. Prints what it measured, reached or not, and keeps it as JSON. It judges nothing.
 */
import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { measureInProcess } from "./in-process.ts";
import { BULK_ROWS, pgbench, type Side, type Sides, startSides } from "./sides.ts";

/** What a row compares, and the ratio aimed at first and then, where one is stated. */
interface Row {
  readonly name: string;
  readonly measured: readonly Measured[];
  readonly ratios: readonly Ratio[];
}

interface Measured {
  readonly side: string;
  readonly unit: string;
  readonly median: number;
  readonly rounds: readonly number[];
  /** CPU microseconds of the side's own process for each transaction; absent for the database itself. */
  readonly cpuUsPerTransaction?: number;
}

interface Ratio {
  readonly of: string;
  readonly to: string;
  readonly median: number;
  readonly first?: number;
  readonly later?: number;
}

interface Load {
  readonly name: string;
  readonly sides: readonly Side[];
  readonly args: readonly string[];
  /** Turns transactions per second into the row's figure. */
  readonly scale: number;
  readonly unit: string;
  readonly ratios: readonly { readonly of: Side; readonly to: Side; readonly first?: number; readonly later?: number }[];
}

const quick = process.argv.includes("--quick");
const ROUNDS = quick ? 1 : 5;
const SECONDS = quick ? 1 : 3;
const results = fileURLToPath(new URL("./results/", import.meta.url));
const scripts = fileURLToPath(new URL("./scripts/", import.meta.url));

async function main(): Promise<void> {
  const load = loadavg()[0]!;
  const machine = {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    loadBefore: Number(load.toFixed(2)),
    quiet: load < 0.5,
  };
  console.log(
    `${machine.cores} cores (${machine.cpu}), Node ${machine.node}, load ${machine.loadBefore}${machine.quiet ? "" : ": NOT QUIET, compare with care"}`,
  );
  console.log(`client, target and all hops share this machine; ${ROUNDS} rounds of ${SECONDS} s, sides in turn, medians\n`);
  const inProcess = await measureInProcess();
  for (const row of inProcess) console.log(`${row.name.padEnd(64)} ${row.value.toFixed(0).padStart(8)} ${row.unit}   ${row.aim}`);
  console.log("");
  const sides = await startSides((line) => console.log(`… ${line}`));
  const rows: Row[] = [];
  try {
    for (const one of loads(sides)) {
      const row = await measure(one);
      print(row);
      rows.push(row);
    }
  } finally {
    await sides.stop();
  }
  const at = new Date().toISOString();
  await mkdir(results, { recursive: true });
  const file = join(results, `${at.slice(0, 19).replaceAll(":", "")}.json`);
  await writeFile(
    file,
    `${JSON.stringify({ at, commit: commit(), machine, quick, rounds: ROUNDS, secondsPerRound: SECONDS, inProcess, rows }, undefined, 2)}\n`,
  );
  console.log(`\nwritten to ${file}`);
}

function loads(sides: Sides): readonly Load[] {
  const { direct, bouncer, bouncerTls, sluice, sluiceStrict, sluiceTls, sluiceMasked } = sides;
  const select = (mode: string, clients: number): Load => ({
    name: `select-only, ${mode}, ${clients} client${clients === 1 ? "" : "s"}, no TLS, recording relaxed`,
    sides: [direct, bouncer, sluice],
    args: ["-S", "-M", mode, "-c", String(clients), "-T", String(SECONDS)],
    scale: 1,
    unit: "tps",
    ratios: [
      { of: sluice, to: bouncer, ...(mode === "prepared" && clients === 8 ? { first: 0.65, later: 1 } : {}) },
      { of: sluice, to: direct },
    ],
  });
  const bulkBytes = BULK_ROWS * 185;
  const bulk = (name: string, via: readonly Side[], ratios: Load["ratios"]): Load => ({
    name,
    sides: via,
    args: ["-f", join(scripts, "bulk.sql"), "-c", "1", "-T", String(SECONDS)],
    scale: bulkBytes / 1e6,
    unit: "MB/s",
    ratios,
  });
  return [
    ...["simple", "extended", "prepared"].flatMap((mode) => [select(mode, 1), select(mode, 8)]),
    {
      name: "select-only, prepared, 8 clients, TLS to the caller on both, recording relaxed",
      sides: [bouncerTls, sluiceTls],
      args: ["-S", "-M", "prepared", "-c", "8", "-T", String(SECONDS)],
      scale: 1,
      unit: "tps",
      ratios: [{ of: sluiceTls, to: bouncerTls }],
    },
    {
      name: "select-only, prepared, 32 clients, no TLS, recording strict against relaxed",
      sides: [sluice, sluiceStrict],
      args: ["-S", "-M", "prepared", "-c", "32", "-T", String(SECONDS)],
      scale: 1,
      unit: "tps",
      ratios: [{ of: sluiceStrict, to: sluice, first: 0.75, later: 0.9 }],
    },
    {
      name: "select-only, prepared, 1 client, no TLS, recording strict against relaxed",
      sides: [sluice, sluiceStrict],
      args: ["-S", "-M", "prepared", "-c", "1", "-T", String(SECONDS)],
      scale: 1,
      unit: "tps",
      ratios: [{ of: sluiceStrict, to: sluice }],
    },
    bulk(
      "bulk SELECT, not masked, no TLS, recording relaxed",
      [direct, bouncer, sluice],
      [
        { of: sluice, to: bouncer, first: 0.75, later: 0.9 },
        { of: sluice, to: direct },
      ],
    ),
    bulk(
      "bulk SELECT, two columns masked, eight searched, no TLS, recording relaxed",
      [direct, bouncer, sluiceMasked],
      [
        { of: sluiceMasked, to: bouncer, first: 0.45, later: 0.7 },
        { of: sluiceMasked, to: direct },
      ],
    ),
  ];
}

async function measure(load: Load): Promise<Row> {
  const figures = new Map<Side, number[]>(load.sides.map((side) => [side, []]));
  const cpu = new Map<Side, number[]>(load.sides.map((side) => [side, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const side of load.sides) {
      const before = side.pid === undefined ? 0 : await cpuSeconds(side.pid);
      const { tps } = await pgbench(side, load.args);
      if (side.pid !== undefined) cpu.get(side)!.push(((await cpuSeconds(side.pid)) - before) / (tps * SECONDS));
      figures.get(side)!.push(tps * load.scale);
    }
  }
  return {
    name: load.name,
    measured: load.sides.map((side) => ({
      side: side.name,
      unit: load.unit,
      median: median(figures.get(side)!),
      rounds: figures.get(side)!.map((figure) => Number(figure.toFixed(1))),
      ...(side.pid === undefined ? {} : { cpuUsPerTransaction: Number((median(cpu.get(side)!) * 1e6).toFixed(1)) }),
    })),
    ratios: load.ratios.map(({ of, to, first, later }) => ({
      of: of.name,
      to: to.name,
      median: median(figures.get(of)!.map((figure, round) => figure / figures.get(to)![round]!)),
      ...(first === undefined ? {} : { first }),
      ...(later === undefined ? {} : { later }),
    })),
  };
}

function print(row: Row): void {
  console.log(`\n${row.name}`);
  for (const { side, median, unit, cpuUsPerTransaction } of row.measured) {
    const cpu = cpuUsPerTransaction === undefined ? "" : `   ${cpuUsPerTransaction.toFixed(1)} µs CPU a transaction`;
    console.log(`  ${side.padEnd(28)} ${median.toFixed(unit === "tps" ? 0 : 1).padStart(9)} ${unit}${cpu}`);
  }
  for (const { of, to, median, first, later } of row.ratios) {
    const aim =
      first === undefined
        ? ""
        : `   first ${first}: ${median >= first ? "reached" : "NOT reached"}${later === undefined ? "" : `; then ${later}: ${median >= later ? "reached" : "NOT reached"}`}`;
    console.log(`  ${of} / ${to} = ${median.toFixed(2)}${aim}`);
  }
}

/** User and system time of a process, in seconds, from /proc (fields 14 and 15, in ticks of 10 ms). */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      cwd: results,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown";
  }
}

await main();
