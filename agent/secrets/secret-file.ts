/** Files that hold one secret. Read afresh at each use. Never puts what they hold into an error. */
import { open } from "node:fs/promises";
import { normalize } from "node:path";

export class UnusableFile extends Error {
  readonly reason: "unusable" | "unreadable";

  constructor(reason: "unusable" | "unreadable", cause?: unknown) {
    super(`the file is ${reason}`, cause === undefined ? undefined : { cause });
    this.name = "UnusableFile";
    this.reason = reason;
  }
}

/** Without the one line end that editors and `echo` add; undefined when there is no such file. Throws UnusableFile. */
export async function readSecretFile(path: string, bytesMax: number): Promise<string | undefined> {
  try {
    // The path that was compared with the binding, and no other: "link/../name" is somewhere else for the kernel.
    await using file = await open(normalize(path), "r");
    const state = await file.stat();
    if (!state.isFile() || state.size > bytesMax) throw new UnusableFile("unusable");
    return (await file.readFile("utf8")).replace(/\r?\n$/, "");
  } catch (cause) {
    if (cause instanceof UnusableFile) throw cause;
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined; // what fs rejects with
    throw new UnusableFile("unreadable", cause);
  }
}
