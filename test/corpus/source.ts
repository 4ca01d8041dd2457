/**
 * Brings PostgreSQL's own regression suite where Debian's source packages can be had: with the machine's package sources, into a
 * directory of its own that is not kept in the repository. Must never change the machine's package lists.
 */
import { isUtf8 } from "node:buffer";
import { execFile } from "node:child_process";
import { access, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import type { Script } from "./tally.ts";

const run = promisify(execFile);
const PACKAGE = "postgresql-15";
const APT_TIMEOUT_MS = 5 * 60_000;

/** Directories below `directory` with the scripts of the suite, fetched there if they are not yet. */
export async function fetchRegressionSuite(directory: string): Promise<readonly string[]> {
  const unpacked = join(directory, "unpacked");
  if ((await readdir(unpacked).catch(() => [])).length === 0) await fetchSource(directory, unpacked);
  else if (!(await hasSchedule(unpacked))) await unpack(directory, unpacked);
  const [root] = await readdir(unpacked);
  if (root === undefined) throw new Error(`${unpacked} is empty: the archive of ${PACKAGE} has another shape than expected.`);
  return [
    join(unpacked, root, "src/test/regress/sql"),
    join(unpacked, root, "src/pl/plpgsql/src/sql"),
    ...(await contribs(join(unpacked, root))),
  ];
}

/** Scripts of the directories, by name; files in Latin-1 or the like lose nothing that matters here. */
export async function readScripts(directories: readonly string[]): Promise<readonly Script[]> {
  const scripts: Script[] = [];
  for (const directory of directories) {
    for (const name of (await readdir(directory)).filter((each) => each.endsWith(".sql")).sort()) {
      const bytes = await readFile(join(directory, name));
      scripts.push({ name, text: bytes.toString(isUtf8(bytes) ? "utf8" : "latin1") });
    }
  }
  return scripts;
}

/** What runs in one database, one script after the other, as pg_regress would run them. */
export interface Suite {
  /** Such as `regress` or `hstore`. */
  readonly name: string;
  readonly scripts: readonly Script[];
  /** Holds `data`, which the scripts load from. */
  readonly directory: string;
}

/** The scripts of each directory in the order of its schedule or Makefile; those that neither names come last. */
export async function readSuites(directories: readonly string[]): Promise<readonly Suite[]> {
  return Promise.all(
    directories.map(async (directory) => {
      const [scripts, order] = await Promise.all([readScripts([directory]), orderOf(dirname(directory))]);
      const place = ({ name }: Script): number => {
        const at = order.indexOf(name.replace(/\.sql$/, ""));
        return at === -1 ? order.length : at;
      };
      return {
        name: suiteName(dirname(directory)),
        scripts: [...scripts].sort((a, b) => place(a) - place(b)),
        directory: dirname(directory),
      };
    }),
  );
}

/** `contrib/hstore` is hstore, `src/pl/plpgsql/src` is plpgsql. */
function suiteName(directory: string): string {
  return basename(basename(directory) === "src" ? dirname(directory) : directory);
}

/** Names of scripts in the order in which pg_regress runs them. */
async function orderOf(directory: string): Promise<readonly string[]> {
  const read = (name: string): Promise<string> => readFile(join(directory, name), "utf8").catch(() => "");
  const schedule = [...(await read("parallel_schedule")).matchAll(/^test:(.*)$/gm)].map((match) => match[1]!);
  const makefile = (await read("Makefile")).replaceAll(/\\\n/g, " ");
  const listed = [...makefile.matchAll(/^REGRESS\s*\+?=(.*)$/gm)].map((match) => match[1]!);
  return [...schedule, ...listed].join(" ").split(/\s+/);
}

async function contribs(root: string): Promise<readonly string[]> {
  const names = await readdir(join(root, "contrib")).catch(() => []);
  const directories = [...names].sort((a, b) => (a < b ? -1 : 1)).map((name) => join(root, "contrib", name, "sql"));
  const present = await Promise.all(
    directories.map((directory) =>
      readdir(directory).then(
        () => true,
        () => false,
      ),
    ),
  );
  return directories.filter((_, at) => present[at]);
}

async function fetchSource(directory: string, unpacked: string): Promise<void> {
  const lists = join(directory, "lists");
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(unpacked, { recursive: true });
  const sources = join(directory, "source-packages.sources");
  await writeFile(sources, await sourceEntries());
  const options = [
    `Dir::Etc::sourcelist=${sources}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${lists}`,
    "Dir::Cache::srcpkgcache=",
    "Dir::Cache::pkgcache=",
  ];
  const flags = options.flatMap((option) => ["-o", option]);
  const apt = (program: string, ...args: string[]): Promise<{ stdout: string }> =>
    run(program, [...flags, ...args], { cwd: directory, timeout: APT_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 });
  await apt("apt-get", "update");
  const { stdout } = await apt("apt-cache", "showsrc", PACKAGE);
  const versions = [...stdout.matchAll(/^Version: (\S+)$/gm)].map((match) => match[1]!).reverse();
  // A mirror may list a version that it does not hold (yet, or any more).
  for (const version of versions) {
    const fetched = await apt("apt-get", "source", "--download-only", "--only-source", `${PACKAGE}=${version}`).then(
      () => true,
      () => false,
    );
    if (fetched) break;
  }
  await unpack(directory, unpacked);
}

/** A directory from before schedules were taken along has none. */
async function hasSchedule(unpacked: string): Promise<boolean> {
  const [root] = await readdir(unpacked);
  return access(join(unpacked, root ?? "", "src/test/regress/parallel_schedule")).then(
    () => true,
    () => false,
  );
}

async function unpack(directory: string, unpacked: string): Promise<void> {
  const archive = (await readdir(directory)).find((name) => name.includes(".orig.tar."));
  if (archive === undefined) {
    throw new Error(
      `The source package ${PACKAGE} cannot be had here. Give directories with .sql files: node test/corpus.ts DIR…`,
    );
  }
  const wanted = [
    "src/test/regress/sql/*",
    "src/test/regress/data/*",
    "src/test/regress/parallel_schedule",
    "src/pl/plpgsql/src/sql/*",
    "src/pl/plpgsql/src/data/*",
    "src/pl/plpgsql/src/Makefile",
    "contrib/*/sql/*",
    "contrib/*/data/*",
    "contrib/*/Makefile",
  ];
  await run("tar", ["-xf", join(directory, archive), "-C", unpacked, "--wildcards", ...wanted.map((path) => `*/${path}`)]);
}

/** The machine's own package sources, for source packages instead. */
async function sourceEntries(): Promise<string> {
  const directory = "/etc/apt/sources.list.d";
  const names = (await readdir(directory).catch(() => [])).filter((name) => name === "debian.sources");
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")));
  if (texts.length === 0)
    throw new Error(
      "This machine has no debian.sources to take source packages from. Give directories: node test/corpus.ts DIR…",
    );
  return texts.join("\n").replaceAll(/^Types: .*$/gm, "Types: deb-src");
}
