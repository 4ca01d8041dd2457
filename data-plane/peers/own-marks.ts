/**
 * DDL of this gateway's own sessions, as all other gateways of the directory are told of it: before the statement goes out, again while
 * its transaction is open, and when it is over. Must never say that a gateway knows before that gateway has said so itself.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { GatewayPeerService, MarkPhase } from "@sluice/proto/sluice/peer/v1/peer_pb.ts";
import type { ControlLink } from "@sluice/rpc/control-link.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { Logger } from "pino";
import type { DdlScope } from "../upstream/ddl.ts";
import type { PeerChannels } from "./peer-channels.ts";

const MARK_ID_BYTES = 16;
/** Gateways may appear while others are told; then those are told as well, but not for ever. */
const ROUNDS_MAX = 3;

export interface OwnMarksOptions {
  /** This gateway's name. */
  readonly name: string;
  readonly control: Pick<ControlLink, "directory" | "onDirectory">;
  readonly channels: PeerChannels;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

interface OwnMark {
  readonly id: string;
  readonly session: SessionId;
  readonly scope: DdlScope;
  /** Every gateway that may know of it, by name. */
  readonly told: Map<string, Told>;
  endedMs: number | null;
}

interface Told {
  /** When it last said so, or when it was first asked. */
  sinceMs: number;
  /** It has said so at least once. */
  holds: boolean;
  asking: boolean;
}

export class OwnMarks {
  readonly #options: OwnMarksOptions;
  readonly #bySession = new Map<SessionId, OwnMark>();
  /** Over, and some gateway has not heard of it yet. */
  readonly #ending = new Set<OwnMark>();
  readonly #lost = new Set<(session: SessionId, error: GatewayError) => void>();
  readonly #stopWatching: () => void;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: OwnMarksOptions) {
    this.#options = options;
    this.#stopWatching = options.control.onDirectory(() => this.#repeat(false));
  }

  /** Open now, as another gateway is told that has just started. */
  get open(): readonly { readonly id: string; readonly scope: DdlScope }[] {
    return [...this.#bySession.values()];
  }

  announced(session: SessionId): boolean {
    const others = this.#others();
    if (others.length === 0) return true;
    const mark = this.#bySession.get(session);
    return mark !== undefined && others.every(({ name }) => mark.told.get(name)?.holds === true);
  }

  async announce(session: SessionId, scope: DdlScope): Promise<void> {
    const known = this.#bySession.get(session);
    const mark = known ?? this.#make(session, scope);
    const asked = new Set<string>();
    for (let round = 0; round < ROUNDS_MAX && mark.endedMs === null; round += 1) {
      const missing = this.#others().filter(({ name }) => mark.told.get(name)?.holds !== true && !asked.has(name));
      if (missing.length === 0) break;
      for (const { name } of missing) asked.add(name);
      await Promise.all(missing.map((gateway) => this.#begin(mark, gateway)));
    }
    // One that has left the directory meanwhile is not waited for.
    const deaf = this.#others().filter(({ name }) => mark.told.get(name)?.holds !== true);
    if (deaf.length === 0 || mark.endedMs !== null) return;
    if (known === undefined) this.#end(mark);
    throw unannounced(deaf.map(({ name }) => name));
  }

  end(session: SessionId): void {
    const mark = this.#bySession.get(session);
    if (mark !== undefined) this.#end(mark);
  }

  onLost(listener: (session: SessionId, error: GatewayError) => void): () => void {
    this.#lost.add(listener);
    return () => void this.#lost.delete(listener);
  }

  close(): void {
    this.#closed = true;
    this.#stopWatching();
    clearInterval(this.#timer);
    this.#lost.clear();
  }

  #others(): readonly DirectoryNode[] {
    const { control, name } = this.#options;
    return control.directory.filter((node) => node.role === "gateway" && node.name !== name);
  }

  #make(session: SessionId, scope: DdlScope): OwnMark {
    const { random, limits } = this.#options;
    const id = Buffer.from(random.bytes(MARK_ID_BYTES)).toString("base64url");
    const mark: OwnMark = { id, session, scope, told: new Map(), endedMs: null };
    this.#bySession.set(session, mark);
    this.#timer ??= setInterval(() => this.#repeat(true), limits.ddlMarkRenewMs).unref();
    return mark;
  }

  #end(mark: OwnMark): void {
    this.#bySession.delete(mark.session);
    mark.endedMs = this.#options.clock.monotonicMs();
    this.#ending.add(mark);
    for (const gateway of this.#others()) void this.#tellEnd(mark, gateway);
    this.#settle(mark);
  }

  /** What is open is said again, to all (`all`) or to those that do not hold it; what is over is said to those that have not heard. */
  #repeat(all: boolean): void {
    if (this.#closed) return;
    const others = this.#others();
    for (const mark of this.#bySession.values()) {
      for (const gateway of others) {
        if (all || mark.told.get(gateway.name)?.holds !== true) void this.#begin(mark, gateway);
      }
      if (all) this.#lookForLoss(mark, others);
    }
    for (const mark of this.#ending) {
      for (const gateway of others) void this.#tellEnd(mark, gateway);
      this.#settle(mark);
    }
    if (this.#bySession.size > 0 || this.#ending.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** A gateway that has not been heard of for this long will forget the mark before long, and serve what it believes in then. */
  #lookForLoss(mark: OwnMark, others: readonly DirectoryNode[]): void {
    const { clock, limits, log } = this.#options;
    const nowMs = clock.monotonicMs();
    const silent = others.filter(({ name }) => nowMs - (mark.told.get(name)?.sinceMs ?? nowMs) > limits.ddlMarkKeptMs / 2);
    if (silent.length === 0) return;
    const gateways = silent.map(({ name }) => name);
    log.warn({ sessionId: mark.session, gateways }, "other gateways do not answer any more: a session with open DDL is ended");
    for (const listener of this.#lost) listener(mark.session, unannounced(gateways));
  }

  /** Never rejects: what came of it stands in `told`. */
  async #begin(mark: OwnMark, gateway: DirectoryNode): Promise<void> {
    const { clock } = this.#options;
    let told = mark.told.get(gateway.name);
    if (told === undefined) mark.told.set(gateway.name, (told = { sinceMs: clock.monotonicMs(), holds: false, asking: false }));
    if (!(await this.#tell(mark, gateway, MarkPhase.BEGIN))) return;
    told.holds = true;
    told.sinceMs = clock.monotonicMs();
  }

  /** Only to those that were told of its begin; each is forgotten once it knows. */
  async #tellEnd(mark: OwnMark, gateway: DirectoryNode): Promise<void> {
    const told = mark.told.get(gateway.name);
    if (told === undefined || told.asking) return;
    told.asking = true;
    if (await this.#tell(mark, gateway, MarkPhase.END)) mark.told.delete(gateway.name);
    told.asking = false;
    this.#settle(mark);
  }

  /** Nobody is left who must hear of the end, or those who are left have forgotten it by themselves. */
  #settle(mark: OwnMark): void {
    const { clock, limits } = this.#options;
    const others = this.#others();
    const waits = others.some(({ name }) => mark.told.has(name));
    if (!waits || clock.monotonicMs() - (mark.endedMs ?? 0) > 2 * limits.ddlMarkKeptMs) this.#ending.delete(mark);
  }

  async #tell({ id, scope }: OwnMark, { name, addresses }: DirectoryNode, phase: MarkPhase): Promise<boolean> {
    const { channels, limits, log } = this.#options;
    if (addresses.control === null || this.#closed) return false;
    try {
      const request = { ...scope, markId: id, phase };
      const options = { deadlineMs: limits.ddlMarkTimeoutMs, idempotent: true };
      await channels.to(name, addresses.control).unary(GatewayPeerService.method.markCatalog, request, options);
      return true;
    } catch (error) {
      log.info({ err: error, gateway: name, resource: scope.resource }, "another gateway could not be told of DDL");
      return false;
    }
  }
}

function unannounced(gateways: readonly string[]): GatewayError {
  const names = gateways.join(", ");
  return new GatewayError(
    "ddl_unannounced",
    `The database's structure may not be changed now: the gateway ${names} does not answer, and its callers could read what changes unmasked.`,
    {
      hint: "Try again in a minute: a gateway that is gone is not waited for any longer then. If it stays, ask the platform team whether gateways reach each other.",
      detail: { gateway: names },
    },
  );
}
