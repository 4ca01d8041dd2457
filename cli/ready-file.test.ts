import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isAlive, type ReadyFile, readReadyFile, writeReadyFile } from "./ready-file.ts";

const ready: ReadyFile = {
  admin: "https://127.0.0.1:1",
  adminToken: "t",
  caFile: "/ca.pem",
  listeners: [{ protocol: "postgres", address: "127.0.0.1:2" }],
  issuer: "https://127.0.0.1:3",
  pid: process.pid,
};

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-ready-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("ready file", () => {
  it("is read as it was written, owner only, in a folder made for it, leaving nothing beside", async () => {
    const file = join(directory, "made", "ready.json");
    await writeReadyFile(file, ready);
    await writeReadyFile(file, ready);
    expect(await readReadyFile(file)).toEqual(ready);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(join(directory, "made"))).toEqual(["ready.json"]);
  });

  it("replaces a file that others may read by one that they may not", async () => {
    const file = join(directory, "ready.json");
    await writeFile(file, "{}", { mode: 0o644 });
    await writeReadyFile(file, ready);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it.each([
    "",
    "[]",
    "null",
    '{"admin":"a"}',
    JSON.stringify({ ...ready, pid: -1 }),
    JSON.stringify({ ...ready, listeners: [{}] }),
  ])("refuses %s", async (text) => {
    const file = join(directory, "ready.json");
    await writeFile(file, text);
    await expect(readReadyFile(file)).rejects.toMatchObject({ code: "config_invalid" });
  });

  it("knows whether its process lives", () => {
    expect([isAlive(process.pid), isAlive(2 ** 22 + 1)]).toEqual([true, false]);
  });
});
