import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockDirectory } from "./directory-lock.ts";

let directory: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-lock-"));
});

afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  await rm(directory, { recursive: true, force: true });
});

const fixture = fileURLToPath(new URL("directory-lock.test-fixture.ts", import.meta.url));

/** A process that tries to take the directory, and what it says. */
async function holder(): Promise<{ child: ChildProcess; said: string }> {
  const child = spawn(process.execPath, [fixture, directory], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [said] = (await once(createInterface({ input: child.stdout }), "line")) as [string]; // one line is said
  return { child, said };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

test("a second process is refused and told who has it; after a kill the next one takes it", async () => {
  const first = await holder();
  expect(first.said).toBe("locked");
  const second = await holder();
  expect(second.said).toContain(`The spool directory ${directory} is in use by process ${first.child.pid} on `);
  await expect(lockDirectory(directory, "spool")).rejects.toMatchObject({ code: "config_invalid" });
  await kill(first.child);
  const third = await holder();
  expect(third.said).toBe("locked");
});

test("of many that come at once, after a kill, exactly one takes it", async () => {
  await kill((await holder()).child);
  const said = (await Promise.all(Array.from({ length: 4 }, () => holder()))).map((one) => one.said);
  expect(said.filter((sentence) => sentence === "locked").length).toBe(1);
  expect(said.filter((sentence) => sentence.includes("is in use")).length).toBe(3);
});

test("within one process too, until it is released, which may be said twice", async () => {
  const lock = await lockDirectory(directory, "recordings");
  await expect(lockDirectory(directory, "recordings")).rejects.toThrow(/in use by process/);
  lock.release();
  lock.release();
  (await lockDirectory(directory, "recordings")).release();
});

test("what a dead holder left in the files decides nothing", async () => {
  await writeFile(join(directory, "lock-holder"), "1 elsewhere\n");
  (await lockDirectory(directory, "spool")).release();
});

test("a directory that cannot be locked says so", async () => {
  await writeFile(join(directory, "lock"), "this is no database, and long enough to be seen as none".repeat(50));
  await expect(lockDirectory(directory, "spool")).rejects.toMatchObject({ code: "config_invalid" });
});
