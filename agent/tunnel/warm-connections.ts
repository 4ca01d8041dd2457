/**
 * Session connections to one gateway that wait for a session: as many as the gateway wishes, within bounds, replaced as they are
 * taken. A gateway that refuses or drops them is asked ever more slowly.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { MessageShape } from "@bufbuild/protobuf";
import { toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { SessionBindingSchema } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { SessionFrameDecoder } from "@sluice/rpc/session-frames.ts";
import type { Logger } from "pino";
import { backoffMs } from "./backoff.ts";
import type { DialedGateway } from "./session-dialer.ts";

export interface WarmConnectionsOptions {
  readonly gateway: string;
  readonly dial: (signal: AbortSignal) => Promise<DialedGateway>;
  /** The gateway bound it to a session. The socket flows and has no listener for data; `rest` came behind the binding. */
  readonly onBound: (dialed: DialedGateway, binding: MessageShape<typeof SessionBindingSchema>, rest: Buffer) => void;
  readonly limits: Limits;
  readonly random: Random;
  readonly log: Pick<Logger, "debug" | "warn">;
}

/** Handshakes under way to one gateway. */
const DIALING_MAX = 8;
/** A connection that the gateway closes sooner than this, without having bound it, was not wanted. */
const UNWANTED_MS = 1_000;

export class WarmConnections {
  readonly #options: WarmConnectionsOptions;
  readonly #idle = new Set<DialedGateway>();
  readonly #closing = new AbortController();
  #dialing = 0;
  #wanted = 0;
  #failures = 0;
  #pausing = false;

  constructor(options: WarmConnectionsOptions) {
    this.#options = options;
  }

  get idle(): number {
    return this.#idle.size;
  }

  /** How many the gateway wishes. Those above it stay until they are taken or the gateway closes them. */
  keep(wanted: number): void {
    this.#wanted = Math.min(wanted, this.#options.limits.warmConnectionsMax);
    this.#refill();
  }

  /** Whether a connection was bound as it should be: a gateway that only uses them up is asked ever more slowly. */
  bound(well: boolean): void {
    if (well) this.#failures = 0;
    else void this.#pause();
  }

  /** Closes idle connections to gateways that are not accepted any more. */
  recheck(isAccepted: (dialed: DialedGateway) => boolean): void {
    for (const dialed of this.#idle) if (!isAccepted(dialed)) dialed.socket.destroy();
  }

  close(): void {
    this.#closing.abort(new Error("the link has ended"));
    for (const { socket } of this.#idle) socket.destroy();
    this.#idle.clear();
  }

  #refill(): void {
    while (
      !this.#closing.signal.aborted &&
      !this.#pausing &&
      this.#idle.size + this.#dialing < this.#wanted &&
      this.#dialing < DIALING_MAX
    ) {
      this.#dialing += 1;
      void this.#dial();
    }
  }

  async #dial(): Promise<void> {
    const { dial, limits, gateway, log } = this.#options;
    try {
      const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(limits.agentHandshakeTimeoutMs)]);
      const dialed = await dial(signal);
      if (this.#closing.signal.aborted) dialed.socket.destroy();
      else this.#rest(dialed);
    } catch (thrown) {
      if (this.#closing.signal.aborted) return;
      const error = toGatewayError(thrown);
      const level = this.#failures === 0 ? "warn" : "debug";
      log[level]({ gateway, code: error.code, reason: error.message }, "no session connection to the gateway");
      void this.#pause();
    } finally {
      this.#dialing -= 1;
      this.#refill();
    }
  }

  #rest(dialed: DialedGateway): void {
    const { socket } = dialed;
    const decoder = new SessionFrameDecoder(SessionBindingSchema);
    const sinceMs = performance.now();
    const onData = (chunk: Buffer): void => {
      try {
        const decoded = decoder.push(chunk);
        if (decoded === undefined) return;
        socket.off("data", onData).off("close", onClose);
        this.#idle.delete(dialed);
        this.#options.onBound(dialed, decoded.value, decoded.rest);
        this.#refill();
      } catch (error) {
        this.#options.log.warn(
          { gateway: this.#options.gateway, reason: toGatewayError(error).message },
          "a session connection was closed",
        );
        socket.destroy();
      }
    };
    const onClose = (): void => {
      this.#idle.delete(dialed);
      if (performance.now() - sinceMs < UNWANTED_MS) void this.#pause();
      else this.#refill();
    };
    this.#idle.add(dialed);
    socket.on("data", onData).once("close", onClose);
    if (socket.destroyed) onClose();
  }

  async #pause(): Promise<void> {
    if (this.#pausing) return;
    this.#pausing = true;
    this.#failures += 1;
    try {
      await delay(backoffMs(this.#failures, this.#options.random), undefined, { signal: this.#closing.signal, ref: false });
    } catch {
      return; // closed meanwhile
    }
    this.#pausing = false;
    this.#refill();
  }
}
