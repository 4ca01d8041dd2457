/**
 * A process that enrols as a node does and kills itself (SIGKILL) at one step of what it does with its files: before the step, or in
 * the middle of a write. Says `enrolled` when it comes to its end alive. Arguments: address, directory, name, step (0: never).
 */
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { pino } from "pino";

const [address = "", directory = "", name = "", killAt = "0"] = process.argv.slice(2);
let steps = 0;

async function step(half?: () => Promise<unknown>): Promise<void> {
  steps += 1;
  if (steps !== Number(killAt)) return;
  await half?.();
  process.kill(process.pid, "SIGKILL");
  await new Promise(() => setInterval(() => undefined, 1_000));
}

const { mkdir, open, rename, rm } = fs;
// The product's own functions for files, each counted; arguments and results stay what they are.
fs.mkdir = (async (...args: Parameters<typeof mkdir>) => {
  await step();
  return await mkdir(...args);
}) as typeof mkdir; // the overloads of mkdir differ in nothing that matters here
fs.rename = async (...args) => {
  await step();
  await rename(...args);
};
fs.rm = async (...args) => {
  await step();
  await rm(...args);
};
fs.open = async (...args) => {
  await step();
  const file = await open(...args);
  const write = file.writeFile.bind(file);
  const sync = file.sync.bind(file);
  file.writeFile = async (data, ...more) => {
    // Text is all that an identity consists of.
    if (typeof data === "string") await step(() => write(data.slice(0, data.length / 2), ...more));
    await write(data, ...more);
  };
  file.sync = async () => {
    await step();
    await sync();
  };
  return file;
};
syncBuiltinESMExports();

const { openNodeIdentity } = await import("@sluice/rpc/identity/open.ts");
const identity = await openNodeIdentity({
  role: "agent",
  node: { name, region: "", controlPlanes: [address], join: { kind: "tokenEnv", name: "TOKEN" } },
  directory,
  hosts: [],
  clock: systemClock,
  random: systemRandom,
  log: pino({ level: "silent" }),
  // eslint-disable-next-line node/no-process-env -- a program of its own
  readEnvironment: (variable) => process.env[variable],
});
process.stdout.write(`enrolled ${identity.self.serial} in ${steps} steps\n`);
process.exit(0);
