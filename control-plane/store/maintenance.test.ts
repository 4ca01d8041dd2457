/** By hand, on an embedded store: backup into a file, loss of everything, restore, another key; and what is said when that cannot be. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KeySource } from "@sluice/core/config.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { pino } from "pino";
import { afterAll, expect, it } from "vitest";
import { openAuthority } from "../ca/authority.ts";
import { openKeyEncryption } from "../keys/key-encryption.ts";
import { listenForChanges } from "./changes.ts";
import { backupToFile, changeEncryptionKey, type MaintenanceOptions, restoreFromFile } from "./maintenance.ts";
import { openStore } from "./store.ts";

const log = pino({ level: "silent" });
const directory = mkdtempSync(join(tmpdir(), "sluice-maintenance-"));
const keyFile = join(directory, "first.key");
const otherFile = join(directory, "second.key");
const backup = join(directory, "store.backup");
writeFileSync(keyFile, Buffer.from(systemRandom.bytes(32)).toString("base64"));
writeFileSync(otherFile, Buffer.from(systemRandom.bytes(32)).toString("base64"));

const inDirectory = (name: string, path = keyFile): MaintenanceOptions => ({
  config: { store: { kind: "embedded" }, encryptionKey: { kind: "file", path } },
  dataDirectory: join(directory, name),
  log,
});

/** What a start of the control plane does with the store; returns its authorities. */
async function startOn({ config, dataDirectory }: MaintenanceOptions, whileOpen?: () => Promise<void>): Promise<string> {
  const keys = await openKeyEncryption({
    source: config.encryptionKey,
    embeddedStore: true,
    dataDirectory,
    readEnvironment: () => undefined,
    random: systemRandom,
    limits: defaultLimits,
    log,
  });
  const store = await openStore({ address: config.store, directory: join(dataDirectory, "store"), log });
  try {
    const changes = await listenForChanges({ connection: store.connection, random: systemRandom, log });
    try {
      const shared = { db: store.db, keys, changes, clock: systemClock, random: systemRandom, limits: defaultLimits, log };
      const authority = await openAuthority({ ...shared, importFrom: null });
      await whileOpen?.();
      await authority.close();
      return authority.caPem();
    } finally {
      await changes.close();
    }
  } finally {
    await store.close();
  }
}

afterAll(() => rmSync(directory, { recursive: true, force: true }));

it("brings an installation back on another machine, and changes its key", async () => {
  const first = inDirectory("first");
  const authorities = await startOn(first, async () => {
    await expect(backupToFile(first, backup)).rejects.toMatchObject({ code: "config_invalid" }); // it is in use
  });
  expect(existsSync(backup)).toBe(false);
  writeFileSync(backup, "an older backup");
  const made = await backupToFile(first, backup);
  expect(made.rows).toBeGreaterThan(1);
  expect(statSync(backup).mode & 0o077).toBe(0);
  expect(existsSync(`${backup}.partial`)).toBe(false);
  expect(readFileSync(backup, "utf8")).not.toContain("PRIVATE KEY");

  const second = inDirectory("second");
  expect(await restoreFromFile(second, backup)).toEqual(made);
  expect(await startOn(second)).toBe(authorities);
  await expect(restoreFromFile(second, backup)).rejects.toMatchObject({ message: expect.stringContaining("not empty") });

  const to: KeySource = { kind: "file", path: otherFile };
  const change = { readEnvironment: () => undefined, random: systemRandom, limits: defaultLimits, to };
  expect(await changeEncryptionKey({ ...second, ...change })).toBe(1);
  await expect(changeEncryptionKey({ ...second, ...change })).rejects.toMatchObject({ code: "config_invalid" });
  expect(await startOn(inDirectory("second", otherFile))).toBe(authorities);
  await expect(startOn(second)).rejects.toMatchObject({ message: expect.stringContaining("another key") });
}, 60_000);

it("says which file cannot be used, and leaves nothing behind", async () => {
  await expect(restoreFromFile(inDirectory("none"), join(directory, "no-such-file"))).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("ENOENT"),
  });
  expect(existsSync(join(directory, "none"))).toBe(false);
  await expect(backupToFile(inDirectory("first"), join(directory, "no", "such", "place"))).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("ENOENT"),
  });
}, 60_000);
