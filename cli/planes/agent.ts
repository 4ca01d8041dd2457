/** `sluice agent`: an agent as a process. It listens nowhere but for the platform's probes, when told to. */
import { type AgentNode, startAgentNode } from "@sluice/agent/node.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import { createMeter } from "@sluice/telemetry/meter.ts";
import { limitsOf } from "./limits.ts";
import { STARTING, startOperations } from "./operations.ts";
import { announce, nodeOf, type PlaneOptions, type RunningPlane } from "./plane.ts";
import { allOrNothing } from "@sluice/core/started.ts";

export function startAgentProcess(options: PlaneOptions): Promise<RunningPlane> {
  const { config, dataDirectory, environment, log, signal } = options;
  const { name } = nodeOf(config, "agent");
  const shared = { limits: limitsOf(config.limits), clock: systemClock, random: systemRandom, log };
  return allOrNothing(log, async (started) => {
    const meter = createMeter();
    let serving: AgentNode | undefined;
    const operations = await startOperations(started, { config, meter, notReady: () => serving?.notReady() ?? STARTING, log });
    const node = await startAgentNode({ ...shared, config, dataDirectory, environment, signal, meter });
    serving = node;
    started.add("agent", async () => {
      await node.drain();
      await node.close();
    });
    await announce(started, options.readyFile, { plane: "agent", node: name, ...operations });
    return { greeting: [`The agent ${name} runs.`] };
  });
}
