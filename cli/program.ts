/**
 * The command line: which commands there are. Each is a file in `commands/`. It must never read the process or end it:
 * main.ts does, with what `runCli` returns.
 */
import { Command, CommanderError } from "commander";
import { addApplyCommand } from "./commands/apply.ts";
import { addConnectCommand } from "./commands/connect.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addManifestsCommand } from "./commands/manifests.ts";
import { addNodesCommands } from "./commands/nodes.ts";
import { addPlaneCommands } from "./commands/planes.ts";
import { addPolicyCommand } from "./commands/policy.ts";
import { addBindingsCommand } from "./commands/bindings.ts";
import { addPrincipalsCommand } from "./commands/principals.ts";
import { addPsqlCommand } from "./commands/psql.ts";
import { addRecordingsCommand } from "./commands/recordings.ts";
import { addRotateSealingKeyCommand, addSealCommand } from "./commands/seal.ts";
import { addSessionsCommand } from "./commands/sessions.ts";
import { addStoreCommands } from "./commands/store.ts";
import { addTokenCommand } from "./commands/token.ts";
import { addUpCommand } from "./commands/up.ts";
import type { CommandContext } from "./context.ts";
import { describeFailure } from "./output/failure.ts";

/** Runs one command line (without program names). Resolves with the exit status: 0 done, 1 refused or failed, 2 wrong usage. */
export async function runCli(args: readonly string[], context: CommandContext): Promise<number> {
  const program = buildProgram(context);
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    // Help and version end here too, with 0; every other fault that commander finds is wrong usage and already printed.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const failure = describeFailure(error);
    for (const line of failure.lines) context.err(`${line}\n`);
    return failure.status;
  }
}

function buildProgram(context: CommandContext): Command {
  const program = new Command("sluice")
    .description("Identity-aware gateway for databases: decides, masks, records.")
    .version("0.1.0")
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({ writeOut: context.out, writeErr: context.err });
  addUpCommand(program, context);
  addPlaneCommands(program, context);
  addApplyCommand(program, context);
  addManifestsCommand(program, context);
  addTokenCommand(program, context);
  addPolicyCommand(program, context);
  addSessionsCommand(program, context);
  addRecordingsCommand(program, context);
  addConnectCommand(program, context);
  addPsqlCommand(program, context);
  addNodesCommands(program, context);
  addStoreCommands(program, context);
  addPrincipalsCommand(program, context);
  addBindingsCommand(program, context);
  addSealCommand(program, context);
  addRotateSealingKeyCommand(program, context);
  addDoctorCommand(program, context);
  return program;
}
