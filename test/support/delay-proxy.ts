/** A TCP proxy between two nodes that a test can make slow, deaf (half-open: nothing arrives, nothing closes) or cut. */
import { connect, createServer, type Socket } from "node:net";

export interface DelayProxy {
  readonly port: number;
  /** Each way, for bytes that come from now on. Milliseconds. */
  delayMs: number;
  /** Bytes are swallowed in both directions, connections stay: what a dead router does. */
  deaf: boolean;
  /** Ends what runs; new connections are refused while true. */
  cut(on: boolean): void;
  readonly connections: number;
  stop(): Promise<void>;
}

export async function startDelayProxy(targetPort: number, delayMs = 0): Promise<DelayProxy> {
  const sockets = new Set<Socket>();
  let refusing = false;
  let open = 0;
  const proxy = { delayMs, deaf: false };
  const pump = (from: Socket, to: Socket): void => {
    // Bytes keep their order whatever the delay is changed to: each chunk leaves at its time or later.
    let leavesAtMs = 0;
    const later = (act: () => void): void => {
      leavesAtMs = Math.max(leavesAtMs, performance.now() + proxy.delayMs);
      setTimeout(act, leavesAtMs - performance.now());
    };
    from.on("data", (chunk: Buffer) => {
      if (proxy.deaf) return;
      if (proxy.delayMs === 0 && leavesAtMs <= performance.now()) to.write(chunk);
      else later(() => void to.write(chunk));
    });
    from.on("end", () => (proxy.deaf ? undefined : later(() => void to.end())));
    from.on("error", () => to.destroy());
    from.on("close", () => (proxy.deaf ? undefined : later(() => to.destroy())));
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (caller) => {
    if (refusing) {
      caller.resetAndDestroy();
      return;
    }
    const target = connect({ port: targetPort, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    open += 1;
    caller.once("close", () => {
      open -= 1;
    });
    for (const socket of [caller, target]) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    }
    pump(caller, target);
    pump(target, caller);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const cutAll = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return Object.defineProperties(
    {
      port: address.port,
      cut: (on: boolean) => {
        refusing = on;
        if (on) cutAll();
      },
      stop: async () => {
        cutAll();
        await new Promise<void>((resolve) => void server.close(() => resolve()));
      },
    },
    {
      delayMs: { get: () => proxy.delayMs, set: (ms: number) => void (proxy.delayMs = ms) },
      deaf: { get: () => proxy.deaf, set: (on: boolean) => void (proxy.deaf = on) },
      connections: { get: () => open },
    },
  ) as DelayProxy; // the properties just defined
}
