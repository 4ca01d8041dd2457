/** A TCP proxy between two nodes that a test can make slow, deaf (half-open: nothing arrives, nothing closes), forgetful or cut. */
import { connect, createServer, type Server, type Socket } from "node:net";

export interface DelayProxy {
  readonly port: number;
  /** Each way, for bytes that come from now on. Milliseconds. */
  delayMs: number;
  /** Bytes are swallowed in both directions, connections stay: what a dead router does. */
  deaf: boolean;
  /** Bytes for the caller alone are swallowed: what is asked arrives, no answer does. */
  mute: boolean;
  /** Connections that are open now are deaf for ever, new ones work: what a firewall that forgot them does. */
  forget(): void;
  /** Ends what runs; new connections are refused while true. */
  cut(on: boolean): void;
  readonly connections: number;
  stop(): Promise<void>;
}

export async function startDelayProxy(targetPort: number, delayMs = 0): Promise<DelayProxy> {
  const proxy = new Proxy(targetPort, delayMs);
  await proxy.listen();
  return proxy;
}

class Proxy implements DelayProxy {
  delayMs: number;
  deaf = false;
  mute = false;
  readonly #targetPort: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #forgotten = new WeakSet<Socket>();
  #refusing = false;
  #open = 0;

  constructor(targetPort: number, delayMs: number) {
    this.#targetPort = targetPort;
    this.delayMs = delayMs;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (caller) => this.#accept(caller));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => void this.#server.listen(0, "127.0.0.1", () => resolve()));
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the proxy has no port");
    return address.port;
  }

  get connections(): number {
    return this.#open;
  }

  forget(): void {
    for (const socket of this.#sockets) this.#forgotten.add(socket);
  }

  cut(on: boolean): void {
    this.#refusing = on;
    if (on) for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await new Promise<void>((resolve) => void this.#server.close(() => resolve()));
  }

  #accept(caller: Socket): void {
    if (this.#refusing) {
      caller.resetAndDestroy();
      return;
    }
    const target = connect({ port: this.#targetPort, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    this.#open += 1;
    caller.once("close", () => {
      this.#open -= 1;
    });
    for (const socket of [caller, target]) {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    }
    this.#pump(caller, target, false);
    this.#pump(target, caller, true);
  }

  #pump(from: Socket, to: Socket, isAnswer: boolean): void {
    const swallows = (): boolean => this.deaf || (isAnswer && this.mute) || this.#forgotten.has(from);
    // Bytes keep their order whatever the delay is changed to: each chunk leaves at its time or later.
    let leavesAtMs = 0;
    const later = (act: () => void): void => {
      if (swallows()) return;
      const nowMs = performance.now();
      leavesAtMs = Math.max(leavesAtMs, nowMs + this.delayMs);
      setTimeout(act, Math.max(leavesAtMs - nowMs, 0));
    };
    from.on("data", (chunk: Buffer) => {
      if (this.delayMs > 0 || leavesAtMs > performance.now()) later(() => void to.write(chunk));
      else if (!swallows()) to.write(chunk);
    });
    from.on("end", () => later(() => void to.end()));
    from.on("error", () => {
      if (!swallows()) to.destroy();
    });
    from.on("close", () => later(() => to.destroy()));
  }
}
