/**
 * Cancel requests that landed on another gateway: passed on to the one whose slot stands in the process id, over mTLS, once. Whoever
 * asks learns nothing: neither whether there is such a gateway, nor whether it was reached, nor whether the key was one.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { GatewayPeerService } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import { implement } from "@sluice/rpc/grpc/server.ts";
import type { GrpcChannel, ServedService } from "@sluice/rpc/grpc.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";
import type { CancelKeys } from "../session/cancel-keys.ts";
import { CancelLimiter } from "./cancel-limiter.ts";

export interface PeerCancelsOptions {
  readonly identity: NodeIdentity;
  /** Null: this gateway knows no other. */
  readonly control: Pick<ControlLink, "directory" | "onDirectory"> | null;
  /** Is told how to forward, and asked for requests that come from others. */
  readonly cancelKeys: CancelKeys;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface PeerCancels {
  /** To be served where other gateways connect. */
  readonly service: ServedService;
  close(): void;
}

/** From then on `cancelKeys` forwards keys of other gateways' slots. */
export function createPeerCancels(options: PeerCancelsOptions): PeerCancels {
  const { control, cancelKeys, limits, clock, log } = options;
  const channels = new Channels(options);
  const forwarded = new CancelLimiter(limits.cancelsForwardedMax, clock);
  const taken = new CancelLimiter(limits.cancelsForwardedMax, clock);

  cancelKeys.forwardBy((slot, processId, secret) => {
    const gateway = control?.directory.find((node) => node.role === "gateway" && node.slot === slot);
    const address = gateway?.addresses.control ?? null;
    if (gateway === undefined || address === null || !forwarded.admits("all")) return;
    channels
      .to(gateway.name, address)
      .unary(GatewayPeerService.method.cancel, { processId, secret }, { deadlineMs: limits.cancelForwardTimeoutMs })
      .catch((error: unknown) => log.debug({ err: error, gateway: gateway.name }, "a cancel request could not be passed on"));
  });
  const stopWatching = control?.onDirectory((nodes) => channels.keepOnly(nodes));

  const service = implement(
    GatewayPeerService,
    {
      cancel: async ({ processId, secret }, { peer }) => {
        // Here and no further, or two gateways that disagree on a slot would pass it on for ever.
        if (taken.admits(peer?.name ?? "")) cancelKeys.redeemHere(processId, Buffer.from(secret));
        return {};
      },
    },
    ["gateway"],
  );
  return {
    service,
    close: () => {
      cancelKeys.forwardBy(null);
      stopWatching?.();
      channels.close();
    },
  };
}

/** One channel to each gateway that was ever needed, for as long as the directory names it at that address. */
class Channels {
  readonly #options: PeerCancelsOptions;
  readonly #byName = new Map<string, { readonly address: string; readonly channel: GrpcChannel }>();

  constructor(options: PeerCancelsOptions) {
    this.#options = options;
  }

  to(name: string, address: string): GrpcChannel {
    const known = this.#byName.get(name);
    if (known?.address === address) return known.channel;
    known?.channel.close();
    const { identity, limits, log } = this.#options;
    const channel = dialGrpc({ address, role: "gateway", name }, { identity, log, messageBytesMax: limits.linkMessageBytesMax });
    this.#byName.set(name, { address, channel });
    return channel;
  }

  keepOnly(nodes: readonly DirectoryNode[]): void {
    for (const [name, { address, channel }] of this.#byName) {
      if (nodes.some((node) => node.role === "gateway" && node.name === name && node.addresses.control === address)) continue;
      channel.close();
      this.#byName.delete(name);
    }
  }

  close(): void {
    for (const { channel } of this.#byName.values()) channel.close();
    this.#byName.clear();
  }
}
