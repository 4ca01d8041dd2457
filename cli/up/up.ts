/**
 * The composition root: all four planes in one process. The only place that imports planes; each knows the others only by the
 * interfaces it is handed here. Later these calls become separate mains, and the interfaces become wires.
 */
import { join } from "node:path";
import { createCoLocatedAgent } from "@sluice/agent/link.ts";
import { startControlPlane } from "@sluice/control-plane/control-plane.ts";
import { openSealingKey } from "@sluice/agent/secrets/sealing-key.ts";
import type { ControlPlane, ManifestFile } from "@sluice/control-plane/interface.ts";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Config } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { type Gateway, startGateway } from "@sluice/data-plane/gateway.ts";
import { createEmbeddedBus } from "@sluice/events/embedded-bus.ts";
import { openFileSpool } from "@sluice/events/spool/file-spool.ts";
import { openRecorder } from "@sluice/recorder/recorder.ts";
import { createGatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import { createMeter } from "@sluice/telemetry/meter.ts";
import type { Logger } from "pino";
import { STARTING, startOperations, startTraces } from "../planes/operations.ts";
import { announce } from "../planes/plane.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";
import type { ReadyFile } from "../ready-file.ts";
import { limitsOf } from "../planes/limits.ts";
import { startShipping } from "../planes/shipping.ts";

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

/** Starts everything, or nothing: what had started is stopped again when a later part throws. */
export function startAll(options: StartOptions): Promise<Installation> {
  return allOrNothing(options.log, async (started) => ({ ready: await start(options, started) }));
}

async function start(options: StartOptions, started: Started): Promise<ReadyFile> {
  const { config, dataDirectory, log } = options;
  const limits = limitsOf(config.limits);
  const shared = { limits, clock: systemClock, random: systemRandom };
  const plane = (name: string): Logger => log.child({ plane: name });

  const meter = createMeter();
  let notReady: (() => Promise<readonly string[]>) | undefined;
  const operations = await startOperations(started, { config, meter, notReady: () => notReady?.() ?? STARTING, log });
  const traces = await startTraces(started, config, "gateway");
  const spool = await openFileSpool({ directory: join(dataDirectory, "spool"), limits, log: plane("gateway") });
  started.add("spool", () => spool.close());
  const bus = createEmbeddedBus();
  started.add("bus", () => bus.close());
  const recorder = await openRecorder({ directory: config.recorder.directory, clock: systemClock, log: plane("recorder") });
  started.add("recorder", () => recorder.close());
  bus.subscribe(recorder.consumer, { durable: true });

  const sealingKey = await openSealingKey(join(dataDirectory, "sealing"));
  let gateway: Gateway | undefined;
  const controlPlane = await startControlPlane({
    ...shared,
    config,
    dataDirectory,
    manifestFiles: options.manifestFiles,
    readEnvironment: options.environment,
    sealingKey: sealingKey.publicJwk,
    log: plane("control-plane"),
    explainer: () => {
      if (gateway === undefined) throw new Error("the gateway has not started yet");
      return gateway.explainer;
    },
    recordings: recorder.reader,
    meter,
  });
  started.add("control plane", () => controlPlane.close());
  bus.subscribe(controlPlane.sessionIndex, { durable: true });

  const shipping = startShipping(spool, bus, { log: plane("gateway") });
  started.add("shipping", () => shipping.stop());

  const agentLink = createCoLocatedAgent({
    ...shared,
    config: config.agent,
    sealingKey,
    readEnvironment: options.environment,
    log: plane("agent"),
  });
  started.add("agent", () => agentLink.close());
  const metrics = createGatewayMetrics(meter, {
    sessions: () => gateway?.sessions ?? 0,
    spoolBytes: () => spool.end - spool.start,
    leaseSeconds: () => Number.POSITIVE_INFINITY, // the control plane is in this process
    snapshotSequence: () => controlPlane.snapshotSequence(),
    controlPlanes: () => 1,
    agentSessions: () => [],
    draining: () => gateway?.draining ?? false,
    catalogAges: () => gateway?.catalogAges ?? [],
    bindingsPending: () => gateway?.bindingsPending ?? 0,
    analysesWaiting: () => gateway?.analysesWaiting ?? 0,
  });
  const serving = await startGateway({
    ...shared,
    config: config.dataPlane,
    certificate: certificateOf(config, controlPlane),
    snapshots: controlPlane.snapshots,
    agentLink,
    bindings: {
      report: (report) => {
        // Said again until a snapshot has it.
        controlPlane
          .takeBindings({ name: "gateway", labels: {} }, report)
          .catch((error: unknown) => log.warn({ err: error }, "labelled columns could not be kept yet"));
      },
    },
    spool,
    metrics,
    traces,
    log: plane("gateway"),
  });
  gateway = serving;
  const stopEnding = controlPlane.onEndSession(({ sessionId, reason }) => {
    serving.endSession(sessionId, new GatewayError("killed", reason, { hint: "Ask the platform team." }));
  });
  started.add("ending sessions", stopEnding);
  started.add("gateway", async () => {
    await serving.drain();
    await serving.close();
  });

  notReady = async () => [
    ...((await controlPlane.ready()) ? [] : ["the store does not answer"]),
    ...(serving.draining ? ["draining"] : []),
    ...(spool.failure === null ? [] : ["the spool has failed"]),
  ];

  const ready: ReadyFile = {
    admin: controlPlane.adminUrl,
    adminToken: controlPlane.adminToken,
    caFile: controlPlane.caFile,
    listeners: serving.listeners,
    ...(controlPlane.issuerUrl === undefined ? {} : { issuer: controlPlane.issuerUrl }),
    pid: process.pid,
  };
  if (options.readyFile !== undefined) await announce(started, options.readyFile, { ...ready, ...operations });
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
