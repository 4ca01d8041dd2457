/**
 * The composition root: all four planes in one process. The only place that imports planes; each knows the others only by the
 * interfaces it is handed here. Later these calls become separate mains, and the interfaces become wires.
 */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createCoLocatedAgent } from "@sluice/agent/link.ts";
import { startControlPlane } from "@sluice/control-plane/control-plane.ts";
import type { ControlPlane, ManifestFile } from "@sluice/control-plane/interface.ts";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Config } from "@sluice/core/config.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { type Gateway, startGateway } from "@sluice/data-plane/gateway.ts";
import { createEmbeddedBus } from "@sluice/events/embedded-bus.ts";
import { openFileSpool } from "@sluice/events/spool/file-spool.ts";
import { openRecorder } from "@sluice/recorder/recorder.ts";
import type { Logger } from "pino";
import { type ReadyFile, writeReadyFile } from "../ready-file.ts";
import { limitsOf } from "./limits.ts";
import { keepShipping } from "./shipping.ts";

export interface StartOptions {
  readonly config: Config;
  /** Absolute; made when absent. */
  readonly dataDirectory: string;
  /** Written once everything serves; none is written when absent. */
  readonly readyFile?: string;
  readonly manifestFiles: readonly ManifestFile[];
  /** Where the agent finds credentials of source `env`. */
  readonly environment: (name: string) => string | undefined;
  readonly log: Logger;
}

export interface Installation {
  readonly ready: ReadyFile;
  /** Drains, then stops every part in the reverse order of starting. Safe to call twice. */
  stop(): Promise<void>;
}

/** What was started, in order; stopped in reverse. */
type Started = { readonly name: string; readonly stop: () => Promise<void> | void }[];

/** Records still in the spool are offered to the recorder this long after the last session; the rest waits for the next start. Milliseconds. */
const SHIP_TIMEOUT_MS = 2_000;

/** Starts everything, or nothing: what had started is stopped again when a later part throws. */
export async function startAll(options: StartOptions): Promise<Installation> {
  const started: Started = [];
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= stopInReverse(started, options.log);
    return stopping;
  };
  try {
    return { ready: await start(options, started), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(options: StartOptions, started: Started): Promise<ReadyFile> {
  const { config, dataDirectory, log } = options;
  const limits = limitsOf(config.limits);
  const shared = { limits, clock: systemClock, random: systemRandom };
  const plane = (name: string): Logger => log.child({ plane: name });

  const spool = await openFileSpool({ directory: join(dataDirectory, "spool"), limits, log: plane("gateway") });
  started.push({ name: "spool", stop: () => spool.close() });
  const bus = createEmbeddedBus();
  started.push({ name: "bus", stop: () => bus.close() });
  const recorder = await openRecorder({ directory: config.recorder.directory, clock: systemClock, log: plane("recorder") });
  started.push({ name: "recorder", stop: () => recorder.close() });
  bus.subscribe(recorder.consumer, { durable: true });

  let gateway: Gateway | undefined;
  const controlPlane = await startControlPlane({
    ...shared,
    config,
    dataDirectory,
    manifestFiles: options.manifestFiles,
    log: plane("control-plane"),
    explainer: () => {
      if (gateway === undefined) throw new Error("the gateway has not started yet");
      return gateway.explainer;
    },
    recordings: recorder.reader,
  });
  started.push({ name: "control plane", stop: () => controlPlane.close() });
  bus.subscribe(controlPlane.sessionIndex, { durable: true });

  const shipping = new AbortController();
  const shipped = keepShipping(spool, bus, { signal: shipping.signal, log: plane("gateway") });
  started.push({
    name: "shipping",
    stop: async () => {
      const drained = spool.drained().catch(() => undefined); // what is left is offered after the next start
      await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, SHIP_TIMEOUT_MS).unref())]);
      shipping.abort();
      await shipped;
    },
  });

  const agentLink = createCoLocatedAgent({
    ...shared,
    bindings: config.agent.secrets,
    readEnvironment: options.environment,
    log: plane("agent"),
  });
  started.push({ name: "agent", stop: () => agentLink.close() });
  const serving = await startGateway({
    ...shared,
    config: config.dataPlane,
    certificate: certificateOf(config, controlPlane),
    snapshots: controlPlane.snapshots,
    agentLink,
    spool,
    log: plane("gateway"),
  });
  gateway = serving;
  started.push({
    name: "gateway",
    stop: async () => {
      await serving.drain();
      await serving.close();
    },
  });

  const ready: ReadyFile = {
    admin: controlPlane.adminUrl,
    adminToken: controlPlane.adminToken,
    caFile: controlPlane.caFile,
    listeners: serving.listeners,
    ...(controlPlane.issuerUrl === undefined ? {} : { issuer: controlPlane.issuerUrl }),
    pid: process.pid,
  };
  if (options.readyFile !== undefined) {
    const path = options.readyFile;
    await writeReadyFile(path, ready);
    started.push({ name: "ready file", stop: () => removeOwnReadyFile(path) });
  }
  return ready;
}

function certificateOf(config: Config, controlPlane: ControlPlane): { certFile: string; keyFile: string } | null {
  const { tls } = config.dataPlane;
  switch (tls.mode) {
    case "self-signed":
      return controlPlane.gatewayCertificate;
    case "files":
      return { certFile: tls.certFile, keyFile: tls.keyFile };
    case "plaintext-loopback":
      return null;
    default:
      return assertNever(tls);
  }
}

async function stopInReverse(started: Started, log: Logger): Promise<void> {
  for (const part of started.splice(0).reverse()) {
    try {
      await part.stop();
    } catch (error) {
      log.error({ err: error, part: part.name }, "a part did not stop cleanly");
    }
  }
}

/** A later installation may have written its own ready file to the same place: that one stays. */
async function removeOwnReadyFile(path: string): Promise<void> {
  const text = await readFile(path, "utf8").catch(() => "");
  if (text.includes(`"pid": ${process.pid}`) || text.includes(`"pid":${process.pid}`)) await rm(path, { force: true });
}
