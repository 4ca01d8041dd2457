/**
 * Reads the installation's `Config` file and the manifests it names. It only reads text: shapes and faults belong to
 * `manifest/`. Every fault is reported at once, each with file and line.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { Config } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { parseConfig } from "@sluice/manifest/config.ts";
import { type ManifestFile, readManifestFiles } from "./manifest-files.ts";

export interface LoadedConfig {
  readonly config: Config;
  readonly manifestFiles: readonly ManifestFile[];
}

/**
 * Takes paths as given on the command line, resolved against `base`. Throws GatewayError `config_invalid` whose message lists
 * every fault on a line of its own.
 */
export async function loadConfig(file: string, dataDirectory: string, base: string): Promise<LoadedConfig> {
  const config = await loadConfigAlone(file, dataDirectory, base);
  // A new installation may have nothing to declare yet: it starts, and refuses everything.
  const paths = config.manifests.map((manifest) => shownFrom(base, manifest));
  return { config, manifestFiles: await readManifestFiles(paths, base, { mayBeEmpty: true }) };
}

/** The same without the manifests, for what is done to a store by hand: they may be elsewhere. */
export async function loadConfigAlone(file: string, dataDirectory: string, base: string): Promise<Config> {
  const absolute = path.resolve(base, file);
  const text = await readFile(absolute, "utf8").catch((error: unknown) => {
    throw new GatewayError("config_invalid", `The configuration file ${file} does not exist or may not be read.`, {
      cause: error,
    });
  });
  const parsed = parseConfig({ path: file, text }, { configDirectory: path.dirname(absolute), dataDirectory });
  if (parsed.config === undefined || parsed.faults.length > 0) {
    const faults = parsed.faults.map((fault) => `${fault.file}:${fault.line}: ${fault.message}`);
    throw new GatewayError("config_invalid", `the configuration has faults:\n${faults.join("\n")}`, {
      hint: "docs/reference/configuration.md shows a valid one.",
    });
  }
  return parsed.config;
}

/** Relative where that is shorter to read in a message. */
function shownFrom(base: string, absolute: string): string {
  const relative = path.relative(base, absolute);
  return relative === "" || relative.startsWith("..") ? absolute : relative;
}
