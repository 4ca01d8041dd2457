/**
 * Moves a session's bytes between gateway and target, both ways, as they come: no copy, no object a chunk, and neither side is read
 * faster than the other takes. Takes part in nothing else; what an ending means is decided by whoever started it.
 */
import type { Duplex } from "node:stream";

/** Which side ended first. `gatewayEnded`: it closed its side in order, and all it had sent has been written to the target. */
export type PumpEnd = "gatewayEnded" | "gatewayBroke" | "targetEnded" | "targetBroke";

/** Resolves when either side ends; by then nothing moves any more, and no listener of the pump is left on either stream. */
export async function pump(gateway: Duplex, target: Duplex): Promise<PumpEnd> {
  const { promise, resolve } = Promise.withResolvers<PumpEnd>();
  const listeners: readonly (readonly [stream: Duplex, event: string, end: PumpEnd])[] = [
    [gateway, "end", "gatewayEnded"],
    [gateway, "error", "gatewayBroke"],
    [gateway, "close", "gatewayBroke"],
    [target, "end", "targetEnded"],
    [target, "error", "targetBroke"],
    [target, "close", "targetBroke"],
  ];
  const attached = listeners.map(([stream, event, end]) => {
    const listener = (): void => finish(end);
    stream.on(event, listener);
    return (): void => void stream.off(event, listener);
  });
  const finish = (end: PumpEnd): void => {
    for (const detach of attached) detach();
    gateway.unpipe(target);
    target.unpipe(gateway);
    resolve(end);
  };
  // A stream that ended before this began says nothing any more.
  if (gateway.destroyed) finish("gatewayBroke");
  else if (target.destroyed) finish("targetBroke");
  else {
    gateway.pipe(target, { end: false });
    target.pipe(gateway, { end: false });
  }
  return await promise;
}
