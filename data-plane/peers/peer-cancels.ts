/**
 * Cancel requests that landed on another gateway: passed on to the one whose slot stands in the process id, over mTLS, once. Whoever
 * asks learns nothing: neither whether there is such a gateway, nor whether it was reached, nor whether the key was one.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { GatewayPeerService } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import type { ServiceHandlers } from "@sluice/rpc/grpc.ts";
import type { Logger } from "pino";
import type { CancelKeys } from "../session/cancel-keys.ts";
import { CancelLimiter } from "./cancel-limiter.ts";
import type { PeerChannels } from "./peer-channels.ts";

export interface PeerCancelsOptions {
  readonly control: Pick<ControlLink, "directory">;
  readonly channels: PeerChannels;
  /** Is told how to forward, and asked for requests that come from others. */
  readonly cancelKeys: CancelKeys;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
  /** For whoever counts. */
  readonly onForward?: (outcome: "sent" | "limited" | "unknown") => void;
}

export interface PeerCancels {
  readonly handlers: Pick<ServiceHandlers<typeof GatewayPeerService>, "cancel">;
  close(): void;
}

/** From then on `cancelKeys` forwards keys of other gateways' slots. */
export function createPeerCancels(options: PeerCancelsOptions): PeerCancels {
  const { control, channels, cancelKeys, limits, clock, log } = options;
  const forwarded = new CancelLimiter(limits.cancelsForwardedMax, clock);
  const taken = new CancelLimiter(limits.cancelsForwardedMax, clock);

  cancelKeys.forwardBy((slot, processId, secret) => {
    const gateway = control.directory.find((node) => node.role === "gateway" && node.slot === slot);
    const address = gateway?.addresses.control ?? null;
    if (gateway === undefined || address === null) return options.onForward?.("unknown");
    if (!forwarded.admits("all")) return options.onForward?.("limited");
    options.onForward?.("sent");
    channels
      .to(gateway.name, address)
      .unary(GatewayPeerService.method.cancel, { processId, secret }, { deadlineMs: limits.cancelForwardTimeoutMs })
      .catch((error: unknown) => log.debug({ err: error, gateway: gateway.name }, "a cancel request could not be passed on"));
  });
  return {
    handlers: {
      cancel: async ({ processId, secret }, { peer }) => {
        // Here and no further, or two gateways that disagree on a slot would pass it on for ever.
        if (taken.admits(peer?.name ?? "")) cancelKeys.redeemHere(processId, Buffer.from(secret));
        return {};
      },
    },
    close: () => cancelKeys.forwardBy(null),
  };
}
