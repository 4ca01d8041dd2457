/** What an agent watches for one gateway: each look at a database is told on the control stream, until the gateway or the link ends it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { CatalogWatchedSchema, WatchCatalog } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import { toFault } from "@sluice/rpc/fault.ts";

export interface WatchReportsOptions {
  readonly agentLink: AgentLink;
  readonly limits: Limits;
  /** Throws GatewayError when this gateway may not ask for it. */
  readonly resourceOf: (name: string) => ResourceSpec;
  readonly say: (watched: MessageInitShape<typeof CatalogWatchedSchema>) => void;
}

export class WatchReports {
  readonly #options: WatchReportsOptions;
  readonly #watches = new Map<bigint, AbortController>();

  constructor(options: WatchReportsOptions) {
    this.#options = options;
  }

  begin({ watchId, resource, database }: WatchCatalog): void {
    const { limits, say } = this.#options;
    if (this.#watches.size >= limits.agentCatalogsMax || this.#watches.has(watchId)) {
      say({ watchId, fault: toFault(new GatewayError("catalog_unavailable", "The agent watches as many databases as it may.")) });
      return;
    }
    const ending = new AbortController();
    this.#watches.set(watchId, ending);
    void this.#run(watchId, resource, database, ending);
  }

  end(watchId: bigint): void {
    this.#watches.get(watchId)?.abort(new Error("the gateway ended the watch"));
  }

  close(): void {
    for (const ending of this.#watches.values()) ending.abort(new Error("the link has ended"));
  }

  /** Never rejects: why it ended is told. */
  async #run(watchId: bigint, name: string, database: string, { signal }: AbortController): Promise<void> {
    const { agentLink, resourceOf, say } = this.#options;
    try {
      const resource = resourceOf(name);
      if (agentLink.watchCatalog === undefined) throw new GatewayError("unsupported", "This agent watches no databases.");
      await agentLink.watchCatalog({ resource, database, signal, news: (news) => say({ watchId, ...news }) });
      if (!signal.aborted) throw new GatewayError("catalog_unavailable", "The database is not watched any more.");
    } catch (error) {
      if (!signal.aborted) say({ watchId, fault: toFault(toGatewayError(error)) });
    } finally {
      this.#watches.delete(watchId);
    }
  }
}
