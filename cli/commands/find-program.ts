/** Finds a program on the PATH, as a shell would. */
import { access, constants } from "node:fs/promises";
import path from "node:path";
import type { CommandContext } from "../context.ts";

/** Absolute path of the program, or undefined when it is not there. */
export async function findProgram(name: string, context: Pick<CommandContext, "environment">): Promise<string | undefined> {
  for (const folder of (context.environment("PATH") ?? "").split(path.delimiter)) {
    if (folder === "") continue;
    const candidate = path.join(folder, name);
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  return undefined;
}
