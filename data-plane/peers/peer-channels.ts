/** One channel to each gateway that was ever needed, for as long as the directory names it at that address. */
import type { Limits } from "@sluice/core/limits.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { dialGrpc } from "@sluice/rpc/grpc/channel.ts";
import type { GrpcChannel } from "@sluice/rpc/grpc.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";

export interface PeerChannelsOptions {
  readonly identity: NodeIdentity;
  readonly control: Pick<ControlLink, "onDirectory">;
  readonly limits: Limits;
  readonly log: Logger;
}

export class PeerChannels {
  readonly #options: PeerChannelsOptions;
  readonly #byName = new Map<string, { readonly address: string; readonly channel: GrpcChannel }>();
  readonly #stopWatching: () => void;

  constructor(options: PeerChannelsOptions) {
    this.#options = options;
    this.#stopWatching = options.control.onDirectory((nodes) => this.#keepOnly(nodes));
  }

  to(name: string, address: string): GrpcChannel {
    const known = this.#byName.get(name);
    if (known?.address === address) return known.channel;
    known?.channel.close();
    const { identity, limits, log } = this.#options;
    const channel = dialGrpc(
      { address, role: "gateway", name },
      { identity, log, limits, messageBytesMax: limits.linkMessageBytesMax },
    );
    this.#byName.set(name, { address, channel });
    return channel;
  }

  close(): void {
    this.#stopWatching();
    for (const { channel } of this.#byName.values()) channel.close();
    this.#byName.clear();
  }

  #keepOnly(nodes: readonly DirectoryNode[]): void {
    for (const [name, { address, channel }] of this.#byName) {
      if (nodes.some((node) => node.role === "gateway" && node.name === name && node.addresses.control === address)) continue;
      channel.close();
      this.#byName.delete(name);
    }
  }
}
