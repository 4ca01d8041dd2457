/** Replaces a file as a whole: after a crash there is the former content or the new one, never a part of it. */
import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/** For this user alone (0600). */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const draft = `${path}.new`;
  {
    await using file = await open(draft, "w", 0o600);
    await file.writeFile(bytes);
    await file.sync();
  }
  await rename(draft, path);
  await using directory = await open(dirname(path), "r");
  await directory.sync();
}
