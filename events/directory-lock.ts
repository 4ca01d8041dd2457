/**
 * One process a directory, across crashes: the kernel's own file lock, which ends with its holder however that ends (also by kill -9) and
 * holds between containers that share a disk, where process ids mean nothing. Node has no call for it; SQLite takes one on its database
 * file, so an empty database is the lock. Never decides by a file's content: that only names the holder in the sentence.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { GatewayError } from "@sluice/core/errors.ts";

export interface DirectoryLock {
  release(): void;
}

const LOCK_NAME = "lock";
const HOLDER_NAME = "lock-holder";
/** Held here, so that a lock never ends because nobody refers to it any more. */
const held = new Set<DatabaseSync>();
/** SQLITE_BUSY. */
const BUSY = 5;

/**
 * Takes the directory for this process; it is made when there is none. Throws `config_invalid` while somebody has it. `what` is what
 * people know the directory as.
 */
export async function lockDirectory(directory: string, what: string): Promise<DirectoryLock> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const database = open(join(directory, LOCK_NAME));
  try {
    // No journal, no wait: nothing is ever written.
    database.exec("PRAGMA busy_timeout = 0; PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (!isBusy(error)) throw unusable(directory, what, error);
    throw new GatewayError("config_invalid", `The ${what} directory ${directory} is in use${await holderOf(directory)}.`, {
      hint: "Stop the other process, or give this one a directory of its own.",
    });
  }
  await writeFile(join(directory, HOLDER_NAME), `${process.pid} ${hostname()}\n`, { mode: 0o600 });
  held.add(database);
  return {
    release: () => {
      if (held.delete(database)) database.close();
    },
  };
}

function open(path: string): DatabaseSync {
  try {
    return new DatabaseSync(path);
  } catch (error) {
    throw unusable(path, "locked", error);
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && error.errcode === BUSY;
}

async function holderOf(directory: string): Promise<string> {
  const [pid, host] = (await readFile(join(directory, HOLDER_NAME), "utf8").catch(() => "")).trim().split(" ");
  return pid === undefined || pid === "" || host === undefined ? "" : ` by process ${pid} on ${host}`;
}

function unusable(path: string, what: string, cause: unknown): GatewayError {
  return new GatewayError("config_invalid", `The ${what} directory ${path} cannot be locked.`, {
    cause,
    hint: "Check that this user can write there and that its file system has locks.",
  });
}
