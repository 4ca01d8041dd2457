/** A client that is a program of its own: Python with psycopg. A missing one is a failure with a sentence. */
import { access } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type CommandResult, repository, runCommand } from "./sluice.ts";

/** Debian's own Python: another one on the path would not have Debian's psycopg. */
const PYTHON = "/usr/bin/python3";

export interface ProgramTarget {
  readonly port: number;
  readonly caFile: string;
  readonly token: string;
  readonly database?: string;
}

/** Runs `test/fixtures/clients/NAME` with psycopg 3; returns what it printed as JSON. Throws with its stderr when it fails. */
export async function runPsycopg(
  name: string,
  target: ProgramTarget,
  more: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  await mustExist(PYTHON, "python3 and python3-psycopg");
  const script = join(repository, "test/fixtures/clients", name);
  return parsed(
    await runCommand(PYTHON, [script], dirname(script), { ...environmentOf(target), ...more, PYTHONDONTWRITEBYTECODE: "1" }),
    "psycopg (Debian: python3-psycopg)",
  );
}

function environmentOf(target: ProgramTarget): Readonly<Record<string, string>> {
  return {
    TEST_PORT: String(target.port),
    TEST_CA: target.caFile,
    TEST_TOKEN: target.token,
    TEST_DATABASE: target.database ?? "orders",
  };
}

async function mustExist(path: string, packages: string): Promise<void> {
  await access(path).catch(() => {
    throw new Error(`${path} is missing; on Debian it comes with ${packages}.`);
  });
}

function parsed(result: CommandResult, program: string): unknown {
  if (result.status !== 0) throw new Error(`${program} ended with status ${result.status}:\n${result.stderr}\n${result.stdout}`);
  try {
    return JSON.parse(result.stdout);
  } catch {
    throw new Error(`${program} did not print JSON:\n${result.stdout}\n${result.stderr}`);
  }
}
