#!/usr/bin/env node
/**
 * The `sluice` command. Plain JavaScript, since it may be started by an older Node than the project's own: finds Node 24
 * beside the project and runs cli/main.ts there, or runs it right here when this already is Node 24. It must never swallow
 * a signal or change the exit code.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(realpathSync(fileURLToPath(import.meta.url)));
const main = path.join(here, "..", "main.ts");

if (process.versions.node.startsWith("24.")) {
  await import(main);
} else {
  const node = findNode(here);
  if (node === undefined) {
    process.stderr.write(
      "sluice: Node 24 was not found in node_modules. Run `npm ci` in the project's folder (with install scripts allowed), then try again.\n",
    );
    process.exitCode = 1;
  } else {
    process.exitCode = await run(node, [main, ...process.argv.slice(2)]);
  }
}

/** Looks for node_modules/.bin/node, version 24, in this folder and every folder above it. */
function findNode(from) {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const candidate = path.join(folder, "node_modules", ".bin", "node");
    if (existsSync(candidate) && isNode24(candidate)) return candidate;
    if (path.dirname(folder) === folder) return undefined;
  }
}

function isNode24(candidate) {
  try {
    return execFileSync(candidate, ["--version"], { encoding: "utf8" }).startsWith("v24.");
  } catch {
    return false;
  }
}

function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "inherit" });
    const forward = (signal) => child.kill(signal);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, forward);
    child.once("error", (error) => {
      process.stderr.write(`sluice: could not start Node 24: ${error.message}\n`);
      resolve(1);
    });
    child.once("exit", (code, signal) => resolve(code ?? 128 + (os.constants.signals[signal] ?? 0)));
  });
}
