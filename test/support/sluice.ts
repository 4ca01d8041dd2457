/**
 * Starts the product as an outside tool would: `sluice up` as a process, found by its ready file, stopped by SIGTERM to the pid
 * in it. What it writes to stdout and stderr is kept, to be searched.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { access, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ReadyFile } from "sluice/ready-file.ts";

export const repository: string = fileURLToPath(new URL("../../", import.meta.url));
const launcher = join(repository, "cli/bin/sluice.mjs");
const START_TIMEOUT_MS = 60_000;
/** What the contract promises for SIGTERM. */
const STOP_TIMEOUT_MS = 15_000;

export interface SluiceOptions {
  /** YAML of the Config document. */
  readonly config: string;
  /** Manifest files by name, in the directory `manifests` beside the config. */
  readonly manifests: Readonly<Record<string, string>>;
  readonly environment?: Readonly<Record<string, string>>;
  /** Kept between two starts; a fresh one when absent. */
  readonly directory?: string;
  /** The command of another copy of the project. */
  readonly launcher?: string;
}

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Sluice {
  readonly ready: ReadyFile;
  readonly readyFile: string;
  readonly directory: string;
  readonly dataDirectory: string;
  /** Port of the PostgreSQL listener. */
  readonly port: number;
  /** Everything the process has written. */
  output(): string;
  cli(...args: string[]): Promise<CommandResult>;
  token(subject: string, groups: readonly string[], ...more: string[]): Promise<string>;
  /** SIGTERM; resolves with the exit status, throws when it takes longer than the contract promises. */
  stop(): Promise<number>;
  /** SIGKILL: the power is gone. The data directory stays. */
  kill(): Promise<void>;
  /** Stops what still runs and removes the directory. */
  remove(): Promise<void>;
}

export async function startSluice(options: SluiceOptions): Promise<Sluice> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "sluice-test-")));
  // Started by root, the store's server runs as somebody else, who must be able to pass; else the store would live elsewhere.
  await chmod(directory, 0o711);
  await mkdir(join(directory, "manifests"), { recursive: true });
  await writeFile(join(directory, "config.yaml"), options.config);
  for (const [name, text] of Object.entries(options.manifests)) await writeFile(join(directory, "manifests", name), text);
  const readyFile = join(directory, "ready.json");
  const dataDirectory = join(directory, "data");
  await rm(readyFile, { force: true });
  const program = options.launcher ?? launcher;
  const args = [
    program,
    "up",
    "--config",
    join(directory, "config.yaml"),
    "--data-dir",
    dataDirectory,
    "--ready-file",
    readyFile,
  ];
  const child = spawn(process.execPath, args, {
    cwd: directory,
    env: { ...process.env, ...options.environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let written = "";
  child.stdout.on("data", (chunk: Buffer) => {
    written += chunk.toString("utf8");
  });
  child.stderr.on("data", (chunk: Buffer) => {
    written += chunk.toString("utf8");
  });
  const exited = new Promise<number>((resolve) =>
    child.once("exit", (code, signal) => resolve(code ?? (signal === null ? 1 : 128))),
  );
  const ready = await waitForReady(readyFile, child, exited, () => written).catch(async (error: unknown) => {
    if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    throw error;
  });
  const cli = (...cliArgs: string[]): Promise<CommandResult> =>
    runCommand(process.execPath, [program, ...cliArgs, "--ready-file", readyFile], directory);
  const signal = async (name: "SIGTERM" | "SIGKILL"): Promise<number> => {
    if (child.exitCode === null && child.signalCode === null) process.kill(ready.pid, name);
    const late = delay(STOP_TIMEOUT_MS, "late" as const, { ref: false });
    const status = await Promise.race([exited, late]);
    if (status === "late") throw new Error(`sluice did not end within ${STOP_TIMEOUT_MS} ms of ${name}; it wrote:\n${written}`);
    return status;
  };
  return {
    ready,
    readyFile,
    directory,
    dataDirectory,
    port: Number(ready.listeners[0]!.address.split(":").at(-1)),
    output: () => written,
    cli,
    token: async (subject, groups, ...more) => {
      const result = await cli("token", "--subject", subject, ...groups.flatMap((group) => ["--group", group]), ...more);
      if (result.status !== 0) throw new Error(`sluice token failed: ${result.stderr}`);
      return result.stdout.trim();
    },
    stop: () => signal("SIGTERM"),
    kill: async () => {
      await signal("SIGKILL");
    },
    remove: async () => {
      await signal("SIGTERM");
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function waitForReady(
  readyFile: string,
  child: ChildProcess,
  exited: Promise<number>,
  written: () => string,
): Promise<ReadyFile> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let status: number | undefined;
  void exited.then((code) => {
    status = code;
  });
  while (Date.now() < deadline) {
    if (status !== undefined)
      throw new Error(`sluice up ended with status ${status} before it was ready; it wrote:\n${written()}`);
    const there = await access(readyFile).then(
      () => true,
      () => false,
    );
    if (there) return JSON.parse(await readFile(readyFile, "utf8")) as ReadyFile; // written by the product, whose type this is
    await delay(50);
  }
  child.kill("SIGKILL");
  throw new Error(`sluice up was not ready within ${START_TIMEOUT_MS} ms; it wrote:\n${written()}`);
}

/** Runs a program to its end; never rejects for a non-zero status. */
export function runCommand(
  program: string,
  args: readonly string[],
  directory: string,
  environment: Readonly<Record<string, string>> = {},
  input = "",
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [...args],
      { cwd: directory, env: { ...process.env, ...environment }, timeout: 60_000, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error !== null && "code" in error && error.code === "ENOENT") {
          reject(new Error(`${program} is not installed; on Debian, tools/debian-packages.ts names the package it comes from.`));
          return;
        }
        resolve({ status: error === null ? 0 : typeof error.code === "number" ? error.code : 1, stdout, stderr });
      },
    );
    // A program may end before it has read what it is given; its status says what there is to say.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
