/**
 * Files that only this user may read, written so that a crash leaves the old content or the new one, never half of one. Must
 * never follow a name that a stranger could have placed: the directories are the installation's own, mode 0700.
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";

export interface PrivateFileOptions {
  /** Permission bits; 0o600 unless the content is public. */
  readonly mode?: number;
}

/** Writes text to a temporary name beside `path`, makes it durable, then renames. The directory is made when missing (0700). */
export async function writePrivateFile(path: string, text: string, { mode = 0o600 }: PrivateFileOptions = {}): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", mode);
  try {
    await file.chmod(mode); // a left-over of a crash may have had other bits
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/** The file's text, or undefined when there is no such file. Other faults reject. */
export async function readFileIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined; // thrown by node:fs, which sets a code
    throw error;
  }
}
