/** A store that cannot be used is said in a sentence that never shows its password. The embedded one is used by the plane's own test. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { pino } from "pino";
import { expect, it } from "vitest";
import { startCluster } from "./embedded-postgres.ts";
import { openStore } from "./store.ts";

const log = pino({ level: "silent" });
const open = (url: string): Promise<unknown> =>
  openStore({ address: { kind: "postgres", url }, directory: "/nonexistent", log }).catch((error: unknown) => error);

it("does not answer", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // TCP, so not a pipe name
  await new Promise((resolve) => server.close(resolve));
  const error = await open(`postgres://sluice:hunter2@127.0.0.1:${port}/sluice`);
  expect(error).toMatchObject({ code: "config_invalid", message: "The control plane's store cannot be used (ECONNREFUSED)." });
  expect(inspect(error, { depth: 10 })).not.toContain("hunter2");
});

it("hangs up", async () => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // TCP, so not a pipe name
  const error = await open(`postgres://sluice:hunter2@127.0.0.1:${port}/sluice`);
  server.close();
  expect(error).toMatchObject({ code: "config_invalid" });
  expect(inspect(error, { depth: 10 })).not.toContain("hunter2");
});

it("is no address", async () => {
  const error = await open("postgres://sluice:hunter2@[not an address/sluice");
  expect(error).toMatchObject({ code: "config_invalid", message: expect.stringContaining("postgres://user@host/database") });
  expect(inspect(error, { depth: 10 })).not.toContain("hunter2");
});

it("wants a password that nobody gave, or another one", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-store-"));
  await chmod(directory, 0o755);
  const cluster = await startCluster({ name: "asked", directory, log });
  try {
    const at = `${cluster.host}:${cluster.port}/postgres`;
    const hint = (words: string): object => ({ code: "config_invalid", hint: expect.stringContaining(words) as unknown });
    expect(await open(`postgres://${cluster.superuser}@${at}`)).toMatchObject(hint("PGPASSWORD"));
    expect(await open(`postgres://${cluster.superuser}:wrong@${at}`)).toMatchObject(
      hint("does not take this user with this password"),
    );
    expect(await open(`postgres://${cluster.superuser}:${cluster.password}@${cluster.host}:${cluster.port}/none`)).toMatchObject(
      hint("no such database"),
    );
  } finally {
    await cluster.stop();
    await rm(directory, { recursive: true, force: true });
  }
});
