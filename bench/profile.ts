/**
 * `node bench/profile.ts [two-hops] [strict|masked] [bulk|sessions]`: where the CPU of one process, or of gateway, agent and recorder, goes under
 * one load. Prints microseconds of each thread for each transaction, and the functions of the main thread that take most (profiling
 * itself costs some). Judges nothing, keeps nothing.
 */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { pgbench, type Side, startGround } from "./ground.ts";
import { type OneProcess, startOneProcess } from "./one-process.ts";
import { startTwoHops, type TwoHops } from "./two-hops.ts";

const SECONDS = 5;
const SHOWN = 25;
const words = process.argv.slice(2);

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

async function main(): Promise<void> {
  const hook = fileURLToPath(new URL("./profile-hook.ts", import.meta.url));
  process.env["NODE_OPTIONS"] = `${process.env["NODE_OPTIONS"] ?? ""} --import=${hook}`.trim();
  const ground = await startGround((line) => console.log(`… ${line}`));
  const sides = words.includes("two-hops") ? await startTwoHops(ground) : await startOneProcess(ground);
  try {
    const side = sideOf(sides);
    const bulk = fileURLToPath(new URL("./scripts/bulk.sql", import.meta.url));
    const select = ["-S", "-M", "prepared", "-c", "8", ...(words.includes("sessions") ? ["-C"] : [])];
    const load = words.includes("bulk") ? ["-f", bulk, "-c", "1"] : select;
    const pids = side.processes.map(({ pid }) => pid);
    await pgbench(side, [...load, "-T", "3"]);
    for (const pid of pids) process.kill(pid, "SIGUSR2");
    const before = pids.map(threads);
    const { tps } = await pgbench(side, [...load, "-T", String(SECONDS)]);
    const after = pids.map(threads);
    for (const pid of pids) process.kill(pid, "SIGUSR2");
    await delay(2_000);
    console.log(`\n${side.name}, pgbench ${load.join(" ")}: ${tps.toFixed(0)} transactions a second`);
    side.processes.forEach(({ name, pid }, at) => {
      console.log(`\n${name}`);
      printThreads(before[at]!, after[at]!, tps * SECONDS);
      const file = join(tmpdir(), `sluice-profile-${pid}.json`);
      printFunctions(JSON.parse(readFileSync(file, "utf8")) as Profile); // written by our own hook
      rmSync(file);
    });
  } finally {
    await sides.stop();
    await ground.stop();
  }
}

function sideOf(sides: OneProcess | TwoHops): Side {
  if (words.includes("sessions")) return "tlsPooled" in sides ? sides.tlsPooled : sides.tls;
  return words.includes("strict") ? sides.strict : words.includes("masked") ? sides.masked : sides.relaxed;
}

/** Ticks of 10 ms (user and system) by thread, as `name id`. */
function threads(pid: number): ReadonlyMap<string, number> {
  return new Map(
    readdirSync(`/proc/${pid}/task`).map((id) => {
      const stat = readFileSync(`/proc/${pid}/task/${id}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return [`${stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"))} ${id}`, Number(fields[11]) + Number(fields[12])];
    }),
  );
}

function printThreads(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, transactions: number): void {
  const byName = new Map<string, number>();
  for (const [thread, ticks] of after) {
    const name = thread.slice(0, thread.lastIndexOf(" "));
    byName.set(name, (byName.get(name) ?? 0) + ((ticks - (before.get(thread) ?? 0)) * 1e4) / transactions);
  }
  for (const [name, us] of [...byName].sort((a, b) => b[1] - a[1]))
    if (us >= 0.1) console.log(`${us.toFixed(1).padStart(10)} µs CPU a transaction  ${name}`);
}

function printFunctions({ nodes, samples, timeDeltas }: Profile): void {
  const names = new Map(
    nodes.map(({ id, callFrame }) => [
      id,
      `${callFrame.functionName || "(anonymous)"} ${callFrame.url.replace(/^.*\/(?=[^/]+\/[^/]+$)/, "")}`.trim(),
    ]),
  );
  const own = new Map<string, number>();
  samples.forEach((id, at) => {
    const name = names.get(id) ?? "(unknown)";
    own.set(name, (own.get(name) ?? 0) + timeDeltas[at]!);
  });
  const total = timeDeltas.reduce((sum, delta) => sum + delta, 0);
  for (const [name, us] of [...own].sort((a, b) => b[1] - a[1]).slice(0, SHOWN))
    console.log(`${((100 * us) / total).toFixed(1).padStart(10)} % of main thread     ${name}`);
}

await main();
