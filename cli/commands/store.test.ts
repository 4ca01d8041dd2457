/** Backup, restore and a new key by the command line, on real embedded stores. */
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { startControlPlane } from "@sluice/control-plane/control-plane.ts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadConfig } from "../config-file.ts";
import { createLog } from "../log.ts";
import { runCli } from "../program.ts";
import { createTestContext } from "../testing-context.ts";

let directory: string;
const log = createLog("silent");

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-store-"));
  await chmod(directory, 0o711);
  for (const name of ["first", "second"]) await writeFile(join(directory, `${name}.key`), randomBytes(32).toString("base64"));
  for (const name of ["first", "second"]) {
    await writeFile(
      join(directory, `${name}.yaml`),
      `apiVersion: sluice/v1\nkind: Config\ncontrolPlane:\n  store: embedded\n  developmentIssuer: false\n  encryptionKey: { file: ${name}.key }\n`,
    );
  }
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** Starts a control plane on the store, and says which authority it has. */
async function authorityOf(config: string, dataDirectory: string): Promise<string> {
  const data = join(directory, dataDirectory);
  const loaded = await loadConfig(`${config}.yaml`, data, directory);
  const controlPlane = await startControlPlane({
    ...loaded,
    dataDirectory: data,
    explainer: null,
    recordings: null,
    limits: defaultLimits,
    clock: systemClock,
    random: systemRandom,
    log,
  });
  try {
    return await readFile(controlPlane.caFile, "utf8");
  } finally {
    await controlPlane.close();
  }
}

async function sluice(...args: readonly string[]): Promise<{ status: number; out: string; err: string }> {
  const context = createTestContext({ workingDirectory: directory });
  const status = await runCli(["store", ...args], context);
  return { status, ...context.written };
}

it("carries an installation to another place and under another key", async () => {
  const authority = await authorityOf("first", "a");
  const backup = await sluice("backup", "store.backup", "--config", "first.yaml", "--data-dir", "a");
  expect(backup).toMatchObject({ status: 0, out: expect.stringMatching(/^\d+ rows of .* are in store\.backup\n$/) as unknown });
  expect((await stat(join(directory, "store.backup"))).mode & 0o777).toBe(0o600);

  expect(await sluice("restore", "store.backup", "--config", "first.yaml", "--data-dir", "b")).toMatchObject({ status: 0 });
  expect(await authorityOf("first", "b")).toBe(authority);

  const changed = await sluice("change-key", "--config", "first.yaml", "--data-dir", "b", "--to-file", "second.key");
  expect(changed).toMatchObject({ status: 0, out: expect.stringMatching(/^[1-9]\d* keys are encrypted anew\n$/) as unknown });
  expect(await authorityOf("second", "b")).toBe(authority);
  await expect(authorityOf("first", "b")).rejects.toThrow("encrypted under another key");

  const again = await sluice("restore", "store.backup", "--config", "first.yaml", "--data-dir", "b");
  expect(again).toMatchObject({ status: 1, err: expect.stringContaining("not empty") as unknown });
}, 60_000);

it("makes no store where none was, and no backup of it", async () => {
  const mistyped = ["--config", "first.yaml", "--data-dir", "nowhere"];
  for (const args of [
    ["backup", "nothing.backup"],
    ["change-key", "--to-file", "second.key"],
  ]) {
    const refused = await sluice(...args, ...mistyped);
    expect(refused).toMatchObject({ status: 1, out: "", err: expect.stringContaining("There is no embedded store") as unknown });
  }
  for (const name of ["nothing.backup", "nowhere"]) await expect(stat(join(directory, name))).rejects.toThrow("ENOENT");
  const missing = await sluice("restore", "nothing.backup", "--config", "first.yaml", "--data-dir", "c");
  expect(missing).toMatchObject({ status: 1, err: expect.stringContaining("nothing.backup cannot be used (ENOENT)") as unknown });
});

it("leaves a store alone that a control plane uses", async () => {
  const dataDirectory = join(directory, "used");
  const loaded = await loadConfig("first.yaml", dataDirectory, directory);
  const parts = { explainer: null, recordings: null, limits: defaultLimits, clock: systemClock, random: systemRandom, log };
  const controlPlane = await startControlPlane({ ...loaded, dataDirectory, ...parts });
  try {
    for (const args of [
      ["backup", "used.backup"],
      ["restore", "store.backup"],
    ]) {
      const refused = await sluice(...args, "--config", "first.yaml", "--data-dir", "used");
      expect(refused).toMatchObject({ status: 1, out: "", err: expect.stringContaining("in use by process") as unknown });
    }
  } finally {
    await controlPlane.close();
  }
}, 60_000);

it("wants to know where the new key is, from one place", async () => {
  const common = ["change-key", "--config", "first.yaml"];
  expect(await sluice(...common)).toMatchObject({ status: 2 });
  expect(await sluice(...common, "--to-file", "a", "--to-env", "B")).toMatchObject({ status: 2 });
});
