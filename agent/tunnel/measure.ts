/** How far gateways are from here: the median of three TLS handshakes with each, a few gateways at a time. */
import type { Limits } from "@sluice/core/limits.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { GatewayDialer } from "./session-dialer.ts";

const SAMPLES = 3;
/** Gateways measured at the same time: more would wait for each other's handshakes. */
const CONCURRENT_MAX = 4;

/** Calls back for each gateway as it is done. Infinity: it did not answer in time, or is not the gateway that it should be. */
export async function measureGateways(
  gateways: readonly DirectoryNode[],
  options: {
    readonly dialer: Pick<GatewayDialer, "measure">;
    readonly limits: Pick<Limits, "gatewayMeasureTimeoutMs">;
    readonly signal: AbortSignal;
  },
  done: (name: string, roundTripMs: number) => void,
): Promise<void> {
  const waiting = [...gateways];
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined && !options.signal.aborted; next = waiting.shift()) {
      done(next.name, await measureOne(next, options));
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENT_MAX, gateways.length) }, work));
}

async function measureOne(
  { name, addresses }: DirectoryNode,
  { dialer, limits, signal }: Parameters<typeof measureGateways>[1],
): Promise<number> {
  if (addresses.control === null) return Number.POSITIVE_INFINITY;
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.gatewayMeasureTimeoutMs)]);
  const samples: number[] = [];
  try {
    while (samples.length < SAMPLES) samples.push(await dialer.measure(addresses.control, name, deadline));
  } catch {
    return Number.POSITIVE_INFINITY; // its link says why, when there is one
  }
  return samples.sort((a, b) => a - b)[Math.floor(SAMPLES / 2)] ?? Number.POSITIVE_INFINITY;
}
