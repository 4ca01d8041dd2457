/**
 * `sluice recordings verify PATH --keys FILE`: proves recordings from files and trusted public keys alone, without a running
 * installation. It must never take a key that lies beside the recordings on its own: whoever can change those can change that too.
 */
import { createReadStream } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import { parseSessionId } from "@sluice/core/ids.ts";
import type { VerifyReport } from "@sluice/rpc/recordings.ts";
import { type CommandContext, NegativeAnswer } from "../context.ts";
import { printVerifyReport } from "../output/verify-report.ts";

interface VerifyOptions {
  readonly keys?: string;
  readonly json?: boolean;
}

const SUFFIX = ".slr";

export function addRecordingsCommand(program: Command, context: CommandContext): void {
  program
    .command("recordings")
    .description("recordings as files, without a running installation")
    .command("verify <path>")
    .description(
      "check a recording, or all of a directory, with trusted public keys; exit status 0 only if all are whole and untouched",
    )
    .option("--keys <file>", "PEM file of public keys, kept away from the recordings; without it nothing can be proved")
    .option("--json", "print one JSON report a line")
    .action((given: string, options: VerifyOptions) => verify(given, options, context));
}

async function verify(given: string, options: VerifyOptions, context: CommandContext): Promise<void> {
  const files = await listRecordings(path.resolve(context.workingDirectory, given), given);
  // Loaded only here: every other command stays quick to start.
  const { parsePublicKeys } = await import("@sluice/recorder/format/checkpoint.ts");
  const { verifyRecording } = await import("@sluice/recorder/format/verify.ts");
  const keys = options.keys === undefined ? [] : parsePublicKeys(await readKeys(options.keys, context));
  let allWhole = true;
  for (const file of files) {
    const source: AsyncIterable<Buffer> = createReadStream(file);
    const report = await verifyRecording(source, keys, parseSessionId(path.basename(file, SUFFIX)));
    allWhole &&= report.ok;
    print(report, path.relative(context.workingDirectory, file), options, context);
  }
  if (options.json !== true && files.length > 1) context.out(`${files.length} recordings\n`);
  if (!allWhole) throw new NegativeAnswer();
}

function print(report: VerifyReport, file: string, options: VerifyOptions, context: CommandContext): void {
  if (options.json === true) context.out(`${JSON.stringify({ file, ...report })}\n`);
  else printVerifyReport({ ...report }, context);
}

/** The file itself, or every recording below the directory in the order of their names. Throws `not_found`. */
async function listRecordings(absolute: string, shown: string): Promise<readonly string[]> {
  const found = await stat(absolute).catch((error: unknown) => {
    throw new GatewayError("not_found", `${shown} does not exist or may not be read.`, { cause: error });
  });
  if (!found.isDirectory()) return [absolute];
  const names = await readdir(absolute, { recursive: true });
  const files = names.filter((name) => name.endsWith(SUFFIX)).sort();
  if (files.length === 0) throw new GatewayError("not_found", `${shown} holds no recording (*${SUFFIX}).`);
  return files.map((name) => path.join(absolute, name));
}

async function readKeys(file: string, context: CommandContext): Promise<string> {
  return readFile(path.resolve(context.workingDirectory, file), "utf8").catch((error: unknown) => {
    throw new GatewayError("not_found", `The key file ${file} does not exist or may not be read.`, { cause: error });
  });
}
