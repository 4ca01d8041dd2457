#!/usr/bin/env node
/**
 * What `npm start`, `npm test`, `npm run bench` and the like begin with. Runs under the installed Node (20.11 or later), installs what
 * is missing, then hands over to the project's own Node 24. It must never import a dependency (there may be none yet) and
 * never hide the exit code of what it started.
 */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const marker = path.join(root, "node_modules", ".sluice-lock");
const ownNode = path.join(root, "node_modules", ".bin", "node");
const scripts = {
  start: "cli/demo/main.ts",
  test: "tools/check.ts",
  bench: "bench/main.ts",
  "test:chaos": "test/chaos.ts",
  "test:clients": "test/clients/main.ts",
};

const [task = "", ...rest] = process.argv.slice(2);
const script = scripts[task];
if (script === undefined) {
  fail(`Unknown task "${task}". Use one of: ${Object.keys(scripts).join(", ")}.`, 2);
} else {
  await installWhenNeeded();
  assertOwnNode();
  process.exitCode = await run(ownNode, [path.join(root, script), ...rest], "inherit");
}

/** Runs `npm ci` unless what is installed already is what package-lock.json says. */
async function installWhenNeeded() {
  const lockText = readFileSync(path.join(root, "package-lock.json"), "utf8");
  const hash = createHash("sha256").update(lockText).digest("hex");
  if (existsSync(marker) && readFileSync(marker, "utf8").trim() === hash) return;
  if (existsSync(ownNode) && installedMatches(JSON.parse(lockText))) {
    writeFileSync(marker, `${hash}\n`);
    return;
  }
  const startedAt = Date.now();
  process.stderr.write("Installing dependencies with npm ci (a minute or two the first time) ...\n");
  // Development packages too: the project runs from source. Scripts of the listed packages bring Node 24 and PostgreSQL.
  const flags = ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  const npm = process.env.npm_execpath;
  const fromNpm = npm !== undefined && /\.c?js$/.test(npm);
  // npm's own report goes to standard error, so that standard output holds only what the task prints.
  const code = await run(fromNpm ? process.execPath : "npm", fromNpm ? [npm, ...flags] : flags, ["inherit", 2, 2]);
  if (code !== 0) {
    fail(
      `npm ci failed (exit status ${code}). Read npm's message above; most often the registry could not be reached or the disk is full.`,
    );
  }
  writeFileSync(marker, `${hash}\n`);
  process.stderr.write(`Dependencies installed in ${((Date.now() - startedAt) / 1000).toFixed(1)} s.\n`);
}

/** True when npm's own note of what it installed has every package of the lock file at the same version. */
function installedMatches(lock) {
  const notePath = path.join(root, "node_modules", ".package-lock.json");
  if (!existsSync(notePath)) return false;
  const installed = JSON.parse(readFileSync(notePath, "utf8")).packages ?? {};
  return Object.entries(lock.packages ?? {}).every(([where, wanted]) => {
    const isWorkspaceFolder = !where.includes("node_modules/");
    if (isWorkspaceFolder || wanted.link === true) return true;
    const found = installed[where];
    if (found === undefined) return wanted.optional === true || wanted.peer === true;
    return found.version === wanted.version;
  });
}

/** With install scripts switched off npm leaves the installed Node in place without a word, so look. */
function assertOwnNode() {
  let version = "";
  try {
    version = execFileSync(ownNode, ["--version"], { encoding: "utf8" }).trim();
  } catch {
    // told below
  }
  if (!version.startsWith("v24.")) {
    fail(
      `Node 24 is missing from node_modules (found: ${version === "" ? "none" : version}). ` +
        "npm was probably told to ignore install scripts: run `npm ci --ignore-scripts=false`, then try again.",
    );
  }
}

/** Runs a program with our terminal; signals go on to it and it alone says how this ends. Resolves with its exit status. */
function run(command, args, stdio) {
  return new Promise((resolve) => {
    const binaries = path.join(root, "node_modules", ".bin");
    const child = spawn(command, args, {
      stdio,
      cwd: root,
      env: { ...process.env, PATH: `${binaries}${path.delimiter}${process.env.PATH ?? ""}` },
    });
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
    const forward = (signal) => child.kill(signal);
    for (const signal of signals) process.on(signal, forward);
    const watch = watchParent(() => child.kill("SIGTERM"));
    const finish = (code) => {
      clearInterval(watch);
      for (const signal of signals) process.off(signal, forward);
      resolve(code);
    };
    child.once("error", (error) => {
      process.stderr.write(`Could not run ${command}: ${error.message}\n`);
      finish(127);
    });
    child.once("exit", (code, signal) => finish(code ?? 128 + (os.constants.signals[signal] ?? 0)));
  });
}

/**
 * A signal to npm ends npm and its shell but does not reach us, and what we run would be left behind for ever. So when npm has
 * started us and our parent is gone, that is the signal. Started by hand we may well outlive the shell.
 */
function watchParent(gone) {
  if (process.env.npm_lifecycle_event !== task) return undefined;
  const parent = process.ppid;
  return setInterval(() => {
    if (process.ppid !== parent) gone();
  }, 500).unref();
}

function fail(sentence, code = 1) {
  process.stderr.write(`${sentence}\n`);
  process.exit(code);
}
