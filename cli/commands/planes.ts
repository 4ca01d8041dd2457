/**
 * `sluice control-plane | data-plane | agent | recorder`: one plane as a process of its own, until a signal. The same Config kind as
 * `sluice up`; sections of other planes may stand in the file and are ignored.
 */
import path from "node:path";
import type { Command } from "commander";
import type { CommandContext } from "../context.ts";
import { DEFAULT_READY_FILE } from "../installation.ts";
import { createLog } from "../log.ts";
import type { PlaneOptions, RunningPlane } from "../planes/plane.ts";
import { stopTimeoutMs, stopWithin } from "./up.ts";

interface Options {
  readonly config: string;
  readonly dataDir: string;
  readonly readyFile: string;
}

interface Plane {
  readonly name: string;
  readonly description: string;
  readonly load: () => Promise<(options: PlaneOptions) => Promise<RunningPlane>>;
}

/** Loaded only when they run: every other command stays quick to start. */
const planes: readonly Plane[] = [
  {
    name: "control-plane",
    description: "run a control plane: policies, identities, admin API; any number on one store",
    load: async () => (await import("../planes/control-plane.ts")).startControlPlaneProcess,
  },
  {
    name: "data-plane",
    description: "run a gateway that callers connect to",
    load: async () => (await import("../planes/data-plane.ts")).startGatewayProcess,
  },
  {
    name: "agent",
    description: "run an agent beside the targets: it alone holds their secrets and dials out to gateways",
    load: async () => (await import("../planes/agent.ts")).startAgentProcess,
  },
  {
    name: "recorder",
    description: "run the recorder: takes session records from NATS and keeps recordings",
    load: async () => (await import("../planes/recorder.ts")).startRecorderProcess,
  },
];

export function addPlaneCommands(program: Command, context: CommandContext): void {
  for (const plane of planes) {
    program
      .command(plane.name)
      .description(plane.description)
      .requiredOption("--config <file>", "the Config file of this process")
      .option("--data-dir <directory>", "where what must survive a restart is kept", `.sluice/${plane.name}`)
      .option("--ready-file <file>", "written (mode 0600) once it serves", DEFAULT_READY_FILE)
      .action((options: Options) => run(plane, options, context));
  }
}

async function run(plane: Plane, options: Options, context: CommandContext): Promise<void> {
  const stopRequested = context.stopRequested();
  const dataDirectory = path.resolve(context.workingDirectory, options.dataDir);
  const { loadConfig } = await import("../config-file.ts");
  const { config, manifestFiles } = await loadConfig(options.config, dataDirectory, context.workingDirectory);
  const { lockDirectory } = await import("@sluice/events/directory-lock.ts");
  const start = await plane.load();
  // Two of them would take each other's identity, links and files, over and over.
  const lock = await lockDirectory(dataDirectory, "data");
  try {
    const stopping = new AbortController();
    void stopRequested.then(() => stopping.abort());
    const running = await start({
      config,
      manifestFiles,
      dataDirectory,
      readyFile: path.resolve(context.workingDirectory, options.readyFile),
      environment: context.environment,
      log: createLog(context.environment("SLUICE_LOG_LEVEL")).child({ plane: plane.name }),
      signal: stopping.signal,
    });
    for (const line of running.greeting) context.err(`${line}\n`);
    await stopRequested;
    await stopWithin(() => running.stop(), stopTimeoutMs(config));
  } finally {
    lock.release();
  }
}
