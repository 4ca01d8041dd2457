/**
 * Finds the running installation a command talks to: by its ready file, or by --server with SLUICE_TOKEN. It must never
 * print the token or take it from the command line, where every process of the machine can read it.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import { type AdminClient, createAdminClient } from "./admin-client.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { isAlive, type ReadyFile, readReadyFile, startHint } from "./ready-file.ts";

/** Options that every command against a running installation takes. */
export interface InstallationOptions {
  readonly readyFile?: string;
  readonly server?: string;
  readonly caFile?: string;
}

export interface FoundInstallation {
  readonly admin: AdminClient;
  /** Absent when found by --server. */
  readonly ready: ReadyFile | undefined;
}

export const DEFAULT_READY_FILE = ".sluice/ready.json";

/** Adds the options to a command. */
export function withInstallationOptions(command: Command): Command {
  return command
    .option("--ready-file <file>", `ready file of the running installation (default: ${DEFAULT_READY_FILE})`)
    .option("--server <url>", "admin API of the installation, instead of a ready file; the token is read from SLUICE_TOKEN")
    .option("--ca-file <file>", "PEM file of the CA that verifies --server (default: the system's authorities)");
}

/** Throws UsageError on options that exclude each other, GatewayError when there is no installation. */
export async function findInstallation(options: InstallationOptions, context: CommandContext): Promise<FoundInstallation> {
  if (options.server !== undefined) return { admin: await clientOfServer(options.server, options, context), ready: undefined };
  const ready = await findReadyFile(options, context);
  return { admin: await clientOfReadyFile(ready), ready };
}

/** Only the ready file, for commands that need a listener. Throws GatewayError when it is missing or stale. */
export async function findReadyFile(options: InstallationOptions, context: CommandContext): Promise<ReadyFile> {
  if (options.caFile !== undefined) throw new UsageError("--ca-file goes with --server; a ready file names its own CA.");
  const file = path.resolve(context.workingDirectory, options.readyFile ?? DEFAULT_READY_FILE);
  const ready = await readReadyFile(file);
  if (!isAlive(ready.pid)) {
    throw new GatewayError("not_found", `${file} is stale: the process it names (${ready.pid}) has ended.`, { hint: startHint });
  }
  return ready;
}

async function clientOfReadyFile(ready: ReadyFile): Promise<AdminClient> {
  return createAdminClient({
    url: ready.admin,
    token: ready.adminToken,
    ca: await readAuthority(ready.caFile),
    unreachableHint: `The ready file may be stale. ${startHint}`,
  });
}

async function clientOfServer(server: string, options: InstallationOptions, context: CommandContext): Promise<AdminClient> {
  if (options.readyFile !== undefined) throw new UsageError("Give either --server or --ready-file, not both.");
  if (!URL.canParse(server) || new URL(server).protocol !== "https:") {
    throw new UsageError("--server must be an https:// address, for example https://127.0.0.1:6544.");
  }
  const token = context.environment("SLUICE_TOKEN") ?? "";
  if (token === "") throw new UsageError("--server needs the admin token in the environment variable SLUICE_TOKEN.");
  return createAdminClient({
    url: server,
    token,
    ...(options.caFile === undefined ? {} : { ca: await readAuthority(path.resolve(context.workingDirectory, options.caFile)) }),
    unreachableHint: "Check the address, and that Sluice runs there.",
  });
}

/** PEM text of a CA file. */
export async function readAuthority(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new GatewayError("not_found", `The CA file ${file} cannot be read.`, { hint: startHint, cause: error });
  }
}
