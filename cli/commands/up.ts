/**
 * `sluice up`: all planes in one process, until a signal. It must always end: a drain that hangs is cut off, so that whoever
 * stops us (a person, systemd, a test) gets an answer within fifteen seconds.
 */
import path from "node:path";
import type { Command } from "commander";
import type { Config } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { CommandContext } from "../context.ts";
import { DEFAULT_READY_FILE } from "../installation.ts";
import { createLog } from "../log.ts";

interface UpOptions {
  readonly config: string;
  readonly dataDir: string;
  readonly readyFile: string;
}

/** For what comes after the drain: the spool's last chance, streams and files; with the drain's ten seconds an answer within fifteen. Milliseconds. */
const AFTER_DRAIN_MS = 4_000;

/** How long stopping may take before what is left is cut off. */
export function stopTimeoutMs({ limits }: Pick<Config, "limits">): number {
  return Math.max(limits.drainTimeoutMs ?? 0, defaultLimits.drainTimeoutMs) + AFTER_DRAIN_MS;
}

export function addUpCommand(program: Command, context: CommandContext): void {
  program
    .command("up")
    .description("run all planes in this process until SIGTERM or Ctrl-C")
    .requiredOption("--config <file>", "the Config file of this installation")
    .option("--data-dir <directory>", "where everything that must survive a restart is kept", ".sluice/data")
    .option("--ready-file <file>", "written (mode 0600) once everything serves", DEFAULT_READY_FILE)
    .action((options: UpOptions) => up(options, context));
}

async function up(options: UpOptions, context: CommandContext): Promise<void> {
  const stopRequested = context.stopRequested();
  const dataDirectory = path.resolve(context.workingDirectory, options.dataDir);
  // Schemas and planes are loaded only here: every other command stays quick to start.
  const { loadConfig } = await import("../config-file.ts");
  const { config, manifestFiles } = await loadConfig(options.config, dataDirectory, context.workingDirectory);
  const { startAll } = await import("../up/up.ts");
  const log = createLog(context.environment("SLUICE_LOG_LEVEL"));
  const installation = await startAll({
    config,
    dataDirectory,
    readyFile: path.resolve(context.workingDirectory, options.readyFile),
    manifestFiles,
    environment: context.environment,
    log,
  });
  for (const listener of installation.ready.listeners)
    context.err(`Sluice serves ${listener.protocol} on ${listener.address}.\n`);
  context.err(`Admin API: ${installation.ready.admin}\n`);
  await stopRequested;
  await stopWithin(() => installation.stop(), stopTimeoutMs(config));
}

/** Stops, or throws GatewayError when that takes longer than it may. */
export async function stopWithin(stop: () => Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(new GatewayError("internal", `Stopping took longer than ${timeoutMs / 1000} seconds; what was left was cut off.`)),
      timeoutMs,
    );
  });
  try {
    await Promise.race([stop(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
