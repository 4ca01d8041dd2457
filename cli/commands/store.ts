/**
 * `sluice store …`: backs up, restores and re-encrypts what control planes keep. Acts on the store that a control plane's configuration
 * names, not on a running installation. It must never print a key, nor make a store where none was: the backup of a mistyped directory
 * would be an empty one that looks good.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import type { Command } from "commander";
import type { MaintenanceOptions } from "@sluice/control-plane/store/maintenance.ts";
import type { KeySource } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { createLog } from "../log.ts";

interface StoreOptions {
  readonly config: string;
  readonly dataDir: string;
}

interface KeyOptions extends StoreOptions {
  readonly toFile?: string;
  readonly toEnv?: string;
}

/** Where `sluice control-plane` keeps its data unless told otherwise. */
const DEFAULT_DATA_DIRECTORY = ".sluice/control-plane";

export function addStoreCommands(program: Command, context: CommandContext): void {
  const store = program.command("store").description("the control planes' store: backup, restore, encryption key");
  withStoreOptions(
    store
      .command("backup <file>")
      .description(
        "write everything into one file, from one moment; control planes may go on where the store is a server of its own (use the version that they run: a newer one migrates the store)",
      ),
  ).action(async (file: string, options: StoreOptions) => {
    const { backupToFile } = await import("@sluice/control-plane/store/maintenance.ts");
    const { rows, madeAt } = await backupToFile(await existing(options, context), path.resolve(context.workingDirectory, file));
    context.out(`${rows} rows of ${madeAt} are in ${file}\n`);
    context.err("Keys in it are encrypted: to restore it you need the encryption key too, kept elsewhere.\n");
  });
  withStoreOptions(
    store
      .command("restore <file>")
      .description("read a backup into an empty store, all or nothing, before any control plane runs on it"),
  ).action(async (file: string, options: StoreOptions) => {
    const { restoreFromFile } = await import("@sluice/control-plane/store/maintenance.ts");
    const { rows, madeAt } = await restoreFromFile(await target(options, context), path.resolve(context.workingDirectory, file));
    context.out(`${rows} rows of ${madeAt} are restored\n`);
    context.err("Start the control planes; join tokens that were open are revoked.\n");
  });
  withStoreOptions(
    store
      .command("change-key")
      .description("encrypt the keys in the store anew, from the key that the configuration names to another")
      .option("--to-file <file>", "file with the new key: 32 bytes in base64")
      .option("--to-env <name>", "variable with the new key"),
  ).action(async (options: KeyOptions) => {
    const to = newKey(options, context);
    const { changeEncryptionKey } = await import("@sluice/control-plane/store/maintenance.ts");
    const { environment: readEnvironment } = context;
    const changed = await changeEncryptionKey({
      ...(await existing(options, context)),
      to,
      readEnvironment,
      random: systemRandom,
      limits: defaultLimits,
    });
    context.out(`${changed} keys are encrypted anew\n`);
    context.err("Name the new key in controlPlane.encryptionKey and restart every control plane.\n");
  });
}

function withStoreOptions(command: Command): Command {
  return command
    .requiredOption("--config <file>", "the Config file of a control plane")
    .option("--data-dir <directory>", "its data directory", DEFAULT_DATA_DIRECTORY);
}

async function existing(options: StoreOptions, context: CommandContext): Promise<MaintenanceOptions> {
  const found = await target(options, context);
  if (found.config.store.kind !== "embedded") return found;
  const directory = await stat(path.join(found.dataDirectory, "store")).catch(() => undefined);
  if (directory?.isDirectory() === true) return found;
  throw new GatewayError("not_found", `There is no embedded store in ${found.dataDirectory}.`, {
    hint: "Give --data-dir as the control plane, or `sluice up`, has it.",
  });
}

async function target(options: StoreOptions, context: CommandContext): Promise<MaintenanceOptions> {
  const dataDirectory = path.resolve(context.workingDirectory, options.dataDir);
  const { loadConfigAlone } = await import("../config-file.ts");
  const config = await loadConfigAlone(options.config, dataDirectory, context.workingDirectory);
  const log = createLog(context.environment("SLUICE_LOG_LEVEL") ?? "error");
  return { config: config.controlPlane, dataDirectory, log };
}

function newKey({ toFile, toEnv }: KeyOptions, { workingDirectory }: CommandContext): KeySource {
  if (toFile !== undefined && toEnv === undefined) return { kind: "file", path: path.resolve(workingDirectory, toFile) };
  if (toEnv !== undefined && toFile === undefined) return { kind: "env", name: toEnv };
  throw new UsageError("Give either --to-file or --to-env: where the new key is.");
}
