/**
 * The Debian packages that tests and benchmarks need: real clients, a pooler to compare with. Missing ones are installed
 * when that is possible (root, apt-get), else one sentence says which and how. It must never let a test be left out instead.
 */
import { access, constants } from "node:fs/promises";
import path from "node:path";
import { type CheckResult, fail, pass } from "./check-result.ts";
import { runProgram } from "./run-program.ts";

interface NeededPackage {
  readonly name: string;
  /** What of it is used. */
  readonly use: string;
  readonly isThere: () => Promise<boolean>;
}

const POSTGRES_15 = "/usr/lib/postgresql/15/bin";
const APT_TIMEOUT_MS = 15 * 60_000;
const PROBE_TIMEOUT_MS = 30_000;

const needed: readonly NeededPackage[] = [
  { name: "postgresql-client-15", use: "psql", isThere: () => isExecutable(`${POSTGRES_15}/psql`) },
  { name: "postgresql-15", use: "pgbench", isThere: () => isExecutable(`${POSTGRES_15}/pgbench`) },
  { name: "python3-psycopg", use: "psycopg for /usr/bin/python3", isThere: hasPsycopg },
  {
    name: "libpostgresql-jdbc-java",
    use: "the PostgreSQL JDBC driver",
    isThere: () => isReadable("/usr/share/java/postgresql.jar"),
  },
  {
    name: "openjdk-17-jdk-headless",
    use: "javac and java",
    isThere: async () => (await onPath("javac")) && (await onPath("java")),
  },
  { name: "nats-server", use: "the event bus", isThere: () => isExecutable("/usr/sbin/nats-server") },
  { name: "pgbouncer", use: "the pooler to compare with", isThere: () => isExecutable("/usr/sbin/pgbouncer") },
];

/** Passes when everything is there or could be installed. `say` gets progress. */
export async function checkDebianPackages(root: string, say: (line: string) => void): Promise<CheckResult> {
  const missing = await listMissing();
  if (missing.length === 0) return pass();
  const command = `apt-get install -y --no-install-recommends ${missing.map((one) => one.name).join(" ")}`;
  const sentence = `Missing: ${missing.map((one) => `${one.name} (${one.use})`).join(", ")}. Run as root: apt-get update && ${command}`;
  if (process.getuid?.() !== 0 || !(await onPath("apt-get"))) return fail(sentence);
  say(`installing Debian packages that the tests use: ${missing.map((one) => one.name).join(", ")}`);
  const installed = await install(
    root,
    missing.map((one) => one.name),
  );
  if (installed !== undefined) return fail(sentence, "Installing them was tried and failed:", installed);
  const still = await listMissing();
  if (still.length > 0)
    return fail(
      `apt-get reported success, yet these are not usable: ${still.map((one) => `${one.name} (${one.use})`).join(", ")}.`,
    );
  return pass(`installed ${missing.map((one) => one.name).join(", ")}`);
}

async function listMissing(): Promise<readonly NeededPackage[]> {
  const missing: NeededPackage[] = [];
  for (const one of needed) if (!(await one.isThere())) missing.push(one);
  return missing;
}

/** The end of apt-get's output when it failed. */
async function install(root: string, names: readonly string[]): Promise<string | undefined> {
  const options = { cwd: root, timeoutMs: APT_TIMEOUT_MS, additions: { DEBIAN_FRONTEND: "noninteractive" } };
  const steps: readonly (readonly string[])[] = [
    ["update", "-q"],
    ["install", "-q", "-y", "--no-install-recommends", ...names],
  ];
  for (const step of steps) {
    const result = await runProgram("apt-get", step, options);
    if (result.status !== 0) return result.output.trimEnd().split("\n").slice(-8).join("\n");
  }
  return undefined;
}

async function hasPsycopg(): Promise<boolean> {
  const options = { cwd: "/", timeoutMs: PROBE_TIMEOUT_MS };
  return (await runProgram("/usr/bin/python3", ["-c", "import psycopg"], options)).status === 0;
}

async function onPath(name: string): Promise<boolean> {
  for (const folder of (process.env["PATH"] ?? "").split(path.delimiter)) {
    if (folder !== "" && (await isExecutable(path.join(folder, name)))) return true;
  }
  return false;
}

function isExecutable(file: string): Promise<boolean> {
  return canAccess(file, constants.X_OK);
}

function isReadable(file: string): Promise<boolean> {
  return canAccess(file, constants.R_OK);
}

function canAccess(file: string, mode: number): Promise<boolean> {
  return access(file, mode).then(
    () => true,
    () => false,
  );
}
