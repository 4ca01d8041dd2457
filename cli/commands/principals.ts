/** `sluice principals disable | enable | list`: who may not log in, and whose sessions end within a second, whatever their tokens say. */
import type { Command } from "commander";
import { isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { formatTable, formatTime, visible } from "../output/table.ts";

interface PrincipalOptions extends InstallationOptions {
  readonly subject?: string;
  readonly issuer?: string;
  readonly owner?: string;
  readonly reason?: string;
  readonly json?: boolean;
}

export function addPrincipalsCommand(program: Command, context: CommandContext): void {
  const principals = program.command("principals").description("people and workloads that are shut out");
  const who = (command: Command): Command =>
    withInstallationOptions(command)
      .option("--subject <name>", "the `sub` of its tokens")
      .option("--issuer <url>", "of this identity provider only (with --subject)")
      .option("--owner <name>", "every workload of this owner, instead of --subject");
  who(
    principals
      .command("disable")
      .description("end its sessions on every gateway and refuse new ones")
      .option("--reason <text>", "a sentence that the caller reads", "Your access was withdrawn."),
  ).action(async (options: PrincipalOptions) => {
    const principal = principalOf(options);
    await (await findInstallation(options, context)).admin.call("PrincipalService/Disable", {
      ...principal,
      reason: options.reason ?? "",
    });
    context.out(`${shown(principal)} is disabled\n`);
  });
  who(principals.command("enable").description("let it in again")).action(async (options: PrincipalOptions) => {
    const principal = principalOf(options);
    await (await findInstallation(options, context)).admin.call("PrincipalService/Enable", principal);
    context.out(`${shown(principal)} is enabled\n`);
  });
  withInstallationOptions(principals.command("list").description("who is disabled").option("--json", "print JSON")).action(
    (options: PrincipalOptions) => list(options, context),
  );
}

async function list(options: PrincipalOptions, context: CommandContext): Promise<void> {
  const answer = await (await findInstallation(options, context)).admin.call("PrincipalService/List", {});
  const entries = isRecord(answer) && Array.isArray(answer["principals"]) ? answer["principals"].filter(isRecord) : [];
  if (options.json === true) {
    context.out(`${JSON.stringify(entries)}\n`);
    return;
  }
  if (entries.length === 0) {
    context.out("Nobody is disabled.\n");
    return;
  }
  const cell = (value: unknown): string => (typeof value === "string" ? value : "-");
  const rows = entries.map((entry) => [
    cell(entry["subject"]),
    cell(entry["issuer"]),
    cell(entry["owner"]),
    cell(entry["reason"]),
    cell(entry["author"]),
    formatTime(entry["since"]),
  ]);
  context.out(`${formatTable(["subject", "issuer", "owner", "reason", "by", "since"], rows).join("\n")}\n`);
}

function principalOf({ subject, issuer, owner }: PrincipalOptions): Readonly<Record<string, string>> {
  if ((subject === undefined) === (owner === undefined)) throw new UsageError("Give either --subject or --owner.");
  if (owner !== undefined && issuer !== undefined) throw new UsageError("--issuer goes with --subject.");
  return {
    ...(subject === undefined ? {} : { subject }),
    ...(issuer === undefined ? {} : { issuer }),
    ...(owner === undefined ? {} : { owner }),
  };
}

function shown(principal: Readonly<Record<string, string>>): string {
  const { subject, owner } = principal;
  return subject === undefined ? `everything of owner ${visible(owner ?? "")}` : visible(subject);
}
