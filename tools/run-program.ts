/** Runs a program and keeps what it printed. It must never leave a program behind: what runs too long is ended, by its id. */
import { spawn } from "node:child_process";

export interface ProgramResult {
  /** 127 when it could not be started, 128 + n when signal n ended it. */
  readonly status: number;
  /** Standard output and standard error together, in order. */
  readonly output: string;
  readonly timedOut: boolean;
}

export interface ProgramOptions {
  readonly cwd: string;
  readonly timeoutMs: number;
  /** Shows the output while it comes as well. */
  readonly show?: boolean;
  readonly additions?: Readonly<Record<string, string>>;
}

/** What is kept of an output; the end matters more than the beginning. Characters. */
const OUTPUT_KEPT = 2_000_000;
/** Between asking a program to end and ending it. Milliseconds. */
const GRACE_MS = 20_000;

export function runProgram(command: string, args: readonly string[], options: ProgramOptions): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const env = { ...process.env, ...options.additions };
    const child = spawn(command, args, { cwd: options.cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let timedOut = false;
    const take = (chunk: Buffer): void => {
      output = `${output}${chunk.toString("utf8")}`.slice(-OUTPUT_KEPT);
      if (options.show === true) process.stdout.write(chunk);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGTERM");
      setTimeout(() => child.kill("SIGKILL"), GRACE_MS).unref();
    }, options.timeoutMs);
    // Ctrl-C in a terminal reaches the program by itself; a signal to us alone goes on to it.
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    process.on("SIGTERM", forward);
    const finish = (status: number): void => {
      clearTimeout(timer);
      process.off("SIGTERM", forward);
      resolve({ status, output, timedOut });
    };
    child.once("error", (error) => {
      output += `${command} could not be started: ${error.message}\n`;
      finish(127);
    });
    child.once("close", (code) => finish(code ?? 128));
  });
}
