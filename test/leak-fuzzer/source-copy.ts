/**
 * A copy of the project's sources in a directory of its own, in which a mutation can be made without anybody else seeing it.
 * Installed packages are linked; the project's own are those of the copy.
 */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repository } from "../support/sluice.ts";

const OWN_SCOPE = "@sluice";
const OWN_COMMAND = "sluice";

export interface SourceCopy {
  readonly directory: string;
  readonly launcher: string;
  /** Replaces a text that stands in the file exactly once; returns how to undo it. */
  patch(file: string, find: string, replace: string): Promise<() => Promise<void>>;
  remove(): Promise<void>;
}

export async function copySources(): Promise<SourceCopy> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-mutants-"));
  const workspaces = await workspaceFolders();
  await cp(join(repository, "package.json"), join(directory, "package.json"));
  const filter = (source: string): boolean => !/\/(node_modules|\.git)(\/|$)|\.test\.ts$/.test(source.slice(repository.length));
  for (const folder of workspaces) await cp(join(repository, folder), join(directory, folder), { recursive: true, filter });
  const installed = join(repository, "node_modules");
  const linked = join(directory, "node_modules");
  await mkdir(join(linked, OWN_SCOPE), { recursive: true });
  for (const name of await readdir(installed)) {
    if (name !== OWN_SCOPE && name !== OWN_COMMAND) await symlink(join(installed, name), join(linked, name));
  }
  for (const folder of workspaces) {
    const { name } = JSON.parse(await readFile(join(directory, folder, "package.json"), "utf8")) as { readonly name: string };
    await symlink(join(directory, folder), join(linked, name));
    // Packages that only one workspace uses, or uses in another version.
    const own = join(repository, folder, "node_modules");
    await symlink(own, join(directory, folder, "node_modules")).catch(() => undefined);
  }
  return {
    directory,
    launcher: join(directory, "cli/bin/sluice.mjs"),
    patch: (file, find, replace) => patch(join(directory, file), find, replace),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

async function workspaceFolders(): Promise<readonly string[]> {
  const own = JSON.parse(await readFile(join(repository, "package.json"), "utf8")) as { readonly workspaces: readonly string[] };
  return own.workspaces.filter((folder) => folder !== "test" && folder !== "bench");
}

async function patch(file: string, find: string, replace: string): Promise<() => Promise<void>> {
  const text = await readFile(file, "utf8");
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} places with ${JSON.stringify(find)}, not one`);
  await writeFile(file, parts.join(replace));
  return () => writeFile(file, text);
}
