/**
 * `npm test`: every check of the project, in order, each with its time. The last line is `N passed, N failed`, where N counts
 * tests and checks. It must never leave something out in silence: what cannot run is a failure.
 * Parts: `npm test -- checks`, `npm test -- unit|e2e [vitest filters]`.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type Check, type CheckResult, fail, pass } from "./check-result.ts";
import { findDocumentationFaults } from "./checks/documentation.ts";
import { findLongFiles, isSourceFile } from "./checks/file-length.ts";
import { checkGeneratedFiles } from "./checks/generated-files.ts";
import { checkImportRules, checkSeededViolations } from "./checks/import-rules.ts";
import { listProjectFiles } from "./checks/tracked-files.ts";
import { runVitest } from "./checks/vitest.ts";
import { checkDebianPackages } from "./debian-packages.ts";
import { checkContracts } from "./proto.ts";
import { runProgram } from "./run-program.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const TOOL_TIMEOUT_MS = 10 * 60_000;

const [part = "all", ...filters] = process.argv.slice(2);
const checks = selectChecks(part);
if (checks === undefined) {
  process.stderr.write(`Unknown part "${part}". Use: npm test [-- checks | unit | e2e] [vitest filters].\n`);
  process.exitCode = 2;
} else {
  process.exitCode = (await runAll(checks)) ? 0 : 1;
}

function selectChecks(name: string): readonly Check[] | undefined {
  const packages: Check = { name: "Debian packages", run: () => checkDebianPackages(root, say) };
  const unit: Check = { name: "unit tests", run: () => runVitest(root, "unit", filters) };
  const e2e: Check = { name: "end-to-end tests", run: () => runVitest(root, "e2e", filters) };
  switch (name) {
    case "all":
      return [packages, ...staticChecks(), unit, e2e];
    case "checks":
      return filters.length === 0 ? staticChecks() : undefined;
    case "unit":
      return [unit];
    case "e2e":
      return [packages, e2e];
    default:
      return undefined;
  }
}

function staticChecks(): readonly Check[] {
  return [
    { name: "format", run: () => tool("biome", ["format", "."]) },
    { name: "lint", run: () => tool("oxlint", ["--type-aware", "--deny-warnings"]) },
    { name: "types", run: () => tool("tsc", ["-p", "."]) },
    { name: "import rules", run: () => checkImportRules(root) },
    { name: "import rules find seeded violations", run: () => checkSeededViolations(root) },
    { name: "lock file is complete", run: () => tool("node", ["tools/complete-lock.mjs", "--check"]) },
    { name: "file length", run: checkFileLength },
    { name: "documentation", run: checkDocumentation },
    { name: "generated files", run: () => checkGeneratedFiles(root) },
    { name: "contracts", run: () => checkContracts(path.join(root, "proto")) },
  ];
}

async function runAll(list: readonly Check[]): Promise<boolean> {
  // The program that runs is told by run-program.ts; no other is begun after it.
  let stopped = false;
  process.on("SIGTERM", () => {
    stopped = true;
  });
  const summary: string[] = [];
  let passed = 0;
  let failed = 0;
  for (const check of list) {
    if (stopped) break;
    const startedAt = performance.now();
    say(`== ${check.name}`);
    const result = await runOne(check);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    for (const line of result.lines) say(`   ${line.split("\n").join("\n   ")}`);
    passed += result.passed;
    failed += result.failed;
    const verdict = result.failed === 0 ? "ok  " : "FAIL";
    const counts = result.passed + result.failed > 1 ? `, ${result.passed} passed, ${result.failed} failed` : "";
    summary.push(`${verdict}  ${check.name} (${seconds} s${counts})`);
  }
  say(["", ...summary, "", `${passed} passed, ${failed} failed`].join("\n"));
  return failed === 0 && !stopped;
}

async function runOne(check: Check): Promise<CheckResult> {
  try {
    return await check.run();
  } catch (error) {
    return fail(`the check itself failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}

/** A tool of node_modules/.bin that prints faults and ends with a status. */
async function tool(name: string, args: readonly string[]): Promise<CheckResult> {
  const result = await runProgram(name, args, { cwd: root, timeoutMs: TOOL_TIMEOUT_MS });
  if (result.status === 0) return pass();
  return fail(result.timedOut ? `${name} took longer than ${TOOL_TIMEOUT_MS / 60_000} minutes` : result.output.trimEnd());
}

async function checkFileLength(): Promise<CheckResult> {
  const files = (await listProjectFiles(root)).filter((file) => isSourceFile(file));
  const faults = findLongFiles(await readAll(files));
  return faults.length === 0 ? pass(`${files.length} source files`) : fail(...faults);
}

async function checkDocumentation(): Promise<CheckResult> {
  const files = await listProjectFiles(root);
  const documents = await readAll(files.filter((file) => file.endsWith(".md")));
  const faults = findDocumentationFaults(new Map(documents.map(({ path: file, text }) => [file, text])), new Set(files));
  return faults.length === 0 ? pass(`${documents.length} documents`) : fail(...faults);
}

/** Files that were removed but are still known to git are left out. */
async function readAll(files: readonly string[]): Promise<readonly { readonly path: string; readonly text: string }[]> {
  const read: { path: string; text: string }[] = [];
  for (const file of files) {
    const text = await readFile(path.join(root, file), "utf8").catch(() => undefined);
    if (text !== undefined) read.push({ path: file, text });
  }
  return read;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
