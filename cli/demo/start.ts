/**
 * `npm start`: a demo database of its own, Sluice in front of it, and a walk-through. It must end everything it has started,
 * in whatever order that goes wrong, and never touch a database it did not start.
 */
import { randomBytes } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { type Cluster, startCluster } from "@sluice/control-plane/store/embedded-postgres.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { createAdminClient } from "../admin-client.ts";
import { listenerOf } from "../commands/psql.ts";
import { stopTimeoutMs, stopWithin } from "../commands/up.ts";
import { loadConfig } from "../config-file.ts";
import type { CommandContext } from "../context.ts";
import { readAuthority } from "../installation.ts";
import { createLog } from "../log.ts";
import { isAlive, readReadyFile } from "../ready-file.ts";
import { type Installation, startAll } from "../up/up.ts";
import { DEMO_PASSWORD_VARIABLE, demoFiles } from "./declarations.ts";
import { DEMO_DATABASE, DEMO_ROLE, seedDemo } from "./seed.ts";
import { walkThroughText } from "./walk-through.ts";

export interface DemoOptions {
  /** Absolute. Everything the demo keeps is below it. */
  readonly directory: string;
  /** True when `directory` is where every command looks by itself. */
  readonly isDefaultDirectory: boolean;
}

/** Easy to remember, and seldom taken. */
const PREFERRED_PORT = 6_543;

interface Places {
  readonly readyFile: string;
  readonly logFile: string;
  readonly files: string;
}

/** Runs until a signal; resolves when everything has ended. Throws GatewayError when it cannot start. */
export async function runDemo(options: DemoOptions, context: CommandContext): Promise<void> {
  const places: Places = {
    readyFile: path.join(options.directory, "ready.json"),
    logFile: path.join(options.directory, "demo", "sluice.log"),
    files: path.join(options.directory, "demo"),
  };
  const stop = new AbortController();
  const stopped = context.stopRequested().then(() => stop.abort());
  await refuseSecondStart(places.readyFile);
  const started: (() => Promise<void>)[] = [];
  try {
    await start(options, places, context, started, stop.signal);
    await stopped;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    context.out("\nStopping ...\n");
    await stopWithin(
      async () => {
        for (const end of started.reverse()) await end();
      },
      stopTimeoutMs({ limits: {} }),
    );
    context.out("Everything has ended.\n");
  }
}

async function start(
  options: DemoOptions,
  places: Places,
  context: CommandContext,
  started: (() => Promise<void>)[],
  signal: AbortSignal,
): Promise<void> {
  const startedAt = performance.now();
  const say = (text: string): void =>
    context.out(`${((performance.now() - startedAt) / 1000).toFixed(1).padStart(6)} s  ${text}\n`);
  await mkdir(places.files, { recursive: true });
  await rename(places.logFile, `${places.logFile}.1`).catch(() => undefined); // none yet at the first start
  const log = createLog(context.environment("SLUICE_LOG_LEVEL"), places.logFile);

  say("starting the demo database (PostgreSQL, bundled)");
  const cluster = await startCluster({ directory: path.join(options.directory, "demo-target"), name: "demo", log });
  started.push(() => cluster.stop());
  signal.throwIfAborted();

  const password = randomBytes(24).toString("base64url");
  const seeded = await seedDemo(cluster, password);
  say(seeded.made ? `${seeded.rows} rows of made-up customers, cards and orders written` : "the demo data is there already");
  signal.throwIfAborted();

  say("starting Sluice: control plane, agent, gateway, recorder");
  const installation = await startSluice(options, places, context, cluster, password, log);
  started.push(() => installation.stop());
  signal.throwIfAborted();
  void cluster.ended.then(() => {
    if (!signal.aborted) context.err("The demo database has ended by itself. Stop with Ctrl-C and start again.\n");
  });

  say(`ready (log: ${path.relative(context.workingDirectory, places.logFile)})`);
  const { host, port } = listenerOf(installation.ready);
  const readyFile = options.isDefaultDirectory ? undefined : places.readyFile;
  context.out(walkThroughText({ host, port, caFile: installation.ready.caFile, readyFile }));
}

async function startSluice(
  options: DemoOptions,
  places: Places,
  context: CommandContext,
  cluster: Cluster,
  password: string,
  log: Parameters<typeof startAll>[0]["log"],
): Promise<Installation> {
  const listener = (await isFree(PREFERRED_PORT)) ? PREFERRED_PORT : 0;
  await writeFiles(places.files, demoFiles({ listener, target: cluster.port }, DEMO_DATABASE, DEMO_ROLE));
  const dataDirectory = path.join(options.directory, "data");
  const loaded = await loadConfig(path.join(places.files, "config.yaml"), dataDirectory, context.workingDirectory);
  return startAll({
    config: loaded.config,
    dataDirectory,
    readyFile: places.readyFile,
    manifestFiles: loaded.manifestFiles,
    environment: (name) => (name === DEMO_PASSWORD_VARIABLE ? password : context.environment(name)),
    log,
  });
}

/** Files of an earlier version that are no longer written would be read with the others: the folder is made anew. */
async function writeFiles(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  await rm(path.join(folder, "manifests"), { recursive: true, force: true });
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
  }
}

/** Two demos on one directory would share a database's files. The pid alone may have been given to another process since. */
async function refuseSecondStart(readyFile: string): Promise<void> {
  const ready = await readReadyFile(readyFile).catch(() => undefined);
  if (ready === undefined || !isAlive(ready.pid)) return;
  const admin = createAdminClient({
    url: ready.admin,
    token: ready.adminToken,
    ca: await readAuthority(ready.caFile).catch(() => ""),
    unreachableHint: "",
  });
  const answers = await admin.call("SessionService/List", {}).then(
    () => true,
    () => false,
  );
  if (!answers) return;
  throw new GatewayError("config_invalid", `Sluice is running here already (process ${ready.pid}).`, {
    hint: "Use it, stop it with Ctrl-C, or start another with: npm start -- --data-dir DIRECTORY",
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
