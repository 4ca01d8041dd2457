/**
 * One agent whose control stream stands: what it said of itself, its idle session connections, what it was asked and has not
 * answered. Ends with the stream; sessions that run then keep their connections, which are not this object's any more.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CatalogNews } from "@sluice/rpc/catalog-watch.ts";
import type {
  CancelDone,
  CatalogFailed,
  CatalogWatched,
  LinkHealth,
  LinkResponseSchema,
} from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { NodeCertificate } from "@sluice/rpc/nodes.ts";
import { agentFault, AgentFailure } from "./agent-fault.ts";
import { Outbox } from "./outbox.ts";
import type { SessionConnection } from "./session-connection.ts";
import { WarmSize } from "./warm-size.ts";

type Instruction = NonNullable<MessageInitShape<typeof LinkResponseSchema>["message"]>;

export interface LinkedAgentOptions {
  readonly certificate: NodeCertificate;
  /** Agreed on with this agent. */
  readonly capability: number;
  readonly region: string;
  readonly snapshotSequence: bigint;
  readonly limits: Limits;
  readonly clock: Clock;
}

const deaf = "it does not read its control stream";
/** What a piece of a catalog costs besides its bytes: very many very small ones must not cost nothing. */
const PIECE_BYTES = 1_024;

/** What waits for something of this agent; told when the link ends. */
interface Waiter<Value> {
  resolve(value: Value): void;
  reject(error: Error): void;
}

export class LinkedAgent {
  readonly certificate: NodeCertificate;
  readonly capability: number;
  readonly region: string;
  readonly outbox: Outbox<{ message: Instruction }>;
  /** Opens under way. */
  opening = 0;
  /** Did not answer when it was asked: chosen last until it is heard of. */
  suspect = false;
  /** Monotonic: when it last said anything. */
  heardMs: number;
  draining = false;
  roundTripUs = 0;
  /** Sessions that it carries for other gateways, as far as it said. */
  sessionsElsewhere = 0;
  snapshotSequence: bigint;
  /** Orders agents with as many sessions by when they were last chosen. */
  chosenAt = 0;
  readonly #limits: Limits;
  readonly #clock: Clock;
  readonly #warm: WarmSize;
  #warmAnnounced: number;
  readonly #idle: SessionConnection[] = [];
  readonly #waiting = new Set<Waiter<SessionConnection>>();
  readonly #cancels = new Map<bigint, Waiter<void>>();
  readonly #catalogs = new Map<bigint, IncomingCatalog>();
  #catalogBytes = 0;
  readonly #watches = new Map<bigint, { readonly news: (news: CatalogNews) => void; readonly fail: (error: Error) => void }>();
  readonly #onEnd = new Set<(failure: AgentFailure) => void>();
  readonly #onSequence = new Set<() => void>();
  #lastId = 0n;
  #ended: AgentFailure | undefined;

  constructor(options: LinkedAgentOptions) {
    this.certificate = options.certificate;
    this.capability = options.capability;
    this.region = options.region;
    this.snapshotSequence = options.snapshotSequence;
    this.#limits = options.limits;
    this.#clock = options.clock;
    this.heardMs = options.clock.monotonicMs();
    this.outbox = new Outbox(options.limits.agentMessagesMax);
    this.#warm = new WarmSize(options.limits);
    this.#warmAnnounced = options.limits.warmConnectionsMin;
  }

  get name(): string {
    return this.certificate.name;
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  /** For the log. */
  get endedBecause(): string | undefined {
    return this.#ended?.message;
  }

  get idleConnections(): number {
    return this.#idle.length;
  }

  /** Unique on this stream. */
  nextId(): bigint {
    this.#lastId += 1n;
    return this.#lastId;
  }

  /** Throws AgentFailure when the agent does not read its stream. */
  send(message: Instruction): void {
    if (this.outbox.push({ message })) return;
    this.end(deaf);
    throw this.#ended ?? new AgentFailure(deaf);
  }

  /** Nothing more is opened through it. Everything that waits for it is told; `why` is for the log. */
  end(why: string): void {
    if (this.#ended !== undefined) return;
    const failure = new AgentFailure(`the agent's link ended: ${why}`);
    this.#ended = failure;
    this.outbox.end();
    for (const connection of this.#idle.splice(0)) connection.destroy();
    for (const waiters of [this.#waiting, this.#cancels.values(), this.#catalogs.values()])
      for (const waiter of waiters) waiter.reject(failure);
    for (const tell of this.#onEnd) tell(failure);
  }

  onEnd(listener: (failure: AgentFailure) => void): () => void {
    this.#onEnd.add(listener);
    return () => void this.#onEnd.delete(listener);
  }

  heard(): void {
    this.heardMs = this.#clock.monotonicMs();
    this.suspect = false;
  }

  health({ sessions, draining, roundTripUs, snapshotSequence }: LinkHealth, sessionsHere: number): void {
    this.draining = draining;
    this.roundTripUs = roundTripUs;
    this.sessionsElsewhere = Math.max(0, sessions - sessionsHere);
    this.snapshotSequence = snapshotSequence;
    for (const tell of this.#onSequence) tell();
  }

  /** Resolves when the agent has the declarations of `sequence` or later (undefined: newer ones than now), or after `agentSnapshotWaitMs`. */
  caughtUp(sequence: bigint | undefined): Promise<boolean> {
    const before = this.snapshotSequence;
    const has = (): boolean => (sequence === undefined ? this.snapshotSequence > before : this.snapshotSequence >= sequence);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    if (has()) return Promise.resolve(true);
    const check = (): void => {
      if (has()) resolve(true);
    };
    const timer = setTimeout(() => resolve(has()), this.#limits.agentSnapshotWaitMs);
    this.#onSequence.add(check);
    const stop = this.onEnd(() => resolve(false));
    return promise.finally(() => {
      clearTimeout(timer);
      this.#onSequence.delete(check);
      stop();
    });
  }

  /** A connection of this agent arrived. False: there are enough, or the link has ended; the caller destroys it. */
  offer(connection: SessionConnection): boolean {
    if (this.#ended !== undefined) return false;
    this.#warm.arrived(this.#clock.monotonicMs());
    const [waiter] = this.#waiting;
    if (waiter !== undefined) {
      this.#waiting.delete(waiter);
      waiter.resolve(connection);
      return true;
    }
    if (this.#idle.length >= this.#limits.warmConnectionsMax) return false;
    this.#idle.push(connection);
    return true;
  }

  /** A connection closed while it was idle. */
  lost(connection: SessionConnection): void {
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
  }

  /**
   * The newest idle connection, or the next that comes; when it does not come in time and `isReplaceable`, it throws AgentFailure,
   * otherwise it is waited for until the link ends. Throws `signal`'s reason.
   */
  async take(signal: AbortSignal, isReplaceable: () => boolean): Promise<SessionConnection> {
    if (this.#ended !== undefined) throw this.#ended;
    signal.throwIfAborted();
    this.#warm.taken(this.#clock.monotonicMs());
    for (let connection = this.#idle.pop(); connection !== undefined; connection = this.#idle.pop()) {
      if (!connection.isUsable) continue;
      this.#announceWarm(false);
      return connection;
    }
    const { promise, resolve, reject } = Promise.withResolvers<SessionConnection>();
    const waiter = { resolve, reject };
    const giveUp = (why: unknown): void => {
      // At once: a connection given to somebody who has left would be nobody's.
      this.#waiting.delete(waiter);
      reject(why);
    };
    const aborted = (): void => giveUp(signal.reason);
    const timer = setInterval(() => {
      if (isReplaceable()) giveUp(new AgentFailure("no session connection of the agent came in time"));
    }, this.#limits.warmConnectionWaitMs);
    signal.addEventListener("abort", aborted, { once: true });
    this.#waiting.add(waiter);
    this.#announceWarm(false);
    try {
      return await promise;
    } finally {
      clearInterval(timer);
      signal.removeEventListener("abort", aborted);
      this.#waiting.delete(waiter);
    }
  }

  /** From time to time: lets go of connections that are old or whose certificate is not good any more, and of wishes that have passed. */
  sweep(isGood: (connection: SessionConnection) => boolean): void {
    const nowMs = this.#clock.monotonicMs();
    const isStale = (connection: SessionConnection): boolean =>
      nowMs - connection.arrivedMs > this.#limits.warmConnectionAgeMsMax || !isGood(connection);
    for (const connection of this.#idle.filter(isStale)) connection.destroy();
    this.#announceWarm(true);
  }

  /** Resolves when the target took the request. Throws GatewayError. */
  async cancel(openId: bigint): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended.error;
    if (this.#cancels.size >= this.#limits.agentCancelsMax)
      throw new GatewayError("agent_unavailable", "The agent has too many cancel requests to deliver.");
    const cancelId = this.nextId();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(ignore);
    this.#cancels.set(cancelId, { resolve, reject });
    // The agent has its own deadline for the target; this is for an agent that says nothing.
    const timer = setTimeout(
      () => reject(new AgentFailure("the agent did not say what became of a cancel request")),
      2 * this.#limits.targetCancelTimeoutMs,
    );
    try {
      this.send({ case: "cancel", value: { openId, cancelId } });
      await promise;
    } catch (error) {
      throw error instanceof AgentFailure ? error.error : error;
    } finally {
      clearTimeout(timer);
      this.#cancels.delete(cancelId);
    }
  }

  cancelDone({ cancelId, fault }: CancelDone): void {
    const waiter = this.#cancels.get(cancelId);
    if (fault === undefined) waiter?.resolve();
    else waiter?.reject(agentFault(fault));
  }

  /** Asks for a catalog; resolves with its compressed pieces. Throws AgentFailure, GatewayError or `signal`'s reason. */
  async readCatalog(resource: string, database: string, signal: AbortSignal): Promise<readonly Uint8Array[]> {
    if (this.#ended !== undefined) throw this.#ended;
    signal.throwIfAborted();
    if (this.#catalogs.size >= this.#limits.agentCatalogsMax) throw new AgentFailure("too many catalogs are being read");
    const requestId = this.nextId();
    const { promise, resolve, reject } = Promise.withResolvers<readonly Uint8Array[]>();
    promise.catch(ignore);
    const incoming: IncomingCatalog = { resolve, reject, pieces: [], bytes: 0 };
    const aborted = (): void => reject(signal.reason);
    this.#catalogs.set(requestId, incoming);
    signal.addEventListener("abort", aborted, { once: true });
    try {
      this.send({ case: "readCatalog", value: { requestId, resource, database } });
      return await promise;
    } finally {
      signal.removeEventListener("abort", aborted);
      this.#catalogs.delete(requestId);
      this.#catalogBytes -= incoming.bytes;
    }
  }

  /** One piece arrived. Throws `not_found` when nobody waits for it (any more), `frame_too_large` when it is too much. */
  catalogPiece(requestId: bigint, piece: Uint8Array, last: boolean): void {
    const incoming = this.#catalogs.get(requestId);
    if (incoming === undefined) throw new GatewayError("not_found", "Nobody waits for this catalog.");
    const bytes = piece.length + PIECE_BYTES;
    incoming.bytes += bytes;
    this.#catalogBytes += bytes;
    // For all that this agent sends at once: otherwise the bound would be this many times the number of requests.
    if (this.#catalogBytes > this.#limits.catalogBytesMax) {
      const error = new GatewayError("frame_too_large", "The catalogs that this agent sends are too large.");
      incoming.reject(catalogTooLarge(error));
      throw error;
    }
    incoming.pieces.push(piece);
    if (last) incoming.resolve(incoming.pieces);
  }

  catalogFailed({ requestId, fault }: CatalogFailed): void {
    this.#catalogs.get(requestId)?.reject(agentFault(fault));
  }

  /** Until `signal` aborts, then it resolves. Throws AgentFailure when the link ends, GatewayError when the agent cannot look any more. */
  async watchCatalog(resource: string, database: string, news: (news: CatalogNews) => void, signal: AbortSignal): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    const watchId = this.nextId();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(ignore);
    const aborted = (): void => resolve();
    this.#watches.set(watchId, { news, fail: reject });
    signal.addEventListener("abort", aborted, { once: true });
    if (signal.aborted) aborted();
    const stop = this.onEnd(reject);
    try {
      this.send({ case: "watchCatalog", value: { watchId, resource, database } });
      await promise;
    } finally {
      stop();
      signal.removeEventListener("abort", aborted);
      this.#watches.delete(watchId);
      if (!this.hasEnded) this.outbox.push({ message: { case: "endWatch", value: { watchId } } });
    }
  }

  catalogWatched({ watchId, changed, told, intervalMs, fault }: CatalogWatched): void {
    const watch = this.#watches.get(watchId);
    if (fault !== undefined) watch?.fail(agentFault(fault));
    else watch?.news({ changed, told, intervalMs });
  }

  /** More are asked for at once, fewer only now and then, so that a number that wavers is not a stream of messages. */
  #announceWarm(andFewer: boolean): void {
    const wanted = this.#warm.wanted(this.#clock.monotonicMs(), this.#waiting.size);
    if (wanted === this.#warmAnnounced || (wanted < this.#warmAnnounced && !andFewer) || this.hasEnded) return;
    this.#warmAnnounced = wanted;
    if (!this.outbox.push({ message: { case: "keepWarm", value: { connections: wanted } } })) this.end(deaf);
  }
}

interface IncomingCatalog extends Waiter<readonly Uint8Array[]> {
  readonly pieces: Uint8Array[];
  bytes: number;
}

function catalogTooLarge(cause: GatewayError): GatewayError {
  return new GatewayError("catalog_unavailable", "The structure of this database is larger than the gateway takes.", {
    cause,
    hint: "Ask the platform team to raise limits.catalogBytesMax, or to give the agent's account fewer schemas.",
  });
}

/** For promises that may be rejected before anybody waits for them: who waits is told all the same. */
function ignore(): void {}
