/** A plane's process takes its data directory for itself before it starts anything. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockDirectory } from "@sluice/events/directory-lock.ts";
import { expect, test } from "vitest";
import { runCli } from "../program.ts";
import { createTestContext } from "../testing-context.ts";

const NODE = `node: { name: n1, controlPlanes: ["127.0.0.1:1"], join: { tokenFile: absent } }`;

test.each(["control-plane", "data-plane", "agent", "recorder"])("%s: one process a data directory", async (plane) => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-planes-"));
  await writeFile(join(directory, "sluice.yaml"), `apiVersion: sluice/v1\nkind: Config\n${NODE}\n`);
  const run = async (): Promise<{ readonly status: number; readonly err: string }> => {
    const context = createTestContext({ workingDirectory: directory });
    const status = await runCli([plane, "--config", "sluice.yaml", "--data-dir", "data", "--ready-file", "ready.json"], context);
    return { status, err: context.written.err };
  };
  const lock = await lockDirectory(join(directory, "data"), "data");
  const second = await run();
  lock.release();
  expect(second).toMatchObject({ status: 1, err: expect.stringContaining(`in use by process ${process.pid}`) as string });
  // It fails later then, and leaves the directory to the next one.
  for (const attempt of [await run(), await run()]) {
    expect(attempt.status).toBe(1);
    expect(attempt.err).not.toContain("in use");
  }
  await rm(directory, { recursive: true, force: true });
});
