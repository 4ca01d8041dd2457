/**
 * `npm run test:clients [-- --only NAME,…] [--version 15|18]`: every client program and tool, each as a caller who may do everything and as one who
 * sees masks, against each version of the target. Results are kept for docs/compatibility.md. Ends with
 * status 1 when a client saw something else than expected; one that cannot be made ready here is named with its reason.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type TargetVersion, targetVersions } from "../support/targets.ts";
import { clientPrograms } from "./catalogue.ts";
import { roles, startClientGround } from "./installation.ts";
import type { ClientResult } from "./report-text.ts";
import { type Outcome, type ReadyProgram, runProgram } from "./run-program.ts";
import { clientTools } from "./tools.ts";

const { values } = parseArgs({ options: { only: { type: "string" }, version: { type: "string" } } });
const only = values.only?.split(",");
const versions = targetVersions.filter((version) => values.version === undefined || String(version) === values.version);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const cache = join(tmpdir(), "sluice-clients");
/** `known:` is a gap that the report shows with its reason. */
const isExpected = (seen: string): boolean => seen === "ok" || seen.startsWith("known: ");
const wanted = (name: string): boolean => only === undefined || only.some((part) => name.includes(part));

const results: ClientResult[] = [];
const ready: { readonly name: string; readonly from: string; readonly program: ReadyProgram }[] = [];
await mkdir(cache, { recursive: true });
for (const { name, from, prepare } of clientPrograms.filter((each) => wanted(each.name))) {
  try {
    ready.push({ name, from, program: await prepare(cache) });
    say(`ready: ${name}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    results.push({ name, from, reason });
    say(`cannot run: ${name}: ${reason}`);
  }
}
for (const version of versions) await runAgainst(version);
const faults = results.flatMap((each) =>
  "features" in each ? Object.values(each.features).filter((seen) => !isExpected(seen)) : [],
);
say(`${results.length} runs, ${faults.length} features not as expected`);
if (faults.length > 0) process.exitCode = 1;
await keepResults();

/** What was run takes the place of what was kept of it; a run of everything takes the place of all. */
async function keepResults(): Promise<void> {
  const folder = join(import.meta.dirname, "results");
  const file = join(folder, "clients.json");
  await mkdir(folder, { recursive: true });
  const key = (each: ClientResult): string => `${each.name} ${"target" in each ? each.target : ""}`;
  const ran = new Set(results.map(key));
  const whole = only === undefined && values.version === undefined;
  const text = whole ? "[]" : await readFile(file, "utf8").catch(() => "[]");
  const kept = (JSON.parse(text) as readonly ClientResult[]).filter((each) => !ran.has(key(each))); // written below
  await writeFile(file, `${JSON.stringify([...kept, ...results], undefined, 2)}\n`);
}

async function runAgainst(version: TargetVersion): Promise<void> {
  const ground = await startClientGround(version);
  const keep = (name: string, from: string, role: (typeof roles)[number], outcome: Outcome): void => {
    results.push({ name, from, target: version, role, ...outcome });
    const others = Object.entries(outcome.features).filter(([, seen]) => seen !== "ok");
    say(`${version} ${role.padEnd(6)} ${name} ${outcome.version}: ${Object.keys(outcome.features).length - others.length} ok`);
    for (const [feature, seen] of others) say(`    ${feature}: ${seen}`);
  };
  try {
    for (const { name, from, program } of ready)
      for (const role of roles) keep(name, from, role, await runProgram(program, ground, role));
    for (const { name, from, run } of clientTools.filter((each) => wanted(each.name)))
      for (const role of roles) keep(name, from, role, await run(ground, role));
  } finally {
    await ground.stop();
  }
}
