/** `sluice manifests history | diff`: what was declared when and by whom. */
import type { Command } from "commander";
import { isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { formatTable, formatTime, visibleLines } from "../output/table.ts";

interface HistoryOptions extends InstallationOptions {
  readonly limit: string;
  readonly json?: boolean;
}

export function addManifestsCommand(program: Command, context: CommandContext): void {
  const manifests = program.command("manifests").description("history of what was applied");
  withInstallationOptions(
    manifests
      .command("history [kind] [name]")
      .description("revisions, newest first")
      .option("--limit <count>", "at most this many", "100")
      .option("--json", "print JSON"),
  ).action((kind: string | undefined, name: string | undefined, options: HistoryOptions) =>
    history(kind, name, options, context),
  );
  withInstallationOptions(
    manifests.command("diff <revision>").description("what a revision changed, as a unified diff").option("--json", "print JSON"),
  ).action((revision: string, options: HistoryOptions) => diff(revision, options, context));
}

async function history(
  kind: string | undefined,
  name: string | undefined,
  options: HistoryOptions,
  context: CommandContext,
): Promise<void> {
  const limit = wholeNumber(options.limit, "--limit");
  const request = { ...(kind === undefined ? {} : { kind }), ...(name === undefined ? {} : { name }), limit };
  const answer = await (await findInstallation(options, context)).admin.call("ManifestService/History", request);
  const revisions = isRecord(answer) && Array.isArray(answer["revisions"]) ? answer["revisions"].filter(isRecord) : [];
  if (options.json === true) {
    context.out(`${JSON.stringify(revisions)}\n`);
    return;
  }
  if (revisions.length === 0) {
    context.out("Nothing was applied.\n");
    return;
  }
  const rows = revisions.map((one) => [
    String(one["revision"]),
    String(one["kind"]),
    String(one["name"]),
    String(one["change"]),
    String(one["author"]),
    formatTime(one["at"]),
  ]);
  context.out(`${formatTable(["revision", "kind", "name", "change", "author", "at"], rows).join("\n")}\n`);
}

async function diff(revision: string, options: HistoryOptions, context: CommandContext): Promise<void> {
  const request = { revision: wholeNumber(revision, "the revision") };
  const answer = await (await findInstallation(options, context)).admin.call("ManifestService/Diff", request);
  if (options.json === true) context.out(`${JSON.stringify(answer)}\n`);
  else context.out(`${visibleLines(isRecord(answer) ? String(answer["diff"]) : "").join("\n")}\n`);
}

function wholeNumber(text: string, what: string): number {
  if (!/^[1-9][0-9]{0,9}$/.test(text)) throw new UsageError(`${what} must be a whole number from 1 on.`);
  return Number(text);
}
