/** `sluice doctor`: looks at this installation and says what to mend. It only reads; every finding comes with what to do. */
import { stat } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { GatewayError } from "@sluice/core/errors.ts";
import { AdminError } from "../admin-client.ts";
import { type CommandContext, NegativeAnswer } from "../context.ts";
import {
  DEFAULT_READY_FILE,
  findInstallation,
  findReadyFile,
  type InstallationOptions,
  withInstallationOptions,
} from "../installation.ts";
import { findProgram } from "./find-program.ts";

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly text: string;
}

export function addDoctorCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(program.command("doctor").description("check this installation and say what to mend")).action(
    async (options: InstallationOptions) => {
      const findings = [
        checkNode(),
        await checkReadyFile(options, context),
        await checkAdmin(options, context),
        await checkPsql(context),
      ];
      for (const finding of findings) context.out(`${finding.ok ? "ok  " : "MEND"}  ${finding.name}: ${finding.text}\n`);
      if (findings.some((finding) => !finding.ok)) throw new NegativeAnswer();
    },
  );
}

function checkNode(): Finding {
  const ok = process.versions.node.startsWith("24.");
  return {
    name: "Node",
    ok,
    text: ok ? process.versions.node : `${process.versions.node}; Sluice needs 24: run npm ci in its folder`,
  };
}

async function checkReadyFile(options: InstallationOptions, context: CommandContext): Promise<Finding> {
  const name = "ready file";
  if (options.server !== undefined) return { name, ok: true, text: "not used with --server" };
  try {
    const ready = await findReadyFile(options, context);
    const file = path.resolve(context.workingDirectory, options.readyFile ?? DEFAULT_READY_FILE);
    // Bits of group and others: the file holds the admin token.
    const open = ((await stat(file)).mode & 0o077) !== 0;
    if (open) return { name, ok: false, text: `${file} can be read by others; run chmod 600 on it` };
    return { name, ok: true, text: `${file}, process ${ready.pid}` };
  } catch (error) {
    return { name, ok: false, text: describe(error) };
  }
}

async function checkAdmin(options: InstallationOptions, context: CommandContext): Promise<Finding> {
  const name = "admin API";
  try {
    const { admin } = await findInstallation(options, context);
    await admin.call("SessionService/List", {});
    return { name, ok: true, text: "answers, and accepts the token" };
  } catch (error) {
    return { name, ok: false, text: describe(error) };
  }
}

async function checkPsql(context: CommandContext): Promise<Finding> {
  const found = await findProgram("psql", context);
  return { name: "psql", ok: true, text: found ?? "not installed; `sluice psql` uses its built-in client" };
}

function describe(error: unknown): string {
  if (!(error instanceof GatewayError) && !(error instanceof AdminError)) return "failed for an unexpected reason";
  return error.hint === undefined ? error.message : `${error.message} ${error.hint}`;
}
