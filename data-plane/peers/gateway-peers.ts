/**
 * What gateways say to each other, over mTLS: cancel requests that landed on the wrong one, and DDL before it is sent to a database.
 * A gateway that starts asks the others what is open.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { GatewayPeerService, MarkPhase } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import { implement } from "@sluice/rpc/grpc/server.ts";
import type { ServedService } from "@sluice/rpc/grpc.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";
import type { CancelKeys } from "../session/cancel-keys.ts";
import type { DdlAcrossGateways } from "../upstream/ddl.ts";
import { ForeignMarks } from "./foreign-marks.ts";
import { OwnMarks } from "./own-marks.ts";
import { createPeerCancels } from "./peer-cancels.ts";
import { PeerChannels } from "./peer-channels.ts";

export interface GatewayPeersOptions {
  readonly identity: NodeIdentity;
  readonly control: Pick<ControlLink, "directory" | "onDirectory">;
  /** Is told how to forward, and asked for requests that come from others. */
  readonly cancelKeys: CancelKeys;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** A cancel request that landed here is another gateway's; for whoever counts. */
  readonly onForward?: (outcome: "sent" | "limited" | "unknown") => void;
}

export interface GatewayPeers {
  /** To be served where other gateways connect. */
  readonly service: ServedService;
  readonly ddl: DdlAcrossGateways;
  /** Resolves when the others have said what DDL is open, at the latest after `ddlMarkTimeoutMs`: before callers are served. */
  ready(): Promise<void>;
  close(): void;
}

export function createGatewayPeers(options: GatewayPeersOptions): GatewayPeers {
  const { identity, control, limits, clock, log } = options;
  const { name } = identity.self;
  const channels = new PeerChannels(options);
  const cancels = createPeerCancels({ ...options, channels });
  const own = new OwnMarks({ ...options, name, channels });
  const foreign = new ForeignMarks(limits, clock);
  const questions = new Questions({ name, control, channels, foreign, limits, log });
  const service = implement(
    GatewayPeerService,
    {
      ...cancels.handlers,
      markCatalog: async ({ resource, database, markId, phase }, { peer }) => {
        const gateway = peer?.name ?? "";
        switch (phase) {
          case MarkPhase.BEGIN:
            foreign.begin(gateway, markId, { resource, database });
            break;
          case MarkPhase.END:
            foreign.end(gateway, markId, { resource, database });
            break;
          default:
            throw new GatewayError("unsupported", "This gateway does not know this phase of a mark.");
        }
        return {};
      },
      openMarks: async () => ({ marks: own.open.map(({ id, scope }) => ({ ...scope, markId: id })) }),
    },
    ["gateway"],
  );
  return {
    service,
    ddl: {
      announced: (session) => own.announced(session),
      announce: (session, scope) => own.announce(session, scope),
      end: (session) => own.end(session),
      follow: (follower) => foreign.follow(follower),
      onLost: (listener) => own.onLost(listener),
    },
    ready: () => questions.ready(),
    close: () => {
      questions.close();
      own.close();
      foreign.close();
      cancels.close();
      channels.close();
    },
  };
}

interface QuestionsParts {
  readonly name: string;
  readonly control: Pick<ControlLink, "directory" | "onDirectory">;
  readonly channels: PeerChannels;
  readonly foreign: ForeignMarks;
  readonly limits: Limits;
  readonly log: Logger;
}

/** Asks each gateway, once it is in the directory, which marks it has open: it may have begun them before this one was there. */
class Questions {
  readonly #parts: QuestionsParts;
  readonly #asked = new Set<string>();
  readonly #stopWatching: () => void;
  readonly #first = Promise.withResolvers<void>();

  constructor(parts: QuestionsParts) {
    this.#parts = parts;
    this.#stopWatching = parts.control.onDirectory((nodes) => void this.#ask(nodes));
    if (parts.control.directory.length > 0) void this.#ask(parts.control.directory);
  }

  async ready(): Promise<void> {
    const timer = setTimeout(() => this.#first.resolve(), this.#parts.limits.ddlMarkTimeoutMs);
    await this.#first.promise;
    clearTimeout(timer);
  }

  close(): void {
    this.#stopWatching();
    this.#first.resolve();
  }

  async #ask(nodes: readonly DirectoryNode[]): Promise<void> {
    const others = nodes.filter(({ role, name }) => role === "gateway" && name !== this.#parts.name);
    for (const name of this.#asked) if (others.every((other) => other.name !== name)) this.#asked.delete(name);
    await Promise.all(others.filter(({ name }) => !this.#asked.has(name)).map((other) => this.#askOne(other)));
    this.#first.resolve();
  }

  async #askOne({ name, addresses }: DirectoryNode): Promise<void> {
    const { channels, foreign, limits, log } = this.#parts;
    if (addresses.control === null) return;
    this.#asked.add(name);
    try {
      const options = { deadlineMs: limits.ddlMarkTimeoutMs, idempotent: true };
      const { marks } = await channels.to(name, addresses.control).unary(GatewayPeerService.method.openMarks, {}, options);
      for (const { markId, resource, database } of marks) foreign.begin(name, markId, { resource, database });
    } catch (error) {
      // It tells this one of every mark that is open as soon as it is there.
      this.#asked.delete(name);
      log.info({ err: error, gateway: name }, "another gateway did not say which DDL is open");
    }
  }
}
