/**
 * Every client program: what it is written with, how it is made ready, and what it needs. What cannot be made ready says why, and stands
 * in the report with that reason. Toolchains and registries are those of the machine; what they bring lives in a cache directory.
 */
import { execFile } from "node:child_process";
import { access, cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { repository } from "../support/sluice.ts";
import type { ReadyProgram } from "./run-program.ts";

const run = promisify(execFile);
const BUILD_TIMEOUT_MS = 15 * 60_000;
const programs = join(repository, "test/clients/programs");
/** Debian's own Python: another one on the path would not have Debian's psycopg. */
const PYTHON = "/usr/bin/python3";
const JDBC_DRIVER = "/usr/share/java/postgresql.jar";
const MAVEN_DRIVER = "org.postgresql:postgresql:42.7.7";
const NPM_PACKAGES = ["postgres@3.4.9", "drizzle-orm@0.45.4", "pg@8.23.1"];
const PYPI_PACKAGES = ["asyncpg==0.32.0", "SQLAlchemy==2.1.9", "psycopg2-binary==2.9.13", "pg8000==1.31.6"];

export interface ClientProgram {
  readonly name: string;
  readonly from: "Debian" | "npm" | "PyPI" | "Go modules" | "crates" | "Maven";
  /** Part of `npm test`: needs nothing but Debian packages and what npm has installed already. */
  readonly slice: boolean;
  /** Makes it ready below the cache directory; throws with the reason where that cannot be. */
  readonly prepare: (cache: string) => Promise<ReadyProgram>;
}

const jdbc = (threshold: string, words: string): ClientProgram => ({
  name: `JDBC, ${words}`,
  from: "Debian",
  slice: threshold === "5",
  prepare: async () => await javaProgram(JDBC_DRIVER, threshold),
});

const sqlalchemy = (dialect: string): ClientProgram => ({
  name: `SQLAlchemy, ${dialect}`,
  from: "PyPI",
  slice: false,
  prepare: async (cache) => await venvProgram(cache, "sqlalchemy-session.py", { TEST_DIALECT: dialect }),
});

export const clientPrograms: readonly ClientProgram[] = [
  { name: "node-postgres", from: "npm", slice: true, prepare: async () => nodeProgram("node-postgres.mjs", programs) },
  {
    name: "psycopg 3",
    from: "Debian",
    slice: true,
    prepare: async () => {
      await mustExist(PYTHON, "python3 and python3-psycopg are not installed");
      return pythonProgram(PYTHON, "psycopg-session.py", {});
    },
  },
  jdbc("5", "server-side prepare after five"),
  jdbc("1", "server-side prepare at once"),
  jdbc("0", "no server-side prepare"),
  {
    name: "JDBC, newest line",
    from: "Maven",
    slice: false,
    prepare: async (cache) => {
      const directory = join(cache, "java");
      await mkdir(directory, { recursive: true });
      const args = ["-q", "-B", "dependency:copy", `-Dartifact=${MAVEN_DRIVER}`, `-DoutputDirectory=${directory}`];
      await build("mvn", args, directory);
      const jar = (await readdir(directory)).find((name) => name.endsWith(".jar"));
      if (jar === undefined) throw new Error("Maven brought no driver");
      return await javaProgram(join(directory, jar), "1");
    },
  },
  { name: "postgres.js", from: "npm", slice: false, prepare: async (cache) => await npmProgram(cache, "postgres-js.mjs") },
  { name: "Drizzle, node-postgres", from: "npm", slice: false, prepare: async (cache) => await npmProgram(cache, "drizzle.mjs") },
  {
    name: "asyncpg",
    from: "PyPI",
    slice: false,
    prepare: async (cache) => await venvProgram(cache, "asyncpg-session.py", {}),
  },
  sqlalchemy("psycopg2"),
  sqlalchemy("pg8000"),
  { name: "pgx", from: "Go modules", slice: false, prepare: async (cache) => await goProgram(cache, "pgx") },
  { name: "lib/pq", from: "Go modules", slice: false, prepare: async (cache) => await goProgram(cache, "libpq") },
  { name: "tokio-postgres", from: "crates", slice: false, prepare: async (cache) => await rustProgram(cache, "tokio-postgres") },
  { name: "sqlx", from: "crates", slice: false, prepare: async (cache) => await rustProgram(cache, "sqlx") },
  { name: "libpqxx", from: "Debian", slice: false, prepare: async (cache) => await cppProgram(cache) },
];

/** Clients that nothing here can run, with the reason. */
export const neverRun: Readonly<Record<string, string>> = {
  Npgsql: "needs .NET, which Debian has no packages of and which is not among the toolchains that the tests may use",
  Prisma: "its query engine is a binary that its installer fetches from a place of its own; Drizzle stands for the ORMs of Node",
  DBeaver: "a desktop application; the queries that such tools ask are in test/clients/catalog-queries.ts",
  Metabase: "a server of its own; it uses the JDBC driver, and its kind of queries are in test/clients/catalog-queries.ts",
};

function nodeProgram(name: string, directory: string): ReadyProgram {
  return { command: process.execPath, args: [join(directory, name)], directory };
}

function pythonProgram(python: string, name: string, environment: Readonly<Record<string, string>>): ReadyProgram {
  const more = { ...environment, PYTHONDONTWRITEBYTECODE: "1" };
  return { command: python, args: [join(programs, name)], directory: programs, environment: more };
}

async function javaProgram(driver: string, threshold: string): Promise<ReadyProgram> {
  await mustExist(driver, "libpostgresql-jdbc-java is not installed");
  const args = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", driver, join(programs, "Jdbc.java")];
  return { command: "java", args, directory: programs, environment: { TEST_PREPARE: threshold } };
}

async function npmProgram(cache: string, name: string): Promise<ReadyProgram> {
  const directory = join(cache, "npm");
  await once(join(directory, "installed"), NPM_PACKAGES.join(" "), async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "package.json"), '{"private":true,"type":"module"}');
    await build("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", "--save-exact", ...NPM_PACKAGES], directory);
  });
  for (const file of ["features.mjs", name]) await cp(join(programs, file), join(directory, file));
  return nodeProgram(name, directory);
}

async function venvProgram(cache: string, name: string, environment: Readonly<Record<string, string>>): Promise<ReadyProgram> {
  const directory = join(cache, "python");
  await once(join(directory, "installed"), PYPI_PACKAGES.join(" "), async () => {
    // The first Python on the path that can make environments; Debian's own may lack the module.
    await build("python3", ["-m", "venv", "--clear", directory], "/");
    await build(join(directory, "bin/pip"), ["install", "-q", "--disable-pip-version-check", ...PYPI_PACKAGES], directory);
  });
  return pythonProgram(join(directory, "bin/python"), name, environment);
}

async function goProgram(cache: string, name: string): Promise<ReadyProgram> {
  const directory = join(cache, "go");
  await cp(join(programs, "go"), directory, { recursive: true });
  await build("go", ["build", "-o", join(directory, "bin", name), `./${name}`], directory);
  return { command: join(directory, "bin", name), args: [], directory };
}

async function rustProgram(cache: string, name: string): Promise<ReadyProgram> {
  const directory = join(cache, "rust");
  await cp(join(programs, "rust"), directory, { recursive: true, preserveTimestamps: true });
  await build("cargo", ["build", "--quiet"], directory);
  const crates = await readFile(join(programs, "rust/Cargo.toml"), "utf8");
  const version = new RegExp(`^${name} = .*"=([\\d.]+)"`, "m").exec(crates)?.[1] ?? "unknown";
  const environment = { TEST_VERSION: version };
  return { command: join(directory, "target/debug/rust-clients"), args: [name], directory, environment };
}

async function cppProgram(cache: string): Promise<ReadyProgram> {
  const directory = join(cache, "cpp");
  await once(join(directory, "installed"), "libpqxx-dev", async () => {
    await mkdir(directory, { recursive: true });
    await build("apt-get", ["download", "libpqxx-dev"], directory);
    const archive = (await readdir(directory)).find((file) => file.endsWith(".deb"));
    if (archive === undefined) throw new Error("the package libpqxx-dev cannot be had here");
    await build("dpkg-deb", ["-x", archive, "unpacked"], directory);
  });
  const { stdout } = await run("gcc", ["-print-multiarch"]);
  const library = join(directory, "unpacked/usr/lib", stdout.trim(), "libpqxx.a");
  const flags = ["-std=c++14", "-w", "-O0", `-I${join(directory, "unpacked/usr/include")}`];
  const program = join(directory, "session");
  await build("g++", [...flags, join(programs, "libpqxx.cpp"), "-o", program, library, "-lpq", "-lpthread"], directory);
  return { command: program, args: [], directory };
}

/** Does what is dear once for each text of what it brings. */
async function once(marker: string, what: string, work: () => Promise<void>): Promise<void> {
  if ((await readFile(marker, "utf8").catch(() => "")) === what) return;
  await work();
  await writeFile(marker, what);
}

async function build(command: string, args: readonly string[], cwd: string): Promise<void> {
  try {
    await run(command, [...args], { cwd, timeout: BUILD_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 });
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string }; // execFile's rejection carries both
    if (code === "ENOENT") throw new Error(`${command} is not installed`, { cause: error });
    throw new Error(`${command} failed: ${(stderr ?? String(error)).trim().split("\n").slice(-2).join(" | ")}`, { cause: error });
  }
}

async function mustExist(path: string, otherwise: string): Promise<void> {
  await access(path).catch(() => {
    throw new Error(otherwise);
  });
}
