/**
 * Imports run one way. The check runs on the whole tree, then on seeded violations, each of which must be found: a rule that
 * cannot fail proves nothing.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { type CheckResult, fail, pass } from "../check-result.ts";
import { runProgram } from "../run-program.ts";

const TIMEOUT_MS = 5 * 60_000;

/** Rules that the seeded tree breaks, one file each. */
const SEEDED: readonly string[] = ["core-knows-nobody", "agent-knows-libraries", "wire-siblings", "pure-core"];

export async function checkImportRules(root: string): Promise<CheckResult> {
  const folders = await foldersWithSource(root);
  const result = await cruise(root, folders, path.join(root, ".dependency-cruiser.mjs"), "err");
  return result.status === 0 ? pass() : fail(result.output.trimEnd());
}

export async function checkSeededViolations(root: string): Promise<CheckResult> {
  const seeded = path.join(root, "test", "seeded");
  const result = await cruise(
    seeded,
    ["core", "inspect", "agent", "recorder"],
    path.join(root, ".dependency-cruiser.mjs"),
    "json",
  );
  const found = rulesFound(result.output);
  if (found === undefined) return fail("the import check did not run on the seeded violations:", result.output.trimEnd());
  const missed = SEEDED.filter((rule) => !found.has(rule));
  if (missed.length > 0) return fail(`seeded violations were not found, so these rules cannot fail: ${missed.join(", ")}`);
  return pass();
}

function cruise(cwd: string, folders: readonly string[], config: string, output: string): ReturnType<typeof runProgram> {
  return runProgram("depcruise", [...folders, "--config", config, "--output-type", output], { cwd, timeoutMs: TIMEOUT_MS });
}

/** Names of the violated rules; undefined when the output is no report. */
function rulesFound(output: string): ReadonlySet<string> | undefined {
  try {
    const report = JSON.parse(output) as { summary?: { violations?: readonly { rule?: { name?: string } }[] } }; // dependency-cruiser's own format
    return new Set((report.summary?.violations ?? []).map((violation) => violation.rule?.name ?? ""));
  } catch {
    return undefined;
  }
}

/** Top-level folders that are workspaces or tools. */
async function foldersWithSource(root: string): Promise<readonly string[]> {
  const wanted = new Set([
    "core",
    "inspect",
    "manifest",
    "rpc",
    "events",
    "telemetry",
    "control-plane",
    "data-plane",
    "agent",
    "recorder",
    "cli",
    "tools",
    "bench",
  ]);
  const entries = await readdir(root, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory() && wanted.has(entry.name)).map((entry) => entry.name);
}
