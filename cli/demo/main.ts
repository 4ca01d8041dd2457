/** Entry of `npm start`. `--data-dir DIRECTORY` keeps everything elsewhere than in `.sluice`. */
import path from "node:path";
import { Command, CommanderError } from "commander";
import { describeFailure } from "../output/failure.ts";
import { createProcessContext, endProcess } from "../process-context.ts";
import { runDemo } from "./start.ts";

const DEFAULT_DIRECTORY = ".sluice";

endProcess(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  const context = createProcessContext();
  const command = new Command("npm start --")
    .description("Sluice in front of a demo database, on this machine only.")
    .option("--data-dir <directory>", "where everything is kept", DEFAULT_DIRECTORY)
    .exitOverride()
    .action(async (options: { readonly dataDir: string }) => {
      const directory = path.resolve(context.workingDirectory, options.dataDir);
      const isDefaultDirectory = directory === path.resolve(context.workingDirectory, DEFAULT_DIRECTORY);
      await runDemo({ directory, isDefaultDirectory }, context);
    });
  try {
    await command.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const failure = describeFailure(error);
    for (const line of failure.lines) context.err(`${line}\n`);
    return failure.status;
  }
}
