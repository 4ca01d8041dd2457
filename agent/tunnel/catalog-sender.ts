/**
 * Reads catalogs that a gateway asks for and sends them in pieces, on calls of their own so that the control stream is never held
 * up. A few at a time: each may take the memory of a whole catalog.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import type { Fault } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { AgentLinkService, type ReadCatalog, type SendCatalogRequestSchema } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import { toFault } from "@sluice/rpc/fault.ts";
import type { GrpcChannel } from "@sluice/rpc/grpc.ts";
import type { Logger } from "pino";

export interface CatalogSenderOptions {
  readonly agentLink: AgentLink;
  readonly channel: GrpcChannel;
  readonly limits: Limits;
  readonly log: Pick<Logger, "warn">;
  /** Throws GatewayError when this gateway may not ask for it. */
  readonly resourceOf: (name: string) => ResourceSpec;
  readonly failed: (requestId: bigint, fault: Fault) => void;
}

const PIECE_BYTES = 256 * 1024;

export class CatalogSender {
  readonly #options: CatalogSenderOptions;
  readonly #closing = new AbortController();
  readonly #waiting: ReadCatalog[] = [];
  #running = 0;

  constructor(options: CatalogSenderOptions) {
    this.#options = options;
  }

  read(request: ReadCatalog): void {
    const { limits, failed } = this.#options;
    if (this.#waiting.length >= limits.agentCatalogsMax) {
      failed(request.requestId, toFault(new GatewayError("catalog_unavailable", "The agent has too many catalogs to read.")));
      return;
    }
    this.#waiting.push(request);
    this.#next();
  }

  close(): void {
    this.#waiting.length = 0;
    this.#closing.abort(new Error("the link has ended"));
  }

  #next(): void {
    if (this.#running >= this.#options.limits.linkCatalogsMax) return;
    const request = this.#waiting.shift();
    if (request === undefined) return;
    this.#running += 1;
    void this.#send(request).finally(() => {
      this.#running -= 1;
      this.#next();
    });
  }

  async #send({ requestId, resource: name, database }: ReadCatalog): Promise<void> {
    const { agentLink, channel, limits, log, resourceOf, failed } = this.#options;
    const { signal } = this.#closing;
    try {
      const resource = resourceOf(name);
      const { bytes } = await agentLink.readCatalog({ resource, database, signal });
      await channel.clientStream(AgentLinkService.method.sendCatalog, piecesOf(requestId, bytes), {
        deadlineMs: limits.catalogReadTimeoutMs,
        signal,
      });
    } catch (thrown) {
      if (signal.aborted) return;
      const error = toGatewayError(thrown);
      log.warn({ resource: name, database, code: error.code, reason: error.message }, "catalog not sent");
      failed(requestId, toFault(error));
    }
  }
}

async function* piecesOf(
  requestId: bigint,
  bytes: Uint8Array,
): AsyncGenerator<MessageInitShape<typeof SendCatalogRequestSchema>> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    yield { requestId, piece, last: at + PIECE_BYTES >= bytes.length };
  }
}
