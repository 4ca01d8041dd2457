/** Keeps the port of a server that may take any, so that its address stays the same over restarts while the port is free. */
import { join } from "node:path";
import { readFileIfAny, writePrivateFile } from "./ca/private-files.ts";

/** The port kept in `directory`; 0 (any) when there is none or it makes no sense. */
export async function rememberedPort(directory: string): Promise<number> {
  const port = Number((await readFileIfAny(join(directory, "port"))) ?? "0");
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : 0;
}

export async function rememberPort(directory: string, port: number): Promise<void> {
  await writePrivateFile(join(directory, "port"), `${port}\n`);
}
