/**
 * One owner per embedded cluster, across crashes. A server whose owner was killed is still running, since it is detached: it is
 * recognised by its own working directory and stopped; another living owner is never disturbed.
 * Never signals a process before the kernel has said that it is the server of exactly this directory.
 */
import { link, readFile, readlink, realpath, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { GatewayError } from "@sluice/core/errors.ts";
import type { ClusterLog } from "./embedded-binaries.ts";

export interface ClusterClaim {
  release(): Promise<void>;
}

/** Above the kernel's largest pid (2^22), so that no process ever has it. */
const NO_PROCESS = 4_194_305;
const ORPHAN_FAST_MS = 8_000;
const ORPHAN_IMMEDIATE_MS = 7_000;

/** Takes the cluster `name` in `home` for this process. Throws GatewayError `config_invalid` while another process has it. */
export async function claimCluster(home: string, name: string, log: ClusterLog): Promise<ClusterClaim> {
  const ownerFile = join(home, `${name}.owner`);
  const own = `${process.pid} ${await startedAt(process.pid)}\n`;
  for (;;) {
    if (await writeNew(ownerFile, own)) break;
    const [pid, started] = (await readFile(ownerFile, "utf8").catch(() => "")).trim().split(" ");
    if (pid !== undefined && pid !== "" && started === (await startedAt(Number(pid)))) {
      throw new GatewayError("config_invalid", `The embedded PostgreSQL "${name}" is in use by process ${pid}.`, {
        hint: "Stop the other installation, or give this one a data directory of its own.",
      });
    }
    await rm(ownerFile, { force: true }); // its owner is gone
  }
  try {
    await endOrphan(join(home, name), log);
  } catch (error) {
    await rm(ownerFile, { force: true });
    throw error;
  }
  return { release: () => rm(ownerFile, { force: true }) };
}

/** False when the file is there already. It appears with its content in one step, so that nobody reads half an owner. */
async function writeNew(file: string, content: string): Promise<boolean> {
  const draft = `${file}.${process.pid}`;
  await writeFile(draft, content, { mode: 0o600 });
  try {
    await link(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false; // what fs rejects with
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Stops a server that an earlier owner left behind; a pid file that names some other process is made to name none. */
async function endOrphan(dataDirectory: string, log: ClusterLog): Promise<void> {
  const pidFile = join(dataDirectory, "postmaster.pid");
  const text = await readFile(pidFile, "utf8").catch(() => "");
  const pid = Number(text.split("\n", 1)[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1 || (await startedAt(pid)) === "") return;
  const started = await startedAt(pid);
  if (!(await isServerOf(pid, dataDirectory))) {
    // The pid was given to another process since. The rest of the file stays: the server checks old shared memory by it.
    await writeFile(pidFile, [String(NO_PROCESS), ...text.split("\n").slice(1)].join("\n"));
    return;
  }
  log.warn({ pid }, "stopping an embedded PostgreSQL that an earlier run left behind");
  for (const [signal, waitMs] of [
    ["SIGINT", ORPHAN_FAST_MS],
    ["SIGQUIT", ORPHAN_IMMEDIATE_MS],
  ] as const) {
    process.kill(pid, signal);
    const deadline = performance.now() + waitMs;
    while (performance.now() < deadline) {
      if ((await startedAt(pid)) !== started) return;
      await delay(50);
    }
  }
  throw new GatewayError("config_invalid", `An embedded PostgreSQL of an earlier run (process ${pid}) does not stop.`, {
    hint: "Stop it by hand, then start again.",
  });
}

async function isServerOf(pid: number, dataDirectory: string): Promise<boolean> {
  const [cwd, exe, wanted] = await Promise.all([
    readlink(`/proc/${pid}/cwd`).catch(() => ""),
    readlink(`/proc/${pid}/exe`).catch(() => ""),
    realpath(dataDirectory).catch(() => dataDirectory),
  ]);
  return cwd === wanted && basename(exe).startsWith("postgres"); // "postgres (deleted)" after a reinstall
}

/** Start time of a process in clock ticks since boot: pid and start time together name it for good. Empty: no such process. */
async function startedAt(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? "" : (fields[19] ?? "");
}
