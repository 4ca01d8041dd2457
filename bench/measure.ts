/**
 * Loads and what comes of them: sides take their turn round by round (A B C A B C …), figures are medians of the rounds, ratios medians
 * of the rounds' ratios. CPU is user and system time of a side's own processes.
 */
import { join } from "node:path";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { BULK_ROW_BYTES, BULK_ROWS, pgbench, pgbenchMedianUs, type Side } from "./ground.ts";

/** How long is measured. */
export interface Pace {
  readonly quick: boolean;
  readonly rounds: number;
  readonly seconds: number;
}

export interface Load {
  readonly name: string;
  readonly unit: string;
  readonly sides: readonly Side[];
  readonly judged: readonly Judged[];
  /** One round of one side. */
  readonly measure: (side: Side) => Promise<{ readonly figure: number; readonly transactions: number }>;
}

/** What a row is held against: one side's figure to another's, or alone; `first` is the least (or most) at first, `later` then. */
export interface Judged {
  readonly of: Side;
  readonly to?: Side;
  /** A ratio where nothing is said. */
  readonly by?: "ratio" | "difference" | "alone";
  readonly better?: "more" | "less";
  readonly first?: number;
  readonly later?: number;
}

export interface Row {
  readonly name: string;
  readonly measured: readonly Measured[];
  readonly verdicts: readonly Verdict[];
}

export interface Measured {
  readonly side: string;
  readonly unit: string;
  readonly median: number;
  readonly rounds: readonly number[];
  /** CPU microseconds a transaction, by process. */
  readonly cpuUsPerTransaction: Readonly<Record<string, number>>;
}

export interface Verdict {
  /** As printed: `a / b`, `a - b`, `a`. */
  readonly of: string;
  readonly value: number;
  readonly better: "more" | "less";
  readonly first?: number;
  readonly later?: number;
}

type Compared = Pick<Load, "sides" | "judged">;

/** pgbench's built-in select by key. */
export function select(pace: Pace, name: string, mode: string, clients: number, compared: Compared): Load {
  const args = ["-S", "-M", mode, "-c", String(clients), "-T", String(pace.seconds)];
  return { name: `select-only, ${name}`, unit: "tps", ...compared, measure: (side) => throughput(pace, side, args, 1) };
}

/** A connection for each transaction. */
export function reconnect(pace: Pace, name: string, clients: number, compared: Compared): Load {
  const args = ["-S", "-C", "-M", "prepared", "-c", String(clients), "-T", String(pace.seconds)];
  return { name: `new sessions, ${name}`, unit: "sessions/s", ...compared, measure: (side) => throughput(pace, side, args, 1) };
}

/** The whole wide table, one client. */
export function bulk(pace: Pace, name: string, compared: Compared): Load {
  const script = fileURLToPath(new URL("./scripts/bulk.sql", import.meta.url));
  const args = ["-f", script, "-c", "1", "-T", String(pace.seconds)];
  const scale = (BULK_ROWS * BULK_ROW_BYTES) / 1e6;
  return { name: `bulk SELECT, ${name}`, unit: "MB/s", ...compared, measure: (side) => throughput(pace, side, args, scale) };
}

/** The middle of all transactions' times. */
export function medianLatency(pace: Pace, name: string, compared: Compared): Load {
  const args = ["-S", "-M", "prepared", "-c", "1", "-T", String(pace.seconds)];
  return {
    name: `p50 of a prepared select, ${name}`,
    unit: "µs",
    ...compared,
    measure: async (side) => {
      const { tps, medianUs } = await pgbenchMedianUs(side, args);
      return { figure: medianUs, transactions: tps * pace.seconds };
    },
  };
}

async function throughput(
  pace: Pace,
  side: Side,
  args: readonly string[],
  scale: number,
): Promise<{ readonly figure: number; readonly transactions: number }> {
  const { tps } = await pgbench(side, args);
  return { figure: tps * scale, transactions: tps * pace.seconds };
}

export async function measure(load: Load, { rounds }: Pace): Promise<Row> {
  const figures = new Map<Side, number[]>(load.sides.map((side) => [side, []]));
  const cpu = new Map<Side, number[][]>(load.sides.map((side) => [side, []]));
  // The first sessions read catalogs and analyse statements: that is not what is measured.
  for (const side of load.sides) await pgbench(side, ["-S", "-M", "prepared", "-c", "8", "-t", "20"]);
  for (let round = 0; round < rounds; round++) {
    for (const side of load.sides) {
      const before = await cpuSeconds(side);
      const { figure, transactions } = await load.measure(side);
      const after = await cpuSeconds(side);
      figures.get(side)!.push(figure);
      cpu.get(side)!.push(after.map((seconds, at) => ((seconds - before[at]!) * 1e6) / transactions));
    }
  }
  return {
    name: load.name,
    measured: load.sides.map((side) => ({
      side: side.name,
      unit: load.unit,
      median: median(figures.get(side)!),
      rounds: figures.get(side)!.map((figure) => Number(figure.toFixed(1))),
      cpuUsPerTransaction: Object.fromEntries(
        side.processes.map(({ name }, at) => [name, Number(median(cpu.get(side)!.map((round) => round[at]!)).toFixed(1))]),
      ),
    })),
    verdicts: load.judged.map((judged) => verdict(judged, figures)),
  };
}

function verdict(judged: Judged, figures: ReadonlyMap<Side, readonly number[]>): Verdict {
  const { of, to, by = to === undefined ? "alone" : "ratio", better = "more", first, later } = judged;
  const others = to === undefined ? [] : figures.get(to)!;
  const values = figures.get(of)!.map((figure, round) => compare(by, figure, others[round] ?? Number.NaN));
  return {
    of: by === "alone" ? of.name : `${of.name} ${by === "ratio" ? "/" : "-"} ${to?.name}`,
    value: median(values),
    better,
    ...(first === undefined ? {} : { first }),
    ...(later === undefined ? {} : { later }),
  };
}

function compare(by: NonNullable<Judged["by"]>, figure: number, other: number): number {
  return by === "alone" ? figure : by === "ratio" ? figure / other : figure - other;
}

export function printRow(row: Row): void {
  console.log(`\n${row.name}`);
  for (const { side, median: middle, unit, cpuUsPerTransaction } of row.measured) {
    const cpu = Object.entries(cpuUsPerTransaction).map(([name, us]) => `${name} ${us.toFixed(us < 100 ? 1 : 0)}`);
    const shown = `  ${side.padEnd(28)} ${middle.toFixed(middle < 1_000 ? 1 : 0).padStart(9)} ${unit.padEnd(10)}`;
    console.log(`${shown}${cpu.length === 0 ? "" : ` µs CPU a transaction: ${cpu.join(", ")}`}`.trimEnd());
  }
  for (const one of row.verdicts) printVerdict(one);
}

export function printVerdict({ of, value, better, first, later }: Verdict): void {
  const reached = (aim: number): string => ((better === "more" ? value >= aim : value <= aim) ? "reached" : "NOT reached");
  const aims = [
    ...(first === undefined ? [] : [`first ${first}: ${reached(first)}`]),
    ...(later === undefined ? [] : [`then ${later}: ${reached(later)}`]),
  ];
  console.log(`  ${of} = ${value.toFixed(value < 10 ? 2 : 1)}${aims.length === 0 ? "" : `   ${aims.join("; ")}`}`);
}

/** User and system time of each process of a side, from /proc (fields 14 and 15, in ticks of 10 ms). */
async function cpuSeconds(side: Side): Promise<readonly number[]> {
  return await Promise.all(
    side.processes.map(async ({ pid }) => {
      const stat = await readFile(join("/proc", String(pid), "stat"), "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return (Number(fields[11]) + Number(fields[12])) / 100;
    }),
  );
}

/** Resident memory in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(join("/proc", String(pid), "status"), "utf8");
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) * 1024; // every process that runs has this line
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
