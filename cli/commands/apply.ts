/** `sluice apply -f PATH`: sends manifests to the installation, which takes all of them or none. */
import type { Command } from "commander";
import { isRecord } from "../admin-client.ts";
import type { CommandContext } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { readManifestFiles } from "../manifest-files.ts";
import { visible } from "../output/table.ts";
import { collect } from "./options.ts";

interface ApplyOptions extends InstallationOptions {
  readonly file: readonly string[];
  readonly json?: boolean;
}

export function addApplyCommand(program: Command, context: CommandContext): void {
  withInstallationOptions(
    program
      .command("apply")
      .description("validate and apply manifests, all or nothing; every fault is reported with file and line")
      .requiredOption("-f, --file <path>", "a file, or a directory of .yaml files; may be given several times", collect)
      .option("--json", "print the answer as JSON"),
  ).action((options: ApplyOptions) => apply(options, context));
}

async function apply(options: ApplyOptions, context: CommandContext): Promise<void> {
  const files = await readManifestFiles(options.file, context.workingDirectory);
  const { admin } = await findInstallation(options, context);
  const answer = await admin.call("ManifestService/Apply", { files });
  if (options.json === true) {
    context.out(`${JSON.stringify(answer)}\n`);
    return;
  }
  const { applied, version } = isRecord(answer) ? answer : {};
  const entries = Array.isArray(applied) ? applied.filter(isRecord) : [];
  if (entries.length === 0) context.err("The files declare nothing.\n");
  for (const entry of entries) {
    context.out(`${visible(String(entry["kind"]))}/${visible(String(entry["name"]))} ${visible(String(entry["change"]))}\n`);
  }
  context.out(`policy version ${visible(String(version))} is in force\n`);
}
