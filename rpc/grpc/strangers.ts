/**
 * Connections of whoever has not shown a node's certificate: few at a time, few from one address, and not for long. Nodes that are
 * known must find room whatever strangers do.
 */
import type { Socket } from "node:net";
import type { Limits } from "@sluice/core/limits.ts";

export type StrangerLimits = Pick<
  Limits,
  "unauthenticatedMax" | "unauthenticatedPerAddressMax" | "nodeConnectTimeoutMs" | "nodeEnrolTimeoutMs"
>;

export class Strangers {
  readonly #limits: StrangerLimits;
  readonly #addresses = new Map<string, number>();
  readonly #leave = new Map<string, () => void>();
  #count = 0;

  constructor(limits: StrangerLimits) {
    this.#limits = limits;
  }

  /** A connection was accepted and nothing is known of it. False: there is no room, and it was destroyed. */
  enter(socket: Socket): boolean {
    const address = socket.remoteAddress ?? "";
    const fromThere = this.#addresses.get(address) ?? 0;
    if (this.#count >= this.#limits.unauthenticatedMax || fromThere >= this.#limits.unauthenticatedPerAddressMax) {
      socket.destroy();
      return false;
    }
    this.#count += 1;
    this.#addresses.set(address, fromThere + 1);
    // A handshake and a call that enrols; whoever wants more connects again.
    const timer = setTimeout(() => socket.destroy(), this.#limits.nodeConnectTimeoutMs + this.#limits.nodeEnrolTimeoutMs);
    timer.unref();
    const key = keyOf(socket);
    let left = false;
    const leave = (): void => {
      if (left) return;
      left = true;
      clearTimeout(timer);
      if (this.#leave.get(key) === leave) this.#leave.delete(key);
      this.#count -= 1;
      const others = (this.#addresses.get(address) ?? 1) - 1;
      if (others === 0) this.#addresses.delete(address);
      else this.#addresses.set(address, others);
    };
    this.#leave.set(key, leave);
    socket.once("close", leave);
    return true;
  }

  /** It is a node after all. Takes the TLS connection over the one that entered. */
  known(socket: Socket): void {
    this.#leave.get(keyOf(socket))?.();
  }
}

/** TLS wraps the connection in another object; its two ends are the same, and no other open connection's. */
function keyOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}
