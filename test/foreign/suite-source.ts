/**
 * Makes PostgreSQL's regression suite runnable: the whole of src/test/regress from the source package that the statement corpus uses
 * too, and regress.so compiled against Debian's server headers. All of it below one directory; the machine's packages stay as they are.
 */
import { execFile } from "node:child_process";
import { access, chmod, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { fetchRegressionSuite } from "../corpus/source.ts";

const run = promisify(execFile);
const HEADERS = "postgresql-server-dev-15";
const APT_TIMEOUT_MS = 5 * 60_000;

export interface Suite {
  /** The unpacked src/test/regress. */
  readonly directory: string;
  /** Groups of script names as parallel_schedule has them. */
  readonly schedule: readonly (readonly string[])[];
  /** Where regress.so is, else why it is not. */
  readonly library: { readonly directory: string } | { readonly missing: string };
}

/** Fetches what is missing below `directory`, which the database's own account must be able to read. */
export async function fetchSuite(directory: string): Promise<Suite> {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o755);
  await fetchRegressionSuite(directory);
  const whole = join(directory, "regress");
  if (!(await exists(join(whole, "parallel_schedule")))) await unpackWhole(directory, whole);
  const schedule = (await readFile(join(whole, "parallel_schedule"), "utf8"))
    .split("\n")
    .filter((line) => line.startsWith("test: "))
    .map((line) => line.slice("test: ".length).trim().split(/\s+/));
  return { directory: whole, schedule, library: await compile(directory, whole) };
}

async function unpackWhole(directory: string, whole: string): Promise<void> {
  const archive = (await readdir(directory)).find((name) => name.includes(".orig.tar."));
  if (archive === undefined) throw new Error(`${directory} has no archive of PostgreSQL's source.`);
  await mkdir(whole, { recursive: true });
  const parts = ["--wildcards", "*/src/test/regress/*", "--strip-components=4"];
  await run("tar", ["-xf", join(directory, archive), "-C", whole, "--no-same-owner", ...parts]);
}

/** Functions in C that some scripts call. Without them those scripts fail alike on both sides, and test less. */
async function compile(directory: string, whole: string): Promise<Suite["library"]> {
  const libraries = join(directory, "lib");
  const library = join(libraries, "regress.so");
  if (await exists(library)) return { directory: libraries };
  try {
    const headers = join(directory, "headers");
    await mkdir(headers, { recursive: true });
    await mkdir(libraries, { recursive: true });
    await run("apt-get", ["download", HEADERS], { cwd: headers, timeout: APT_TIMEOUT_MS });
    const archive = (await readdir(headers)).find((name) => name.endsWith(".deb"));
    if (archive === undefined) return { missing: `the package ${HEADERS} cannot be had here` };
    await run("dpkg-deb", ["-x", archive, "unpacked"], { cwd: headers });
    const include = join(headers, "unpacked/usr/include/postgresql/15/server");
    const flags = ["-O1", "-w", "-fPIC", "-shared", `-I${include}`, "-I/usr/include/postgresql"];
    await run("gcc", [...flags, "-o", library, join(whole, "regress.c")]);
    await chmod(libraries, 0o755);
    return { directory: libraries };
  } catch (error) {
    const said = error instanceof Error ? error.message.split("\n")[0] : String(error);
    return { missing: `regress.so could not be compiled: ${said}` };
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
