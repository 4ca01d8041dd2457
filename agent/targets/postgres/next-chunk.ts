/**
 * Reads a paused socket one chunk at a time, and loses none: a chunk that nobody waited for stays in the socket, for the next
 * call or for whoever gets the socket afterwards. Leaves no listener behind.
 */
import type { Socket } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";

/**
 * The next bytes. The socket is paused before and after. Rejects with GatewayError `target_unreachable` when the target closes,
 * with the socket's error, or with the signal's reason.
 */
export async function nextChunk(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const onData = (chunk: Buffer): void => {
    // At once, not when the promise is seen: a flowing socket would throw the chunks it still holds at nobody.
    socket.pause();
    socket.off("data", onData);
    resolve(chunk);
  };
  const onEnd = (): void => reject(closedByTarget());
  const onAbort = (): void => reject(signal.reason);
  if (signal.aborted) onAbort();
  else if (socket.destroyed || socket.readableEnded) onEnd();
  else {
    signal.addEventListener("abort", onAbort, { once: true });
    socket.on("data", onData).once("error", reject).once("end", onEnd).once("close", onEnd);
    socket.resume();
  }
  try {
    return await promise;
  } finally {
    socket.pause();
    socket.off("data", onData).off("error", reject).off("end", onEnd).off("close", onEnd);
    signal.removeEventListener("abort", onAbort);
  }
}

function closedByTarget(): GatewayError {
  return new GatewayError("target_unreachable", "The database closed the connection before it was ready.", {
    hint: "Try again in a moment; if it stays so, ask the platform team to check the resource.",
  });
}
