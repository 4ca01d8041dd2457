/**
 * This agent's link to one gateway for as long as it is wanted: makes the control stream again when it breaks, and leaves in good
 * order, so that sessions that run can end by themselves.
 */
import { setTimeout as delay } from "node:timers/promises";
import { toGatewayError } from "@sluice/core/errors.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import type { GrpcChannel } from "@sluice/rpc/grpc.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import { backoffMs } from "./backoff.ts";
import { LinkRun } from "./link-run.ts";
import type { DialedGateway } from "./session-dialer.ts";
import type { TunnelContext } from "./tunnel-context.ts";

export interface GatewayLinkOptions {
  readonly context: TunnelContext;
  /** With an address for control streams. */
  readonly gateway: DirectoryNode;
  readonly roundTripUs: () => number;
  /** The link stands, broke, or a session ended. */
  readonly changed: () => void;
}

/** Nodes that do not understand each other do so only after an upgrade. */
const INCOMPATIBLE_PAUSE_MS = 30_000;
/** A gateway that was told that this agent leaves may have an open on its way. */
const LEAVE_MS = 1_000;

export class GatewayLink {
  readonly gateway: DirectoryNode;
  readonly #options: GatewayLinkOptions;
  readonly #closing = new AbortController();
  readonly #done: Promise<void>;
  #run: LinkRun | undefined;
  #welcomed = false;
  #leaving = false;
  #leaveTimer: NodeJS.Timeout | undefined;
  /** Runs whose stream has ended and whose sessions go on. */
  readonly #former = new Set<LinkRun>();

  constructor(options: GatewayLinkOptions) {
    this.#options = options;
    this.gateway = options.gateway;
    this.#done = this.#keep();
  }

  get linked(): boolean {
    return this.#welcomed;
  }

  /** Connections that wait for a session. */
  get idle(): number {
    return this.#run?.idle ?? 0;
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Sessions of this gateway. */
  get sessions(): number {
    for (const run of this.#former) if (run.busy === 0) this.#former.delete(run);
    return [...this.#former, ...(this.#run === undefined ? [] : [this.#run])].reduce((sum, run) => sum + run.busy, 0);
  }

  sayHealth(): void {
    if (this.#welcomed) this.#run?.sayHealth();
  }

  /** Wanted again, or not any more: then no new sessions, and the stream ends with the last one. */
  leave(leaving: boolean): void {
    if (this.#leaving === leaving || this.closed) return;
    this.#leaving = leaving;
    if (this.#welcomed) this.#run?.leave(leaving);
    clearTimeout(this.#leaveTimer);
    if (leaving) this.#leaveWhenIdle();
  }

  /** Cuts idle connections to a gateway that is not accepted any more. */
  recheck(isAccepted: (dialed: DialedGateway) => boolean): void {
    this.#run?.recheck(isAccepted);
  }

  /** Ends the stream at once; sessions that run keep their connections. */
  async close(): Promise<void> {
    clearTimeout(this.#leaveTimer);
    this.#closing.abort(new Error("the link is no longer wanted"));
    await this.#done;
  }

  #leaveWhenIdle(): void {
    this.#leaveTimer = setTimeout(() => {
      if (this.sessions > 0) this.#leaveWhenIdle();
      else void this.close().then(() => this.#options.changed());
    }, LEAVE_MS).unref();
  }

  async #keep(): Promise<void> {
    const { context, gateway } = this.#options;
    const { signal } = this.#closing;
    let failures = 0;
    while (!signal.aborted) {
      const channel = dialGrpc(
        { address: gateway.addresses.control ?? "", role: "gateway", name: gateway.name },
        {
          identity: context.identity,
          log: context.log,
          messageBytesMax: context.limits.linkMessageBytesMax,
          limits: context.limits,
        },
      );
      try {
        await this.#runOnce(channel, () => {
          failures = 0;
        });
      } catch (thrown) {
        if (signal.aborted) break;
        const error = toGatewayError(thrown);
        failures += 1;
        const level = failures === 1 ? "warn" : "debug";
        context.log[level]({ gateway: gateway.name, code: error.code, reason: error.message }, "no link to the gateway");
        const pauseMs = error.code === "incompatible" ? INCOMPATIBLE_PAUSE_MS : backoffMs(failures, context.random);
        await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined); // closed meanwhile
      } finally {
        channel.close();
      }
    }
  }

  async #runOnce(channel: GrpcChannel, welcomed: () => void): Promise<void> {
    const { context, gateway, roundTripUs, changed } = this.#options;
    const run = new LinkRun({
      context,
      gateway: gateway.name,
      gatewayLabels: gateway.labels,
      sessionsAddress: gateway.addresses.sessions,
      channel,
      roundTripUs,
      changed,
      welcomed: () => {
        this.#welcomed = true;
        welcomed();
        context.log.info({ gateway: gateway.name, address: gateway.addresses.control }, "linked to a gateway");
        if (this.#leaving) run.leave(true);
        changed();
      },
    });
    this.#run = run;
    try {
      await run.run(this.#closing.signal);
    } finally {
      this.#run = undefined;
      this.#welcomed = false;
      if (run.busy > 0) this.#former.add(run);
      changed();
    }
  }
}
