/** `sluice data-plane`: a gateway as a process, its records on their way over NATS. */
import { GatewayError } from "@sluice/core/errors.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { type GatewayNode, type Shipping, type ShippingParts, startGatewayNode } from "@sluice/data-plane/node.ts";
import { openNatsBus } from "@sluice/events/nats/bus.ts";
import { createMeter } from "@sluice/telemetry/meter.ts";
import { limitsOf } from "./limits.ts";
import { STARTING, startOperations, startTraces } from "./operations.ts";
import { announce, nodeOf, type PlaneOptions, type RunningPlane } from "./plane.ts";
import { startShipping } from "./shipping.ts";
import { allOrNothing } from "@sluice/core/started.ts";

export function startGatewayProcess(options: PlaneOptions): Promise<RunningPlane> {
  const { config, dataDirectory, environment, log, signal } = options;
  nodeOf(config, "data-plane");
  if (config.events.bus !== "nats") {
    throw new GatewayError("config_invalid", "A gateway of its own carries its records over NATS.", {
      hint: 'events: { bus: nats, servers: ["nats://HOST:4222"] }, the same as the recorder\'s.',
    });
  }
  const limits = limitsOf(config.limits);
  const shared = { limits, clock: systemClock, random: systemRandom, log };
  const { events } = config;
  const ship = async ({ name, identity, spool }: ShippingParts): Promise<Shipping> => {
    const bus = await openNatsBus({ ...shared, config: events, gateway: name, spoolId: spool.id, identity });
    const shipping = startShipping(spool, bus, { log, gateway: name, batchesInFlightMax: limits.busBatchesInFlightMax });
    return {
      stop: async () => {
        await shipping.stop();
        await bus.close();
      },
    };
  };
  return allOrNothing(log, async (started) => {
    const meter = createMeter();
    let serving: GatewayNode | undefined;
    // Before anything else: a gateway that waits for its first policy is alive, and not ready.
    const operations = await startOperations(started, { config, meter, notReady: () => serving?.notReady() ?? STARTING, log });
    const traces = await startTraces(started, config, "gateway");
    const node = await startGatewayNode({ ...shared, config, dataDirectory, environment, signal, ship, meter, traces });
    serving = node;
    started.add("gateway", async () => {
      await node.drain();
      await node.close();
    });
    await announce(started, options.readyFile, {
      plane: "gateway",
      node: config.node?.name,
      ...node.ready,
      ...operations,
    });
    return { greeting: node.ready.listeners.map(({ protocol, address }) => `Sluice serves ${protocol} on ${address}.`) };
  });
}
