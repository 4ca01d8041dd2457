/** Health, readiness, metrics and traces of a process, where its configuration asks for them. */
import type { Config } from "@sluice/core/config.ts";
import type { Meter } from "@sluice/telemetry/meter.ts";
import { serveOperations } from "@sluice/telemetry/operations.ts";
import { noTraces, type Traces } from "@sluice/telemetry/session-trace.ts";
import type { Logger } from "pino";
import type { Started } from "@sluice/core/started.ts";

/** Why a process that has only begun is not ready. */
export const STARTING: readonly string[] = ["it is starting"];

export interface OperationsParts {
  readonly config: Config;
  readonly meter: Meter;
  /** Why it is not ready; empty: it is. */
  readonly notReady: () => Promise<readonly string[]> | readonly string[];
  readonly log: Logger;
}

/** Returns where it listens; nothing where the configuration says nothing. */
export async function startOperations(
  started: Started,
  { config, meter, notReady, log }: OperationsParts,
): Promise<{ readonly operations?: string }> {
  const { listen } = config.operations;
  if (listen === null) return {};
  const readiness = async (): Promise<{ ready: boolean; reasons: readonly string[] }> => {
    const reasons = await notReady();
    return { ready: reasons.length === 0, reasons };
  };
  const served = await serveOperations({ listen, meter, readiness, log });
  started.add("operations", () => served.close());
  return { operations: served.address };
}

/** Sends what is left when the process stops. What makes traces is loaded only where they are wanted. */
export async function startTraces(started: Started, config: Config, service: string): Promise<Traces> {
  const { tracesEndpoint, sampleRatio } = config.telemetry;
  if (tracesEndpoint === null) return noTraces;
  const { createTraces } = await import("@sluice/telemetry/traces.ts");
  const traces = createTraces({
    endpoint: tracesEndpoint,
    sampleRatio,
    service,
    node: config.node?.name ?? "alone",
    version: "0.1.0",
  });
  started.add("traces", () => traces.close());
  return traces;
}
