/**
 * The place on disk of one embedded cluster, reachable for the account that its server runs under.
 * Opens no directory to the world: at most the server's own group may pass through, and only through directories of ours that
 * were private before. Where that is not enough the cluster lives in a private directory elsewhere, remembered in a file.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, chown, lstat, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { GatewayError } from "@sluice/core/errors.ts";
import type { ClusterLog, ServerAccount } from "./embedded-binaries.ts";

const run = promisify(execFile);

/**
 * Returns a directory, owned by this process, that `account` can pass through; cluster files go inside. It is `wanted` itself
 * where possible. Throws GatewayError `config_invalid` when no place is found.
 */
export async function prepareHome(wanted: string, account: ServerAccount | undefined, log: ClusterLog): Promise<string> {
  await mkdir(wanted, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new GatewayError("config_invalid", `The directory ${wanted} for the embedded PostgreSQL cannot be made.`, {
      hint: "Choose a data directory that this account may write.",
      cause,
    });
  });
  if (account === undefined) return wanted;
  const remembered = await readRemembered(wanted);
  if (remembered !== undefined && (await isReachable(remembered, account))) return remembered;
  if (await isReachable(wanted, account)) return wanted;
  if (await isReachable(dirname(dirname(wanted)), account)) {
    // From the outside in, at most the data directory and the cluster's own directory in it.
    for (const directory of [dirname(wanted), wanted]) await letGroupPass(directory, account);
    if (await isReachable(wanted, account)) return wanted;
  }
  const elsewhere = await privateDirectory(wanted, account);
  await writeFile(locationFile(wanted), `${elsewhere}\n`, { mode: 0o600 });
  log.warn(
    { wanted, used: elsewhere },
    `uid ${account.uid}, under which the embedded PostgreSQL runs, cannot reach its directory: it is kept elsewhere. ` +
      "Choose a data directory under a path that every user may pass through, or start as an unprivileged user.",
  );
  return elsewhere;
}

function locationFile(wanted: string): string {
  return join(wanted, "location");
}

async function readRemembered(wanted: string): Promise<string | undefined> {
  const text = await readFile(locationFile(wanted), "utf8").catch(() => undefined);
  const path = text?.trim();
  return path !== undefined && path !== "" && (await isOurs(path)) ? path : undefined;
}

/** Only a private directory of ours is opened, only to the server's group, and never a home directory. */
async function letGroupPass(directory: string, account: ServerAccount): Promise<void> {
  const state = await lstat(directory);
  const worldPasses = (state.mode & 0o001) !== 0;
  if (worldPasses || !state.isDirectory() || state.uid !== process.getuid?.() || directory === userInfo().homedir) return;
  if ((state.mode & 0o070) !== 0 && state.gid !== account.gid) return; // somebody relies on its present group
  await chown(directory, state.uid, account.gid);
  await chmod(directory, (state.mode & 0o7777) | 0o010);
}

async function privateDirectory(wanted: string, account: ServerAccount): Promise<string> {
  const tag = createHash("sha256").update(wanted).digest("hex").slice(0, 16);
  for (const base of new Set([tmpdir(), "/var/tmp"])) {
    if (!(await isReachable(base, account))) continue;
    const named = join(base, `sluice-cluster-${tag}`);
    try {
      const made = await mkdir(named, { mode: 0o700 }).then(
        () => named,
        // The name can be guessed, so what stands there counts only when it is ours and closed to others.
        async () => ((await isOurs(named)) ? named : await mkdtemp(`${named}-`)),
      );
      await chown(made, process.getuid?.() ?? 0, account.gid);
      await chmod(made, 0o710);
      if (await isReachable(made, account)) return made;
    } catch {
      continue; // read-only or full: the next base may do
    }
  }
  throw new GatewayError("config_invalid", "There is no directory that the embedded PostgreSQL's account can reach.", {
    hint: "Choose a data directory under a path that every user may pass through, or start as an unprivileged user.",
  });
}

async function isOurs(directory: string): Promise<boolean> {
  const state = await lstat(directory).catch(() => undefined);
  return state !== undefined && state.isDirectory() && state.uid === process.getuid?.() && (state.mode & 0o027) === 0;
}

/** Asks the kernel by becoming the account: a child of its uid can be started inside the directory or not. */
async function isReachable(directory: string, account: ServerAccount): Promise<boolean> {
  return run("/bin/sh", ["-c", 'cd -- "$1"', "sh", directory], { ...account, cwd: "/", env: {} }).then(
    () => true,
    () => false,
  );
}
