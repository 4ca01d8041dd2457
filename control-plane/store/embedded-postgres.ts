/**
 * Starts and stops a PostgreSQL cluster from bundled binaries: the store when none is given, the demo target, targets in tests.
 * It listens on 127.0.0.1 alone, without a Unix socket, and asks for SCRAM. Its log never holds statements, rows or details of
 * errors. The server is a process group of its own, so that Ctrl-C reaches us first; it is stopped by its pid and nothing else.
 * Source for signals and files: PostgreSQL documentation, "Shutting Down the Server", "postmaster.pid".
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chown, copyFile, chmod, mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { GatewayError } from "@sluice/core/errors.ts";
import { systemRandom } from "@sluice/core/system.ts";
import { type ClusterLog, packagedBinaries, type PreparedBinaries, prepareBinaries } from "./embedded-binaries.ts";
import type { ServerAccount } from "./embedded-binaries.ts";
import { prepareHome } from "./embedded-home.ts";
import { claimCluster, type ClusterClaim } from "./embedded-lock.ts";

export { packagedBinaries } from "./embedded-binaries.ts";

export interface ClusterOptions {
  /** Directory of a PostgreSQL installation (with `bin/postgres`), or of a package with one; the bundled one when absent. */
  readonly binariesDirectory?: string;
  /** Where the cluster lives; made when missing. The data directory is `name` inside it, the server's log `name`.log. */
  readonly directory: string;
  /** A short word for files, log lines and `cluster_name`. */
  readonly name: string;
  /** Of the superuser `postgres`; a random one, kept in `name`.password (mode 0600), when absent. Counts when the cluster is made. */
  readonly password?: string;
  /** 0 or absent: any free port. */
  readonly port?: number;
  /** Server settings over the defaults below, such as `fsync: "off"` in tests. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** PEM files; copied for the server at each start. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  readonly log: ClusterLog;
}

export interface Cluster {
  readonly host: "127.0.0.1";
  readonly port: number;
  readonly superuser: "postgres";
  readonly password: string;
  readonly pid: number;
  /** Major version of the server, such as 18. */
  readonly major: number;
  /** Holds pg_hba.conf and the like; read again by the server on SIGHUP to `pid`. */
  readonly dataDirectory: string;
  /** Resolves when the server has ended by itself or by `stop`. */
  readonly ended: Promise<void>;
  /** Fast shutdown; after `fastStopMs` an immediate one. Resolves when the process is gone. May be called again. */
  stop(): Promise<void>;
}

interface Site {
  readonly options: ClusterOptions;
  readonly binaries: PreparedBinaries;
  readonly account: ServerAccount | undefined;
  readonly home: string;
  readonly dataDirectory: string;
  readonly logFile: string;
}

const run = promisify(execFile);

/** `nobody`: PostgreSQL refuses to run as root. */
const UNPRIVILEGED: ServerAccount = { uid: 65_534, gid: 65_534 };
/** Crash recovery of a demo-sized cluster ends well within this. */
const START_TIMEOUT_MS = 60_000;
const INITDB_TIMEOUT_MS = 120_000;
/** A fast shutdown writes one checkpoint; both bounds together leave room in the fifteen seconds of a drain. */
const FAST_STOP_MS = 6_000;
const IMMEDIATE_STOP_MS = 3_000;
/** Another process may take the free port between the question and the start. */
const PORT_ATTEMPTS = 5;
const LOG_KEPT_BYTES = 1024 * 1024;
/** Nothing of ours goes in: PG* variables of whoever starts Sluice must not change the server. */
const SERVER_ENVIRONMENT: Readonly<Record<string, string>> = { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" };

/**
 * Starts the cluster, making it first when the directory has none, and returns once it accepts connections.
 * Throws GatewayError `config_invalid` (machine, binaries, directory) or `internal` with the server's last log lines.
 */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  if (!/^[a-z][a-z0-9-]{0,40}$/.test(options.name)) {
    throw new GatewayError("config_invalid", "A cluster's name is lower-case letters, digits and hyphens.");
  }
  const account = process.getuid?.() === 0 ? UNPRIVILEGED : undefined;
  const binaries = await prepareBinaries(options.binariesDirectory ?? packagedBinaries(), account, options.log);
  const home = await prepareHome(resolve(options.directory), account, options.log);
  const site: Site = {
    options,
    binaries,
    account,
    home,
    dataDirectory: join(home, options.name),
    logFile: join(home, `${options.name}.log`),
  };
  const claim = await claimCluster(home, options.name, options.log);
  try {
    const password = await readOrMakePassword(site);
    await makeCluster(site, password);
    await installTls(site);
    return await startServer(site, password, claim);
  } catch (error) {
    await claim.release();
    throw error;
  }
}

async function readOrMakePassword(site: Site): Promise<string> {
  if (site.options.password !== undefined) return site.options.password;
  const file = join(site.home, `${site.options.name}.password`);
  const kept = (await readFile(file, "utf8").catch(() => "")).trim();
  if (kept !== "") return kept;
  const made = Buffer.from(systemRandom.bytes(24)).toString("base64url");
  await writeFile(file, `${made}\n`, { mode: 0o600 });
  return made;
}

/** initdb in a directory beside, then one rename: a cluster is there whole or not at all. */
async function makeCluster(site: Site, password: string): Promise<void> {
  const { dataDirectory, binaries, account } = site;
  const version = (await readFile(join(dataDirectory, "PG_VERSION"), "utf8").catch(() => "")).trim();
  if (version === String(binaries.major)) return;
  if (version !== "") {
    throw new GatewayError(
      "config_invalid",
      `The cluster in ${dataDirectory} was made by PostgreSQL ${version}, and this is ${binaries.major}.`,
      { hint: "Move it away, or dump it with the old version and load it into a new one." },
    );
  }
  const fresh = `${dataDirectory}.new`;
  const passwordFile = `${dataDirectory}.initial`;
  await rm(fresh, { recursive: true, force: true });
  try {
    await mkdir(fresh, { mode: 0o700 });
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
    if (account !== undefined) for (const path of [fresh, passwordFile]) await chown(path, account.uid, account.gid);
    await initialise(site, fresh, passwordFile);
    await rename(fresh, dataDirectory);
  } finally {
    await rm(passwordFile, { force: true });
  }
}

async function initialise(site: Site, fresh: string, passwordFile: string): Promise<void> {
  const sync = site.options.parameters?.["fsync"] === "off" ? ["--no-sync"] : [];
  const attempt = (locale: string): Promise<unknown> =>
    run(
      join(site.binaries.directory, "bin", "initdb"),
      [
        "-D",
        fresh,
        "-U",
        "postgres",
        "-A",
        "scram-sha-256",
        `--pwfile=${passwordFile}`,
        "-E",
        "UTF8",
        `--locale=${locale}`,
        ...sync,
      ],
      { ...site.account, cwd: "/", env: SERVER_ENVIRONMENT, timeout: INITDB_TIMEOUT_MS },
    );
  try {
    await attempt("C.UTF-8").catch((error: unknown) => {
      if (!textOf(error).includes("invalid locale name")) throw error;
      return attempt("C"); // a C library without C.UTF-8: letters outside ASCII keep their case, nothing else differs
    });
  } catch (error) {
    const said = textOf(error).split("\n").filter(Boolean).slice(-3).join(" | ");
    throw new GatewayError("internal", `The embedded PostgreSQL "${site.options.name}" could not be made: ${said}`, {
      ...(said.includes("user does not exist") ? { hint: "PostgreSQL wants its uid to have a line in /etc/passwd." } : {}),
      cause: error,
    });
  }
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const { stderr } = error as Error & { stderr?: unknown }; // execFile's rejection carries it
  return typeof stderr === "string" && stderr !== "" ? stderr : error.message;
}

/** The server insists on a key that only its own account may read. */
async function installTls(site: Site): Promise<void> {
  const { tls } = site.options;
  if (tls === undefined) return;
  for (const [from, name] of [
    [tls.certFile, "server.crt"],
    [tls.keyFile, "server.key"],
  ] as const) {
    const to = join(site.dataDirectory, name);
    await rm(to, { force: true });
    await copyFile(from, to);
    await chmod(to, 0o600);
    if (site.account !== undefined) await chown(to, site.account.uid, site.account.gid);
  }
}

async function startServer(site: Site, password: string, claim: ClusterClaim): Promise<Cluster> {
  for (let attempt = 1; ; attempt++) {
    const port = site.options.port || (await freePort());
    const started = await launch(site, port);
    if (started.kind === "ready") return toCluster(site, started.child, port, password, claim);
    const portTaken = /could not bind|in use/.test(started.lastLines) && !site.options.port;
    const leftovers = started.lastLines.includes("pre-existing shared memory"); // old backends are about to notice
    if (attempt >= PORT_ATTEMPTS || !(portTaken || leftovers)) {
      const text = `The embedded PostgreSQL "${site.options.name}" did not start: ${started.lastLines || "it left no message."}`;
      throw new GatewayError("internal", text, { hint: `Its whole log is ${site.logFile}.` });
    }
    if (leftovers) await delay(1_000);
  }
}

type Launch = { readonly kind: "ready"; readonly child: ChildProcess } | { readonly kind: "failed"; readonly lastLines: string };

async function launch(site: Site, port: number): Promise<Launch> {
  const size = await stat(site.logFile).then(
    (state) => state.size,
    () => 0,
  );
  if (size > LOG_KEPT_BYTES) await rename(site.logFile, `${site.logFile}.1`);
  const logHandle = await open(site.logFile, "a", 0o600);
  const { size: startedAt } = await logHandle.stat();
  const child = spawn(join(site.binaries.directory, "bin", "postgres"), ["-D", site.dataDirectory, ...settings(site, port)], {
    ...site.account,
    cwd: "/",
    env: SERVER_ENVIRONMENT,
    detached: true,
    stdio: ["ignore", logHandle.fd, logHandle.fd],
  });
  child.once("error", () => {}); // it has no pid then, which `isGone` sees
  await logHandle.close();
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!isGone(child) && performance.now() < deadline) {
    if (await isReady(site, child.pid)) {
      child.unref();
      return { kind: "ready", child };
    }
    await delay(20);
  }
  await endChild(child);
  return { kind: "failed", lastLines: await lastLines(site.logFile, startedAt) };
}

function settings(site: Site, port: number): string[] {
  const chosen: Record<string, string> = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: "",
    cluster_name: site.options.name,
    password_encryption: "scram-sha-256",
    ssl: site.options.tls === undefined ? "off" : "on",
    // Nothing of a statement or of an error's values may reach the log: only the server's own events and fatal errors do.
    log_min_messages: "log",
    log_min_error_statement: "panic",
    log_error_verbosity: "terse",
    log_statement: "none",
    ...site.options.parameters,
  };
  return Object.entries(chosen).flatMap(([name, value]) => {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name)) throw new GatewayError("config_invalid", `"${name}" is no PostgreSQL setting.`);
    return ["-c", `${name}=${value}`];
  });
}

/** Line 8 of postmaster.pid says `ready` once connections are accepted; line 1 must be our child's pid, not an old one's. */
async function isReady(site: Site, pid: number | undefined): Promise<boolean> {
  const text = await readFile(join(site.dataDirectory, "postmaster.pid"), "utf8").catch(() => "");
  const lines = text.split("\n");
  return lines[0] === String(pid) && lines[7]?.trim() === "ready";
}

function toCluster(site: Site, child: ChildProcess, port: number, password: string, claim: ClusterClaim): Cluster {
  const { name, log } = site.options;
  let stopping = false;
  const ended = (isGone(child) ? Promise.resolve() : once(child, "exit")).then(async () => {
    if (!stopping) log.warn({ cluster: name, logFile: site.logFile }, "the embedded PostgreSQL ended by itself");
    await claim.release();
  });
  log.info({ cluster: name, port, pid: child.pid, version: site.binaries.major }, "embedded PostgreSQL is ready");
  return {
    host: "127.0.0.1",
    port,
    superuser: "postgres",
    password,
    pid: child.pid!, // it is ready, so it was spawned
    major: site.binaries.major,
    dataDirectory: site.dataDirectory,
    ended,
    stop: async () => {
      stopping = true;
      await endChild(child);
      await ended;
    },
  };
}

/** Fast, then immediate, then the kernel's: each bounded. The server's children end by themselves when it is gone. */
async function endChild(child: ChildProcess): Promise<void> {
  if (isGone(child)) return;
  child.ref();
  const exit = once(child, "exit");
  for (const [signal, waitMs] of [
    ["SIGINT", FAST_STOP_MS],
    ["SIGQUIT", IMMEDIATE_STOP_MS],
  ] as const) {
    if (isGone(child)) return;
    child.kill(signal);
    const timer = new AbortController();
    await Promise.race([exit, delay(waitMs, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
  }
  if (isGone(child)) return;
  child.kill("SIGKILL");
  await exit;
}

function isGone(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new GatewayError("internal", "No free port was found on 127.0.0.1.");
  return address.port;
}

async function lastLines(logFile: string, from: number): Promise<string> {
  const text = await readFile(logFile).then(
    (bytes) => bytes.subarray(from).toString("utf8"),
    () => "",
  );
  return text.split("\n").filter(Boolean).slice(-6).join(" | ");
}
