/**
 * `npm run bench [-- PART …] [-- --quick]`: the same load direct, through PgBouncer and through Sluice, in one run, in turn; and what
 * many rules and many agents cost. Prints what it measured, reached or not, and keeps it as JSON. It judges nothing.
 * Parts: in-process, analysis, one-process, two-hops, control; all of them when none is named.
 */
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { measureAnalysis } from "./analysis.ts";
import { measureControl } from "./control.ts";
import { type Ground, startGround } from "./ground.ts";
import { measureIdleSessions } from "./idle-sessions.ts";
import { measureInProcess } from "./in-process.ts";
import { measure, type Pace, printRow, type Row } from "./measure.ts";
import { oneProcessLoads, startOneProcess } from "./one-process.ts";
import { startTwoHops, twoHopsLoads } from "./two-hops.ts";

const partNames = ["in-process", "analysis", "one-process", "two-hops", "control"] as const;
type Part = (typeof partNames)[number];

const results = fileURLToPath(new URL("./results/", import.meta.url));
const progress = (line: string): void => console.log(`… ${line}`);

async function main(): Promise<void> {
  const words = process.argv.slice(2);
  const quick = words.includes("--quick");
  const parts = partsOf(words.filter((word) => word !== "--quick"));
  const pace: Pace = quick ? { quick, rounds: 1, seconds: 1 } : { quick, rounds: 5, seconds: 3 };
  const machine = machineNow();
  console.log(
    `${machine.cores} cores (${machine.cpu}), Node ${machine.node}, load ${machine.loadBefore}${machine.quiet ? "" : ": NOT QUIET, compare with care"}`,
  );
  console.log(
    `client, target and all hops share this machine; ${pace.rounds} rounds of ${pace.seconds} s, sides in turn, medians\n`,
  );
  const inProcess = parts.has("in-process") ? await measureInProcess() : [];
  for (const row of inProcess) console.log(`${row.name.padEnd(64)} ${row.value.toFixed(0).padStart(8)} ${row.unit}   ${row.aim}`);
  const rows: { readonly part: Part; readonly load: number; readonly row: Row }[] = [];
  const keep = (part: Part, row: Row): void => {
    printRow(row);
    rows.push({ part, load: loadNow(), row });
  };
  if (parts.has("analysis")) await measureAnalysis(pace, progress, (row) => keep("analysis", row));
  if (parts.has("one-process") || parts.has("two-hops")) {
    const ground = await startGround(progress);
    try {
      if (parts.has("one-process")) await runOneProcess(ground, pace, (row) => keep("one-process", row));
      if (parts.has("two-hops")) await runTwoHops(ground, pace, (row) => keep("two-hops", row));
    } finally {
      await ground.stop();
    }
  }
  if (parts.has("control")) await measureControl(pace, progress, (row) => keep("control", row));
  await save({
    machine: { ...machine, loadAfter: loadNow() },
    quick,
    rounds: pace.rounds,
    secondsPerRound: pace.seconds,
    inProcess,
    rows: rows.map(({ part, load, row }) => ({ part, load, ...row })),
  });
}

async function runOneProcess(ground: Ground, pace: Pace, keep: (row: Row) => void): Promise<void> {
  progress("starting Sluice as one process, without and with TLS to the caller");
  const sides = await startOneProcess(ground);
  try {
    for (const load of oneProcessLoads(ground, sides, pace)) keep(await measure(load, pace));
  } finally {
    await sides.stop();
  }
}

async function runTwoHops(ground: Ground, pace: Pace, keep: (row: Row) => void): Promise<void> {
  progress("starting Sluice as many processes: control plane, three gateways, agent, recorder, NATS");
  const sides = await startTwoHops(ground);
  try {
    for (const load of twoHopsLoads(ground, sides, pace)) keep(await measure(load, pace));
    keep(await measureIdleSessions(sides, pace));
  } finally {
    await sides.stop();
  }
}

function partsOf(words: readonly string[]): ReadonlySet<Part> {
  const isPart = (word: string): word is Part => (partNames as readonly string[]).includes(word);
  const unknown = words.filter((word) => !isPart(word));
  if (unknown.length > 0) {
    console.error(`There is no part ${unknown.join(", ")}. Parts: ${partNames.join(", ")}; and --quick.`);
    process.exit(2);
  }
  return new Set(words.length === 0 ? partNames : words.filter(isPart));
}

interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
  readonly loadBefore: number;
  readonly quiet: boolean;
}

function machineNow(): Machine {
  const loadBefore = loadNow();
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    loadBefore,
    quiet: loadBefore < 0.5,
  };
}

/** Of the last minute. */
function loadNow(): number {
  return Number(loadavg()[0]!.toFixed(2));
}

async function save(run: Readonly<Record<string, unknown>>): Promise<void> {
  const at = new Date().toISOString();
  await mkdir(results, { recursive: true });
  const file = join(results, `${at.slice(0, 19).replaceAll(":", "")}.json`);
  await writeFile(file, `${JSON.stringify({ at, commit: commit(), ...run }, undefined, 2)}\n`);
  console.log(`\nwritten to ${file}`);
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
