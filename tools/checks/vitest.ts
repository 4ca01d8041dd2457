/**
 * Runs a vitest project and counts its tests. A run without tests, a skipped test, a test marked as to-do, a file that does not
 * load: each is a failure, since none of them proves anything.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { CheckResult } from "../check-result.ts";
import { runProgram } from "../run-program.ts";

/** What is used of vitest's JSON report. */
export interface VitestReport {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly VitestFile[];
}

interface VitestFile {
  readonly name: string;
  readonly status: string;
  readonly message?: string;
  readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
}

const TIMEOUT_MS = 40 * 60_000;

/** Runs one project; its own output is shown while it runs. `filters` are vitest's (parts of paths, `-t name`). */
export async function runVitest(root: string, project: "unit" | "e2e", filters: readonly string[]): Promise<CheckResult> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "sluice-check-"));
  const file = path.join(folder, "report.json");
  try {
    const args = ["run", "--project", project, "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...filters];
    const result = await runProgram("vitest", args, { cwd: root, timeoutMs: TIMEOUT_MS, show: true });
    const text = await readFile(file, "utf8").catch(() => undefined);
    const reasons = result.timedOut ? [`the run was ended after ${TIMEOUT_MS / 60_000} minutes`] : [];
    if (text === undefined)
      return { passed: 0, failed: 1, lines: [...reasons, "vitest left no report: it did not run to its end"] };
    const report = JSON.parse(text) as VitestReport; // vitest's own format
    return judgeReport(report, result.status, reasons);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Counts a report; what is no passed test is a failure with a reason. */
export function judgeReport(report: VitestReport, status: number, reasons: readonly string[] = []): CheckResult {
  const unloaded = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((one) => one.status === "failed"),
  );
  const leftOut = report.numPendingTests + report.numTodoTests;
  const lines = [...reasons];
  for (const file of unloaded) lines.push(`${file.name}: did not load or failed outside its tests`);
  if (report.numTotalTests === 0) lines.push("no test ran");
  if (leftOut > 0) lines.push(`skipped or to do: ${namesOfLeftOut(report).join("; ")}`);
  const failed = report.numFailedTests + unloaded.length + leftOut + (report.numTotalTests === 0 ? 1 : 0) + reasons.length;
  // vitest also fails on unhandled errors between tests: they count, though no test has them.
  const other = failed === 0 && status !== 0 ? 1 : 0;
  if (other > 0) lines.push(`vitest ended with status ${status} although no test failed: see its output above`);
  return { passed: report.numPassedTests, failed: failed + other, lines };
}

function namesOfLeftOut(report: VitestReport): readonly string[] {
  return report.testResults.flatMap((file) =>
    file.assertionResults
      .filter((one) => one.status !== "passed" && one.status !== "failed")
      .map((one) => `${file.name}: ${one.fullName}`),
  );
}
