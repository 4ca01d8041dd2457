/** What every plane's process takes and gives, and the file that says that it serves. */
import { readFile, rm } from "node:fs/promises";
import type { Config, NodeConfig } from "@sluice/core/config.ts";
import type { ManifestFile } from "@sluice/control-plane/interface.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Logger } from "pino";
import { writePrivateJson } from "../ready-file.ts";
import type { Started } from "@sluice/core/started.ts";

export interface PlaneOptions {
  readonly config: Config;
  readonly manifestFiles: readonly ManifestFile[];
  /** Absolute; made when absent. */
  readonly dataDirectory: string;
  readonly readyFile: string;
  readonly environment: (name: string) => string | undefined;
  readonly log: Logger;
  /** Aborts when a signal came while it still starts: waiting for a control plane must not hold it up. */
  readonly signal: AbortSignal;
}

export interface RunningPlane {
  /** For whoever started it by hand. */
  readonly greeting: readonly string[];
  /** Drains, then stops every part in the reverse order of starting. Safe to call twice. */
  stop(): Promise<void>;
}

/** The section that every process but a control plane needs. Throws `config_invalid`. */
export function nodeOf(config: Config, command: string): NodeConfig {
  if (config.node !== null) return config.node;
  throw new GatewayError("config_invalid", `sluice ${command} needs the section \`node\` in its configuration.`, {
    hint: "node: { name: NAME, controlPlanes: [HOST:PORT], join: { tokenFile: FILE } }; `sluice nodes join-token create` makes a token.",
  });
}

/** Writes the ready file and sees to it that it goes with the process. */
export async function announce(started: Started, file: string, ready: Readonly<Record<string, unknown>>): Promise<void> {
  await writePrivateJson(file, { ...ready, pid: process.pid });
  started.add("ready file", () => removeOwnReadyFile(file));
}

/** A later process may have written its own ready file to the same place: that one stays. */
async function removeOwnReadyFile(file: string): Promise<void> {
  const text = await readFile(file, "utf8").catch(() => "");
  if (text.includes(`"pid": ${process.pid}\n`) || text.includes(`"pid": ${process.pid},`)) await rm(file, { force: true });
}
