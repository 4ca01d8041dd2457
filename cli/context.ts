/**
 * What a command gets from the process: streams, environment, folder. Only main.ts makes the real one, tests make their own.
 * Commands must never reach for `process` themselves.
 */

export interface CommandContext {
  /** Results. Written as they come; never anything else. */
  readonly out: (text: string) => void;
  /** Progress, reasons, hints. */
  readonly err: (text: string) => void;
  readonly environment: (name: string) => string | undefined;
  readonly workingDirectory: string;
  /** The account's name; the default subject where a command mints a token. */
  readonly userName: string;
  readonly readStandardInput: () => Promise<string>;
  /** Lines that a person types (or that are piped in), with a prompt when there is a terminal. */
  readonly openPrompt: () => Prompt;
  /** Runs a program on our terminal with additions to the environment; resolves with its exit status. Signals are the program's. */
  readonly runProgram: (command: string, args: readonly string[], additions: Readonly<Record<string, string>>) => Promise<number>;
  /** Resolves with the name of the first SIGTERM, SIGINT or SIGHUP; later ones are ignored. */
  readonly stopRequested: () => Promise<string>;
}

export interface Prompt {
  /** The next line, or undefined at the end of input or on Ctrl-C. */
  readonly ask: (prompt: string) => Promise<string | undefined>;
  readonly close: () => void;
}

/** The command line itself is wrong: exit status 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

/** The answer is no, or a program that we ran failed, and the reason is already printed: exit status 1. */
export class NegativeAnswer extends Error {
  constructor() {
    super("negative answer");
    this.name = "NegativeAnswer";
  }
}
