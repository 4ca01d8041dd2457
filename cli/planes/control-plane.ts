/** `sluice control-plane`: a control plane as a process; any number of them share one store. */
import { type ControlPlane, startControlPlane } from "@sluice/control-plane/control-plane.ts";
import type { Config } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { consumeSessions } from "@sluice/events/nats/sessions.ts";
import { createMeter } from "@sluice/telemetry/meter.ts";
import { limitsOf } from "./limits.ts";
import { STARTING, startOperations } from "./operations.ts";
import { announce, type PlaneOptions, type RunningPlane } from "./plane.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";

export function startControlPlaneProcess(options: PlaneOptions): Promise<RunningPlane> {
  const { config, dataDirectory, log, manifestFiles } = options;
  requireSections(config);
  const shared = { limits: limitsOf(config.limits), clock: systemClock, random: systemRandom, log };
  return allOrNothing(log, async (started) => {
    const meter = createMeter();
    let ready: (() => Promise<readonly string[]>) | undefined;
    const operations = await startOperations(started, { config, meter, notReady: () => ready?.() ?? STARTING, log });
    const controlPlane = await startControlPlane({
      ...shared,
      config,
      dataDirectory,
      manifestFiles,
      readEnvironment: options.environment,
      explainer: null,
      recordings: null,
      meter,
    });
    started.add("control plane", () => controlPlane.close());
    const index = await startIndex(started, controlPlane, options, shared);
    ready = async () => [
      ...((await controlPlane.ready()) ? [] : ["the store does not answer"]),
      ...(index.connected ? [] : ["NATS is not connected: the index of sessions stands still"]),
    ];
    await announce(started, options.readyFile, {
      plane: "control-plane",
      admin: controlPlane.adminUrl,
      adminToken: controlPlane.adminToken,
      caFile: controlPlane.caFile,
      nodes: controlPlane.nodesAddress,
      ...(controlPlane.issuerUrl === undefined ? {} : { issuer: controlPlane.issuerUrl }),
      listeners: [],
      ...operations,
    });
    return { greeting: [`Admin API: ${controlPlane.adminUrl}`, `Nodes join at ${controlPlane.nodesAddress}.`] };
  });
}

/** What tells the control plane of sessions: beginnings, counts and ends, never a statement. */
async function startIndex(
  started: Started,
  controlPlane: ControlPlane,
  { config }: PlaneOptions,
  shared: Pick<Parameters<typeof consumeSessions>[0], "limits" | "clock" | "random" | "log">,
): Promise<{ readonly connected: boolean }> {
  const { nodeIdentity: identity, sessionIndex } = controlPlane;
  if (config.events.bus !== "nats" || identity === null) throw new Error("checked before anything was started");
  const consumption = await consumeSessions({
    ...shared,
    config: config.events,
    name: identity.self.name,
    identity,
    consumer: {
      name: sessionIndex.name,
      consume: async (records, details) => {
        const source = details?.source;
        await (source === undefined ? sessionIndex.consume(records) : sessionIndex.consumeFrom(source, records));
      },
    },
  });
  started.add("index of sessions", () => consumption.close());
  return consumption;
}

function requireSections(config: Config): void {
  if (config.controlPlane.nodes === null) {
    throw new GatewayError(
      "config_invalid",
      "A control plane of its own needs `controlPlane.nodes`: other processes join there.",
      {
        hint: 'controlPlane: { nodes: { listen: "HOST:PORT" } }',
      },
    );
  }
  if (config.events.bus !== "nats") {
    throw new GatewayError("config_invalid", "A control plane of its own learns of sessions over NATS.", {
      hint: 'events: { bus: nats, servers: ["nats://HOST:4222"] }, the same as the recorder\'s.',
    });
  }
}
