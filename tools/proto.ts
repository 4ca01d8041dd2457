/**
 * The contracts between planes: `node tools/proto.ts generate` writes proto/src/gen, `check` says what is wrong with them, `baseline`
 * takes them as they are for what later versions must stay compatible with (at a release, never to silence a fault). No network.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type CheckResult, fail, pass } from "./check-result.ts";
import { runProgram } from "./run-program.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const TIMEOUT_MS = 60_000;
/** An image: all contracts of the last release, compiled. */
const BASELINE = "baseline.binpb";
const GENERATED = path.join("src", "gen");

/** Lint, committed code as generated today, and nothing that breaks the baseline. `directory` is the one with buf.yaml. */
export async function checkContracts(directory: string): Promise<CheckResult> {
  const found = [await findLintFaults(directory), await findGeneratedFaults(directory), await findBreakingChanges(directory)];
  const faults = found.flat();
  return faults.length === 0 ? pass() : fail(...faults);
}

export async function findLintFaults(directory: string): Promise<readonly string[]> {
  const result = await buf(directory, ["lint"]);
  return result.status === 0 ? [] : [`buf lint:\n${result.output.trimEnd()}`];
}

export async function findBreakingChanges(directory: string): Promise<readonly string[]> {
  const result = await buf(directory, ["breaking", "--against", BASELINE]);
  if (result.status === 0) return [];
  return [`this breaks nodes of the last version (fields are added, never changed or removed):\n${result.output.trimEnd()}`];
}

export async function findGeneratedFaults(directory: string): Promise<readonly string[]> {
  const out = await mkdtemp(path.join(tmpdir(), "sluice-proto-"));
  try {
    const generated = await buf(directory, ["generate", "--output", out]);
    if (generated.status !== 0) return [`buf generate:\n${generated.output.trimEnd()}`];
    const [today, committed] = await Promise.all([
      readTree(path.join(out, GENERATED)),
      readTree(path.join(directory, GENERATED)),
    ]);
    const names = new Set([...today.keys(), ...committed.keys()]);
    return [...names]
      .filter((name) => today.get(name) !== committed.get(name))
      .map((name) => `${path.join(GENERATED, name)} is not what is generated today; run: node tools/proto.ts generate`);
  } finally {
    await rm(out, { recursive: true });
  }
}

async function generate(directory: string): Promise<CheckResult> {
  const out = path.join(directory, GENERATED);
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  const result = await buf(directory, ["generate"]);
  return result.status === 0 ? pass() : fail(result.output.trimEnd());
}

async function takeBaseline(directory: string): Promise<CheckResult> {
  const unfinished = path.join(directory, `new-${BASELINE}`);
  const result = await buf(directory, ["build", "--exclude-source-info", "--output", unfinished]);
  if (result.status !== 0) return fail(result.output.trimEnd());
  await writeFile(path.join(directory, BASELINE), await readFile(unfinished));
  await rm(unfinished);
  return pass();
}

/** By relative path. Empty when there is no such folder. */
async function readTree(directory: string): Promise<ReadonlyMap<string, string>> {
  const names = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = names.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  const texts = await Promise.all(
    files.map(async (file) => [path.relative(directory, file), await readFile(file, "utf8")] as const),
  );
  return new Map(texts);
}

async function buf(directory: string, args: readonly string[]): Promise<{ readonly status: number; readonly output: string }> {
  // Its plugin is looked up on the path.
  const binaries = path.join(root, "node_modules", ".bin");
  const additions = { PATH: `${binaries}${path.delimiter}${process.env["PATH"] ?? ""}` };
  return await runProgram(path.join(binaries, "buf"), args, { cwd: directory, timeoutMs: TIMEOUT_MS, additions });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const actions: Readonly<Record<string, (directory: string) => Promise<CheckResult>>> = {
    generate,
    check: checkContracts,
    baseline: takeBaseline,
  };
  const action = actions[process.argv[2] ?? ""];
  if (action === undefined) {
    process.stderr.write("Usage: node tools/proto.ts generate | check | baseline\n");
    process.exitCode = 2;
  } else {
    const { failed, lines } = await action(path.join(root, "proto"));
    for (const line of lines) process.stderr.write(`${line}\n`);
    process.exitCode = failed === 0 ? 0 : 1;
  }
}
