/**
 * Classification and lineage over a corpus that nobody here wrote: `node test/corpus.ts [DIR…]` runs them over every statement of the
 * .sql files in the directories, by default over PostgreSQL's own regression suite, and prints what came of it. With `--server 15|18`
 * the scripts run on an embedded server, and what it says of results and names is held against the models. Exits 1 on a crash or a
 * fault. `--only NAME` takes the suites of that name, `--script NAME` the scripts of that name and test_setup, `--minutes N`
 * begins no script later than that.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { index } from "@sluice/inspect/sql/postgres/testing.ts";
import { loadModule } from "libpg-query";
import { reportOf } from "./corpus/report.ts";
import { serverReportOf } from "./corpus/server-report.ts";
import { runOnServer } from "./corpus/server-run.ts";
import { fetchRegressionSuite, readScripts, readSuites } from "./corpus/source.ts";
import { tallyScripts } from "./corpus/tally.ts";
import { startTarget, type TargetVersion, targetVersions } from "./support/targets.ts";

const MINUTES = 9;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string" },
    only: { type: "string", multiple: true, default: [] },
    script: { type: "string", multiple: true, default: [] },
    minutes: { type: "string", default: String(MINUTES) },
  },
});
const directories = positionals.length > 0 ? positionals : await fetchRegressionSuite(join(tmpdir(), "sluice-corpus"));
await loadModule();
if (values.server === undefined) await withSampleCatalog();
else await onServer(toVersion(values.server));

async function withSampleCatalog(): Promise<void> {
  const scripts = await readScripts(directories);
  const tally = tallyScripts(scripts, index);
  process.stdout.write(`${reportOf(`${scripts.length} scripts, against the tests' sample catalog`, tally)}\n`);
  if (tally.crashes.length > 0 || tally.statements === 0) process.exitCode = 1;
}

async function onServer(version: TargetVersion): Promise<void> {
  const all = await readSuites(directories);
  const wanted = values.only.length === 0 ? all : all.filter(({ name }) => values.only.includes(name));
  const named = new Set(["test_setup", ...values.script].map((name) => `${name}.sql`));
  const suites = wanted.map((suite) =>
    values.script.length === 0 ? suite : { ...suite, scripts: suite.scripts.filter(({ name }) => named.has(name)) },
  );
  const target = await startTarget(version, { statement_timeout: "8s", lock_timeout: "4s", max_prepared_transactions: "4" });
  // Ctrl-C reaches us alone: the server is a process group of its own.
  process.once("SIGINT", () => void target.stop().finally(() => process.exit(130)));
  try {
    const tally = await runOnServer({
      target,
      suites,
      budgetMs: Number(values.minutes) * 60_000,
      progress: (line) => process.stderr.write(`${line}\n`),
      nowMs: () => performance.now(),
    });
    const scripts = suites.reduce((sum, suite) => sum + suite.scripts.length, 0);
    process.stdout.write(`${serverReportOf(`${scripts} scripts on PostgreSQL ${version}`, tally)}\n`);
    if (tally.crashes.length + tally.faults.length > 0 || tally.results === 0) process.exitCode = 1;
  } finally {
    await target.stop();
  }
}

function toVersion(text: string): TargetVersion {
  const found = targetVersions.find((version) => String(version) === text);
  if (found === undefined) throw new Error(`--server takes ${targetVersions.join(" or ")}, not ${text}.`);
  return found;
}
