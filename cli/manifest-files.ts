/**
 * Reads manifests from files and directories, in a fixed order. It only reads text: parsing and faults belong to `manifest/`.
 * It must never take more than the admin API accepts in one message.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";

export interface ManifestFile {
  /** As it appears in messages about faults. */
  readonly path: string;
  readonly text: string;
}

/** Folders deeper than this are a mistake (a link in a circle, the root of a disk). */
const DEPTH_MAX = 16;

/**
 * Takes files and directories (searched for .yaml and .yml, sorted by name, hidden ones left out). Paths are resolved against
 * `base`, and shown as given. Throws GatewayError `config_invalid` with a sentence when a path is missing or, unless `mayBeEmpty`, nothing is found.
 */
export async function readManifestFiles(
  paths: readonly string[],
  base: string,
  options: { readonly mayBeEmpty?: boolean } = {},
): Promise<readonly ManifestFile[]> {
  const files: ManifestFile[] = [];
  const seen = new Set<string>();
  let bytes = 0;
  for (const given of paths) {
    const found = await listFiles(given, base, 0);
    if (found.length === 0 && options.mayBeEmpty !== true)
      throw new GatewayError("config_invalid", `${given} holds no .yaml or .yml file.`);
    for (const file of found) {
      const absolute = path.resolve(base, file);
      if (seen.has(absolute)) continue;
      seen.add(absolute);
      bytes += (await stat(absolute)).size;
      if (bytes > defaultLimits.adminBodyBytesMax) {
        throw new GatewayError(
          "config_invalid",
          `The manifests are larger than ${defaultLimits.adminBodyBytesMax} bytes together.`,
          {
            hint: "Is the path right? Apply them in several steps otherwise.",
          },
        );
      }
      files.push({ path: file, text: await readFile(absolute, "utf8") });
    }
  }
  return files;
}

async function listFiles(given: string, base: string, depth: number): Promise<readonly string[]> {
  const absolute = path.resolve(base, given);
  const found = await stat(absolute).catch((error: unknown) => {
    throw new GatewayError("config_invalid", `${given} does not exist or may not be read.`, { cause: error });
  });
  if (!found.isDirectory()) return [given];
  if (depth >= DEPTH_MAX) throw new GatewayError("config_invalid", `${given} is nested deeper than ${DEPTH_MAX} folders.`);
  const entries = (await readdir(absolute, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  const files: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith(".")) continue;
    const child = path.join(given, entry.name);
    if (entry.isDirectory()) files.push(...(await listFiles(child, base, depth + 1)));
    else if (/\.ya?ml$/.test(entry.name)) files.push(child);
  }
  return files;
}
