/** `sluice bindings list | forget`: columns that keep their label whatever they are called since. */
import type { Command } from "commander";
import { isRecord } from "../admin-client.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { findInstallation, type InstallationOptions, withInstallationOptions } from "../installation.ts";
import { formatTable, formatTime } from "../output/table.ts";

interface ListOptions extends InstallationOptions {
  readonly resource?: string;
  readonly renamed?: boolean;
  readonly limit?: string;
  readonly json?: boolean;
}

interface ForgetOptions extends InstallationOptions {
  readonly resource: string;
  readonly column?: string;
  readonly entity?: string;
}

const LISTED = 1_000;

export function addBindingsCommand(program: Command, context: CommandContext): void {
  const bindings = program.command("bindings").description("columns that stay labelled whatever they are called");
  withInstallationOptions(bindings.command("list").description("each column as it was first seen and as it is called now"))
    .option("--resource <name>", "of this resource only")
    .option("--renamed", "only those that are called something else now")
    .option("--limit <count>", "at most so many", String(LISTED))
    .option("--json", "print JSON")
    .action((options: ListOptions) => list(options, context));
  withInstallationOptions(
    bindings.command("forget").description("take the label off; a column that a classifier still matches by name gets it again"),
  )
    .requiredOption("--resource <name>", "of this resource")
    .option("--column <schema.table.column>", "as first seen, or as it is called now")
    .option("--entity <name>", "everything that carries this entity")
    .action((options: ForgetOptions) => forget(options, context));
}

async function list(options: ListOptions, context: CommandContext): Promise<void> {
  const limit = Number(options.limit ?? LISTED);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new UsageError("--limit is a whole number above 0.");
  const { admin } = await findInstallation(options, context);
  const answer = await admin.call("BindingService/List", {
    ...(options.resource === undefined ? {} : { resource: options.resource }),
    renamed: options.renamed === true,
    limit,
  });
  const bindings = isRecord(answer) && Array.isArray(answer["bindings"]) ? answer["bindings"].filter(isRecord) : [];
  if (options.json === true) {
    context.out(`${JSON.stringify(bindings)}\n`);
    return;
  }
  if (bindings.length === 0) {
    context.out("No column is bound.\n");
    return;
  }
  const cell = (value: unknown): string => (typeof value === "string" || typeof value === "number" ? String(value) : "-");
  const rows = bindings.map((binding) => [
    cell(binding["resource"]),
    cell(binding["database"]),
    cell(binding["entity"]),
    cell(binding["firstSeenAs"]),
    typeof binding["goneSince"] === "string" ? `gone since ${formatTime(binding["goneSince"])}` : cell(binding["seenAs"]),
    `${cell(binding["databaseOid"])}/${cell(binding["relationOid"])}/${cell(binding["columnNumber"])}`,
    cell(binding["author"]),
    formatTime(binding["since"]),
  ]);
  const header = ["resource", "database", "entity", "first seen as", "now", "oids", "by", "since"];
  context.out(`${formatTable(header, rows).join("\n")}\n`);
  const total = isRecord(answer) && typeof answer["total"] === "number" ? answer["total"] : rows.length;
  if (options.renamed !== true && total > rows.length) context.out(`${rows.length} of ${total}; --limit shows more\n`);
}

async function forget({ resource, column, entity, ...options }: ForgetOptions, context: CommandContext): Promise<void> {
  if (column === undefined && entity === undefined) throw new UsageError("Give --column, --entity or both.");
  const { admin } = await findInstallation(options, context);
  const answer = await admin.call("BindingService/Forget", {
    resource,
    ...(column === undefined ? {} : { column }),
    ...(entity === undefined ? {} : { entity }),
  });
  const forgotten = isRecord(answer) && typeof answer["forgotten"] === "number" ? answer["forgotten"] : 0;
  context.out(`${forgotten} ${forgotten === 1 ? "binding is" : "bindings are"} forgotten\n`);
}
