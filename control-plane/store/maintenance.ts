/**
 * What people do with the store by hand: back it up into a file, restore it, change the key that its keys are encrypted under. Acts on
 * the store of a configuration directly. The embedded one must not be in use by a control plane; opening it says so.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { finished } from "node:stream/promises";
import type { Config, KeySource } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Logger } from "pino";
import { openKeyEncryption } from "../keys/key-encryption.ts";
import { rewrapKeys } from "../keys/rewrap.ts";
import { type BackupSummary, backupStore, restoreStore } from "./backup.ts";
import { openStore, type Store } from "./store.ts";

export interface MaintenanceOptions {
  readonly config: Pick<Config["controlPlane"], "store" | "encryptionKey">;
  /** Absolute: of the control plane whose store it is. */
  readonly dataDirectory: string;
  readonly log: Logger;
}

export interface KeyChange extends MaintenanceOptions {
  readonly to: KeySource;
  readonly readEnvironment: (name: string) => string | undefined;
  readonly random: Random;
  readonly limits: Limits;
}

/** Also while control planes use it, where it is a server of one's own. The file is for this user alone; an existing one is replaced when the new one is whole. */
export async function backupToFile(options: MaintenanceOptions, path: string): Promise<BackupSummary> {
  return await withStore(options, async ({ db }) => {
    const partial = `${path}.partial`;
    await rm(partial, { force: true }); // a left-over may have had other bits
    const out = createWriteStream(partial, { flags: "wx", mode: 0o600, flush: true });
    const closed = finished(out);
    try {
      // Whichever fails first: the writing waits for a stream that has failed already.
      const summary = await Promise.race([
        backupStore(db, out),
        closed.then(() => Promise.reject(new Error("the file was closed"))),
      ]);
      out.end();
      await closed;
      await rename(partial, path);
      await syncDirectory(dirname(path));
      return summary;
    } catch (error) {
      out.destroy();
      await rm(partial, { force: true });
      throw isFileError(error) ? unusable(path, error) : error;
    }
  });
}

/** Into an empty store. Errors: as `restoreStore`. */
export async function restoreFromFile(options: MaintenanceOptions, path: string): Promise<BackupSummary> {
  const input = createReadStream(path);
  await new Promise<void>((resolve, reject) => {
    input.once("open", () => resolve());
    input.once("error", (error: NodeJS.ErrnoException) => reject(unusable(path, error)));
  });
  try {
    return await withStore(options, ({ db }) => restoreStore(db, input));
  } finally {
    input.destroy();
  }
}

/** Returns how many keys were encrypted anew. Control planes are then started with the new key; nothing changes when it fails. */
export async function changeEncryptionKey(options: KeyChange): Promise<number> {
  const { config, dataDirectory, to, readEnvironment, random, limits, log } = options;
  const embeddedStore = config.store.kind === "embedded";
  const shared = { embeddedStore, dataDirectory, readEnvironment, random, limits, log };
  const [before, after] = [
    await openKeyEncryption({ ...shared, source: config.encryptionKey }),
    await openKeyEncryption({ ...shared, source: to }),
  ];
  return await withStore(options, ({ db }) => rewrapKeys(db, before, after));
}

async function withStore<Result>(
  { config, dataDirectory, log }: MaintenanceOptions,
  work: (store: Store) => Promise<Result>,
): Promise<Result> {
  const store = await openStore({ address: config.store, directory: join(dataDirectory, "store"), log });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** So that the new name itself outlives a crash. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && !(error instanceof GatewayError) && "syscall" in error;
}

function unusable(path: string, error: NodeJS.ErrnoException): GatewayError {
  return new GatewayError("config_invalid", `The file ${path} cannot be used (${error.code ?? "no code"}).`, { cause: error });
}
