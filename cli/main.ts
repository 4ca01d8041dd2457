/** Entry of the `sluice` command: gives the process' streams, environment and signals to the commands, and ends with their status. */
import { createProcessContext, endProcess } from "./process-context.ts";
import { runCli } from "./program.ts";

endProcess(await runCli(process.argv.slice(2), createProcessContext()));
