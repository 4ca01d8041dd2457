/** A CommandContext for tests: keeps what was written, answers what it was given. */
import type { CommandContext } from "./context.ts";

export interface TestContext extends CommandContext {
  readonly written: { out: string; err: string };
  readonly programs: {
    readonly command: string;
    readonly args: readonly string[];
    readonly additions: Readonly<Record<string, string>>;
  }[];
}

export interface TestContextOptions {
  readonly workingDirectory: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly standardInput?: string;
  /** Exit status of programs. */
  readonly programStatus?: number;
}

export function createTestContext(options: TestContextOptions): TestContext {
  const written = { out: "", err: "" };
  const programs: TestContext["programs"] = [];
  return {
    written,
    programs,
    out: (text) => {
      written.out += text;
    },
    err: (text) => {
      written.err += text;
    },
    environment: (name) => options.environment?.[name],
    workingDirectory: options.workingDirectory,
    userName: "tester",
    readStandardInput: () => Promise.resolve(options.standardInput ?? ""),
    openPrompt: () => ({ ask: () => Promise.resolve(undefined), close: () => undefined }),
    runProgram: (command, args, additions) => {
      programs.push({ command, args, additions });
      return Promise.resolve(options.programStatus ?? 0);
    },
    stopRequested: () => Promise.resolve("SIGTERM"),
  };
}
