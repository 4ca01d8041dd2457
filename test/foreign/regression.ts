/**
 * `node test/foreign/regression.ts [--only SCRIPT,…] [--version 15|18] [--schedule parallel|serial] [--keep DIR | --from DIR]`: PostgreSQL's own regression suite,
 * each script with psql directly and through a gateway that allows everything, outputs compared byte for byte. Differences that
 * differences.ts does not explain end it with status 1. With --from the outputs that --keep left are judged again. Results for docs/compatibility.md go to test/foreign/results.
 */
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { TargetVersion } from "../support/targets.ts";
import { explain, type Hunk, hunksOf } from "./differences.ts";
import { fetchSuite, type Suite } from "./suite-source.ts";
import { runScript, startTwoSides, type TwoSides } from "./two-sides.ts";

export interface ScriptResult {
  readonly script: string;
  readonly outcome: "identical" | "explained" | "different" | "stopped";
  /** Names of the explanations that were used. */
  readonly reasons: readonly string[];
}

/** Scripts with hundreds of definitions take minutes through a gateway, which reads the catalog after each. */
const SCRIPT_TIMEOUT_MS = 900_000;
const SHOWN_HUNKS = 12;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    version: { type: "string", default: "15" },
    schedule: { type: "string", default: "serial" },
    keep: { type: "string" },
    from: { type: "string" },
  },
});
const version = Number(values.version) as TargetVersion; // looked at in the next lines
if (version !== 15 && version !== 18) throw new Error("--version is 15 or 18.");
if (values.schedule !== "serial" && values.schedule !== "parallel") throw new Error("--schedule is serial or parallel.");
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const suite = await fetchSuite(join(tmpdir(), "sluice-regression"));
if ("missing" in suite.library) say(`without regress.so: ${suite.library.missing}`);
const given = values.from ?? values.keep;
const outputs = given ?? (await mkdtemp(join(tmpdir(), "sluice-regression-output-")));
const sides = values.from === undefined ? await startTwoSides(version) : undefined;
try {
  const results = await runAll(suite, sides);
  const bad = results.filter(({ outcome }) => outcome === "different" || outcome === "stopped");
  const count = (outcome: ScriptResult["outcome"]): number => results.filter((each) => each.outcome === outcome).length;
  say(
    `${results.length} scripts: ${count("identical")} identical, ${count("explained")} with explained differences, ${bad.length} others`,
  );
  if (values.only === undefined) await keepResults(results);
  if (bad.length > 0) process.exitCode = 1;
} finally {
  await sides?.stop();
  if (given === undefined) await rm(outputs, { recursive: true, force: true });
}

/** Of kept outputs only what is there can be judged. */
function isThere(name: string): boolean {
  return values.from === undefined || existsSync(join(values.from, "gateway", `${name}.out`));
}

async function runAll({ directory, schedule, library }: Suite, two: TwoSides | undefined): Promise<readonly ScriptResult[]> {
  const only = values.only?.split(",");
  const groups = values.schedule === "parallel" ? schedule : schedule.flat().map((name) => [name]);
  const results: ScriptResult[] = [];
  for (const group of groups) {
    const chosen = group.filter((name) => only === undefined || only.includes(name) || name === "test_setup").filter(isThere);
    results.push(...(await Promise.all(chosen.map((name) => runOne(name, directory, library, two)))));
  }
  return results;
}

async function runOne(
  name: string,
  directory: string,
  library: Suite["library"],
  two: TwoSides | undefined,
): Promise<ScriptResult> {
  const script = join(directory, "sql", `${name}.sql`);
  const files = { direct: join(outputs, "direct", `${name}.out`), gateway: join(outputs, "gateway", `${name}.out`) };
  const begun = Date.now();
  const ended =
    two === undefined
      ? []
      : await Promise.all(
          (["direct", "gateway"] as const).map(async (side) => {
            const build = join(outputs, side);
            await mkdir(join(build, "results"), { recursive: true });
            for (const path of [outputs, build, join(build, "results")]) await chmod(path, 0o777);
            const environment = {
              PGTZ: "PST8PDT",
              PGDATESTYLE: "Postgres, MDY",
              PG_ABS_SRCDIR: directory,
              PG_ABS_BUILDDIR: build,
              PG_LIBDIR: "directory" in library ? library.directory : build,
              PG_DLSUFFIX: ".so",
            };
            return await runScript(two[side], script, files[side], environment, SCRIPT_TIMEOUT_MS);
          }),
        );
  // Each side has a directory of its own that its server writes to: its name is no difference.
  const hunks = await hunksOf(files.direct, files.gateway, [join(outputs, "direct"), join(outputs, "gateway")]);
  const reasons = new Set<string>();
  const unexplained: Hunk[] = [];
  for (const hunk of hunks) {
    const reason = explain(name, hunk);
    if (reason === undefined) unexplained.push(hunk);
    else reasons.add(reason.name);
  }
  const outcome = ended.includes("stopped")
    ? "stopped"
    : unexplained.length > 0
      ? "different"
      : reasons.size > 0
        ? "explained"
        : "identical";
  say(`${name.padEnd(28)} ${outcome} ${Date.now() - begun} ms ${[...reasons].join(", ")}`);
  for (const { text } of unexplained.slice(0, SHOWN_HUNKS)) say(text);
  if (unexplained.length > SHOWN_HUNKS) say(`… and ${unexplained.length - SHOWN_HUNKS} more`);
  return { script: name, outcome, reasons: [...reasons].sort() };
}

async function keepResults(results: readonly ScriptResult[]): Promise<void> {
  const folder = join(import.meta.dirname, "results");
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, `regression-${version}-${values.schedule}.json`),
    `${JSON.stringify({ total: suite.schedule.flat().length, scripts: results }, undefined, 2)}\n`,
  );
}
