/**
 * Renders the charts with each values file of helm/values into helm/rendered, so that what Kubernetes gets is reviewed with every
 * change and checked where helm is not installed. The first line of a values file says `# release: R, namespace: N, chart: C`; the
 * first line of what was rendered holds a digest of chart and values, by which a stale one is found. Run: node tools/render-helm.ts
 */
import { createHash } from "node:crypto";
import { access, constants, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { runProgram } from "./run-program.ts";

export interface ValuesSet {
  /** Of the values file, without its ending. */
  readonly name: string;
  readonly release: string;
  readonly namespace: string;
  readonly chart: string;
  /** Relative to the project. */
  readonly valuesFile: string;
  readonly renderedFile: string;
}

/** What the charts are rendered for; helm's own idea of it depends on how helm was built. */
const KUBERNETES_VERSION = "1.31.0";
const HELM_TIMEOUT_MS = 60_000;

export async function listValuesSets(root: string): Promise<readonly ValuesSet[]> {
  const files = (await readdir(path.join(root, "helm/values"))).filter((file) => file.endsWith(".yaml")).sort();
  return await Promise.all(
    files.map(async (file) => {
      const valuesFile = `helm/values/${file}`;
      const [first = ""] = (await readFile(path.join(root, valuesFile), "utf8")).split("\n");
      const match = /^# release: ([a-z0-9-]+), namespace: ([a-z0-9-]+), chart: ([a-z0-9-]+)$/.exec(first);
      if (match === null) throw new Error(`${valuesFile}: its first line must be "# release: R, namespace: N, chart: C"`);
      const [, release = "", namespace = "", chart = ""] = match;
      return { name: path.basename(file, ".yaml"), release, namespace, chart, valuesFile, renderedFile: `helm/rendered/${file}` };
    }),
  );
}

/** The first line that a current rendering has. */
export async function headerOf(root: string, set: ValuesSet): Promise<string> {
  const hash = createHash("sha256");
  for (const file of [...(await filesBelow(path.join(root, "helm", set.chart))), path.join(root, set.valuesFile)]) {
    const content = await readFile(file);
    hash.update(`${path.relative(root, file)} ${content.length}\n`).update(content);
  }
  return `# Rendered by tools/render-helm.ts from chart ${set.chart} and ${set.valuesFile}; sha256 ${hash.digest("hex")}`;
}

/** Undefined where helm is not installed: on the path, or where Go puts what it builds. */
export async function findHelm(searchPath: string): Promise<string | undefined> {
  for (const folder of [...searchPath.split(path.delimiter), path.join(homedir(), "go", "bin")]) {
    const candidate = path.join(folder, "helm");
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder !== "" && found) return candidate;
  }
  return undefined;
}

/** The whole text of a rendering, header included. Throws with helm's own words. */
export async function render(root: string, helm: string, set: ValuesSet): Promise<string> {
  const args = ["template", set.release, `helm/${set.chart}`, "--namespace", set.namespace, "--values", set.valuesFile];
  const result = await runProgram(helm, [...args, "--kube-version", KUBERNETES_VERSION], {
    cwd: root,
    timeoutMs: HELM_TIMEOUT_MS,
    additions: withoutColour,
  });
  if (result.status !== 0) throw new Error(`helm could not render ${set.valuesFile}: ${result.output.trim()}`);
  // Blank lines come from conditions that did not hold.
  const text = result.output
    .split("\n")
    .filter((line) => line.trim() !== "")
    .join("\n");
  return `${await headerOf(root, set)}\n${text}\n`;
}

export async function lint(
  root: string,
  helm: string,
  set: ValuesSet,
): Promise<{ readonly ok: boolean; readonly output: string }> {
  const args = ["lint", `helm/${set.chart}`, "--strict", "--values", set.valuesFile, "--kube-version", KUBERNETES_VERSION];
  const result = await runProgram(helm, args, { cwd: root, timeoutMs: HELM_TIMEOUT_MS, additions: withoutColour });
  return { ok: result.status === 0, output: result.output };
}

const withoutColour: Readonly<Record<string, string>> = { HELM_NO_COLOR: "1", NO_COLOR: "1" };

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

async function main(): Promise<void> {
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
  const helm = await findHelm(process.env["PATH"] ?? "");
  if (helm === undefined) throw new Error("helm is not installed: see https://helm.sh/docs/intro/install/");
  await mkdir(path.join(root, "helm/rendered"), { recursive: true });
  for (const set of await listValuesSets(root)) {
    await writeFile(path.join(root, set.renderedFile), await render(root, helm, set));
    process.stdout.write(`${set.renderedFile}\n`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
