/** The files that belong to the project: what git tracks or would track. A copy without git is walked instead. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { runProgram } from "../run-program.ts";

const LEFT_OUT: ReadonlySet<string> = new Set(["node_modules", ".git", ".sluice", ".work", "dist"]);
const GIT_TIMEOUT_MS = 60_000;

/** Paths relative to `root`, sorted, with forward slashes. */
export async function listProjectFiles(root: string): Promise<readonly string[]> {
  const options = { cwd: root, timeoutMs: GIT_TIMEOUT_MS };
  const listed = await runProgram("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], options);
  const files = listed.status === 0 ? listed.output.split("\0").filter((file) => file !== "") : await walk(root, "");
  return [...files].sort();
}

async function walk(root: string, folder: string): Promise<readonly string[]> {
  const files: string[] = [];
  for (const entry of await readdir(path.join(root, folder), { withFileTypes: true })) {
    const child = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      if (!LEFT_OUT.has(entry.name)) files.push(...(await walk(root, child)));
    } else {
      files.push(child);
    }
  }
  return files;
}
