/**
 * The real CommandContext: this process. The only file of the command line that reads `process`. A reader of our output that
 * goes away (`| head`) ends us quietly, as it does other tools.
 */
import { spawn } from "node:child_process";
import os from "node:os";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import type { CommandContext, Prompt } from "./context.ts";

export function createProcessContext(): CommandContext {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(0);
      throw error;
    });
  }
  return {
    out: (output) => process.stdout.write(output),
    err: (output) => process.stderr.write(output),
    environment: (name) => process.env[name],
    workingDirectory: process.cwd(),
    userName: readUserName(),
    readStandardInput: () => text(process.stdin),
    openPrompt,
    runProgram,
    stopRequested,
  };
}

/** What is left open after a command has ended may linger this long: a socket that closes slowly must not hold the shell. */
const LINGER_MS = 500;

/** Ends the process with a status, soon after nothing is left to do. Output is written synchronously on Linux, so none is lost. */
export function endProcess(status: number): void {
  process.exitCode = status;
  setTimeout(() => process.exit(status), LINGER_MS).unref();
}

function readUserName(): string {
  try {
    return os.userInfo().username;
  } catch {
    return process.env["USER"] ?? ""; // accounts without an entry, as in some containers
  }
}

function openPrompt(): Prompt {
  const lines = createInterface({ input: process.stdin, output: process.stdout, terminal: process.stdin.isTTY });
  const queue: string[] = [];
  let waiting: ((line: string | undefined) => void) | undefined;
  let closed = false;
  const settle = (line: string | undefined): void => {
    const resolve = waiting;
    waiting = undefined;
    resolve?.(line);
  };
  // Piped input comes faster than statements run: lines wait their turn.
  lines.on("line", (line) => {
    if (waiting === undefined) queue.push(line);
    else settle(line);
  });
  lines.on("SIGINT", () => lines.close());
  lines.on("close", () => {
    closed = true;
    settle(undefined);
  });
  return {
    ask: (prompt) => {
      const ready = queue.shift();
      if (ready !== undefined || closed) return Promise.resolve(ready);
      if (process.stdin.isTTY) {
        lines.setPrompt(prompt);
        lines.prompt();
      }
      return new Promise((resolve) => {
        waiting = resolve;
      });
    },
    close: () => lines.close(),
  };
}

function runProgram(command: string, args: readonly string[], additions: Readonly<Record<string, string>>): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, ...additions } });
    // Ctrl-C reaches the program by the terminal; it must not end us first. What is sent to us alone goes on to it.
    const ignore = (): void => undefined;
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    process.on("SIGINT", ignore);
    process.on("SIGTERM", forward);
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      process.off("SIGINT", ignore);
      process.off("SIGTERM", forward);
      resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]));
    });
  });
}

function stopRequested(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
  });
}
