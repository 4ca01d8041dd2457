/** `sluice recorder`: the recorder as a process. */
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { type RecorderNode, startRecorderNode } from "@sluice/recorder/node.ts";
import { createMeter } from "@sluice/telemetry/meter.ts";
import { createRecorderMetrics } from "@sluice/telemetry/plane-metrics.ts";
import { limitsOf } from "./limits.ts";
import { STARTING, startOperations } from "./operations.ts";
import { announce, nodeOf, type PlaneOptions, type RunningPlane } from "./plane.ts";
import { allOrNothing } from "@sluice/core/started.ts";

export function startRecorderProcess(options: PlaneOptions): Promise<RunningPlane> {
  const { config, dataDirectory, environment, log, signal } = options;
  const { name } = nodeOf(config, "recorder");
  const shared = { limits: limitsOf(config.limits), clock: systemClock, random: systemRandom, log };
  return allOrNothing(log, async (started) => {
    const meter = createMeter();
    let serving: RecorderNode | undefined;
    const metrics = createRecorderMetrics(meter, {
      batchesHeld: () => serving?.state.batchesHeld ?? 0,
      controlPlanes: () => serving?.state.controlPlanes ?? 0,
    });
    const notReady = (): readonly string[] => {
      if (serving === undefined) return STARTING;
      return serving.state.busConnected ? [] : ["NATS is not connected"];
    };
    const operations = await startOperations(started, { config, meter, notReady, log });
    const node = await startRecorderNode({
      ...shared,
      config,
      dataDirectory,
      environment,
      signal,
      onKept: ({ records, bytes, lagMs }) => metrics.batch(records, bytes, lagMs),
      onFailed: () => metrics.batchFailed(),
      onReceipt: () => metrics.receipt(),
    });
    serving = node;
    started.add("recorder", () => node.close());
    await announce(started, options.readyFile, { plane: "recorder", node: name, address: node.address, ...operations });
    return { greeting: [`The recorder ${name} keeps recordings in ${config.recorder.directory}.`] };
  });
}
