/**
 * What happens on one control stream between this agent and one gateway, from hello to its end: opens are bound to connections by
 * ticket, cancels and catalogs are served. Decides by the agent's own declarations and the gateway's certificate, never by what
 * the gateway says a resource is; every open is logged here, whatever came of it.
 */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { ResourceSpec } from "@sluice/core/snapshot.ts";
import {
  AgentLinkService,
  type LinkRequestSchema,
  type LinkResponse,
  type LinkWelcome,
  type Open,
  type SessionBindingSchema,
} from "@sluice/proto/sluice/link/v1/link_pb.ts";
import { agreeOn, CAPABILITY, CAPABILITY_MIN } from "@sluice/rpc/capabilities.ts";
import { toFault } from "@sluice/rpc/fault.ts";
import type { DuplexCall, GrpcChannel } from "@sluice/rpc/grpc.ts";
import { CarriedSession, refuse } from "./carried-session.ts";
import { CatalogSender } from "./catalog-sender.ts";
import { WatchReports } from "./watch-reports.ts";
import { type DialedGateway, exporterOf } from "./session-dialer.ts";
import { type Redemption, Tickets } from "./tickets.ts";
import type { TunnelContext } from "./tunnel-context.ts";
import { WarmConnections } from "./warm-connections.ts";

export interface LinkRunOptions {
  readonly context: TunnelContext;
  readonly gateway: string;
  /** From the directory, until a certificate was seen. */
  readonly gatewayLabels: Readonly<Record<string, string>>;
  readonly sessionsAddress: string | null;
  readonly channel: GrpcChannel;
  readonly roundTripUs: () => number;
  readonly welcomed: () => void;
  readonly changed: () => void;
}

/** Agents of this capability are told when a target connection may be used again. */
const RELEASE_CAPABILITY = 2;
/** The binding and its announcement travel on two connections. */
const ANNOUNCEMENT_WAIT_MS = 2_000;
const HEALTH_MS = 2_000;
/** Every so many of them one is sent even when nothing happens. */
const QUIET_HEALTHS = 5;
/** Cancels of one session that have not been delivered yet. */
const CANCELS_MAX = 8;

type Request = NonNullable<MessageInitShape<typeof LinkRequestSchema>["message"]>;

export class LinkRun {
  readonly #options: LinkRunOptions;
  readonly #ending = new AbortController();
  readonly #tickets: Tickets;
  readonly #announcements = new Map<bigint, () => void>();
  readonly #sessions = new Map<bigint, CarriedSession>();
  readonly #warm: WarmConnections;
  readonly #catalogs: CatalogSender;
  readonly #watches: WatchReports;
  #call: DuplexCall<typeof AgentLinkService.method.link> | undefined;
  #agreed = CAPABILITY_MIN;
  #sessionsAddress: string | null;
  #gatewayLabels: Readonly<Record<string, string>>;
  #opening = 0;
  #cancels = 0;
  #leaving = false;
  #said = "";
  #ticks = 0;

  constructor(options: LinkRunOptions) {
    const { context, gateway } = options;
    this.#options = options;
    this.#sessionsAddress = options.sessionsAddress;
    this.#gatewayLabels = options.gatewayLabels;
    this.#tickets = new Tickets(context.identity.self.name, gateway, context.limits.linkOpensMax);
    this.#warm = new WarmConnections({
      ...context,
      gateway,
      dial: (signal) => this.#dial(signal),
      onBound: (dialed, binding, rest) => void this.#bound(dialed, binding, rest),
    });
    this.#catalogs = new CatalogSender({
      ...context,
      channel: options.channel,
      resourceOf: (name) => this.#resourceOf(name, this.#gatewayLabels),
      failed: (requestId, fault) => this.#send({ case: "catalogFailed", value: { requestId, fault } }),
    });
    this.#watches = new WatchReports({
      ...context,
      resourceOf: (name) => this.#resourceOf(name, this.#gatewayLabels),
      say: (value) => this.#send({ case: "catalogWatched", value }),
    });
  }

  /** Until the stream ends or `signal` says so. Throws GatewayError; sessions that run then go on by themselves. */
  async run(signal: AbortSignal): Promise<void> {
    const { context, channel } = this.#options;
    const ending = AbortSignal.any([signal, this.#ending.signal]);
    const call = channel.duplex(AgentLinkService.method.link, { signal: ending });
    this.#call = call;
    const health = setInterval(() => this.#tick(), HEALTH_MS);
    const late = setTimeout(
      () => this.#ending.abort(new Error("the gateway did not welcome this agent")),
      context.limits.agentHelloTimeoutMs,
    );
    try {
      this.#send({
        case: "hello",
        value: {
          capability: context.capability ?? CAPABILITY,
          capabilityMin: CAPABILITY_MIN,
          region: context.region,
          snapshotSequence: context.resources.sequence,
        },
      });
      for await (const message of call.received) {
        if (message.message.case === "welcome") {
          clearTimeout(late);
          this.#welcome(message.message.value);
        } else this.#receive(message);
      }
      throw new GatewayError("node_unreachable", "The gateway ended the link.");
    } finally {
      clearInterval(health);
      clearTimeout(late);
      this.#call = undefined;
      this.#ending.abort(new Error("the link has ended"));
      this.#warm.close();
      this.#catalogs.close();
      this.#watches.close();
    }
  }

  /** Tells the gateway now what changed. */
  sayHealth(): void {
    const { context, roundTripUs } = this.#options;
    const value = {
      sessions: context.sessions(),
      draining: context.draining() || this.#leaving,
      roundTripUs: roundTripUs(),
      snapshotSequence: context.resources.sequence,
    };
    this.#said = healthText(value);
    this.#send({ case: "health", value });
  }

  /** This gateway shall open nothing more through this agent. */
  leave(leaving: boolean): void {
    if (this.#leaving === leaving) return;
    this.#leaving = leaving;
    this.sayHealth();
  }

  /** Connections that wait for a session. */
  get idle(): number {
    return this.#warm.idle;
  }

  /** Sessions that are carried or being opened. */
  get busy(): number {
    return this.#sessions.size + this.#opening;
  }

  /** Cuts everything that goes to a gateway whose certificate is not accepted any more. */
  recheck(isAccepted: (dialed: DialedGateway) => boolean): void {
    this.#warm.recheck(isAccepted);
  }

  #tick(): void {
    this.#ticks += 1;
    const { context, roundTripUs } = this.#options;
    const now = { sessions: context.sessions(), roundTripUs: roundTripUs() };
    if (this.#opening > 0 || this.#ticks % QUIET_HEALTHS === 0 || !this.#said.startsWith(`${now.sessions} `)) this.sayHealth();
  }

  #send(message: Request): void {
    if (this.#call === undefined || this.#call.send({ message })) return;
    this.#ending.abort(new Error("the gateway does not read its control stream"));
  }

  #welcome(welcome: LinkWelcome): void {
    const { context } = this.#options;
    this.#agreed = agreeOn(welcome, context.capability);
    if (welcome.sessionsAddress !== "") this.#sessionsAddress = welcome.sessionsAddress;
    this.#options.welcomed();
    this.sayHealth();
    this.#warm.keep(welcome.keepWarm);
  }

  #receive({ message }: LinkResponse): void {
    const { log } = this.#options.context;
    switch (message.case) {
      case "open":
        this.#announce(message.value);
        break;
      case "cancel":
        void this.#cancel(message.value.openId, message.value.cancelId);
        break;
      case "readCatalog":
        this.#catalogs.read(message.value);
        break;
      case "release":
        this.#sessions.get(message.value.openId)?.release();
        break;
      case "watchCatalog":
        this.#watches.begin(message.value);
        break;
      case "endWatch":
        this.#watches.end(message.value.watchId);
        break;
      case "keepWarm":
        this.#warm.keep(message.value.connections);
        break;
      case "welcome":
      case undefined:
        // A newer gateway may say more than this agent knows.
        log.debug({ gateway: this.#options.gateway }, "the gateway said something that is not understood");
        break;
    }
  }

  #announce(open: Open): void {
    const { context, gateway } = this.#options;
    const outcome = this.#tickets.announce({ ...open, startup: { ...open.startup } }, context.clock.monotonicMs());
    if (outcome !== "announced") {
      const about = { gateway, session: open.sessionId.slice(0, 64), outcome };
      context.refused(outcome);
      context.log.warn(about, "open refused: its ticket was not taken");
      return;
    }
    this.#announcements.get(open.openId)?.();
  }

  async #dial(signal: AbortSignal): Promise<DialedGateway> {
    const { context, gateway } = this.#options;
    if (this.#sessionsAddress === null) {
      throw new GatewayError("node_unreachable", "The gateway did not say where it takes session connections.");
    }
    const dialed = await context.dialer.dial(this.#sessionsAddress, gateway, signal);
    this.#gatewayLabels = dialed.gateway.labels;
    return dialed;
  }

  /** Never throws: whatever becomes of it is told to the gateway and logged. */
  async #bound(dialed: DialedGateway, binding: MessageShape<typeof SessionBindingSchema>, rest: Buffer): Promise<void> {
    const { context, gateway } = this.#options;
    const guard = guardConnection(dialed);
    this.#opening += 1;
    let about: Readonly<Record<string, unknown>> = { gateway };
    const startedMs = context.clock.monotonicMs();
    let session: CarriedSession | undefined;
    try {
      if (rest.length > 0) throw notBound("something came before the agent had answered");
      const { open } = await this.#redeem(dialed, binding);
      this.#warm.bound(true);
      about = { gateway, session: open.sessionId, resource: open.resource, database: open.database, account: open.account };
      if (context.draining()) throw new GatewayError("draining", "The agent is shutting down.");
      if (context.sessions() >= context.limits.sessionsMax) {
        throw new GatewayError("too_many_connections", "The agent carries as many sessions as it may.");
      }
      const resource = this.#resourceOf(open.resource, dialed.gateway.labels);
      session = new CarriedSession({ ...context, dialed, open, resource, releases: this.#agreed >= RELEASE_CAPABILITY });
      this.#sessions.set(open.openId, session);
      context.started(session, dialed);
      await session.open(guard.signal);
      guard.lift();
      context.log.info({ ...about, outcome: "opened", tookMs: Math.round(context.clock.monotonicMs() - startedMs) }, "open");
    } catch (thrown) {
      const error = toGatewayError(thrown);
      guard.lift();
      if (session === undefined) {
        if (error.code === "unauthorized") this.#warm.bound(false);
        context.refused(error.code);
        if (!dialed.socket.destroyed) refuse(dialed, error);
      }
      this.#ended(binding.openId, session);
      context.log.warn({ ...about, outcome: error.code, reason: error.message }, "open refused");
      return;
    } finally {
      this.#opening -= 1;
    }
    const end = await session.carry();
    this.#ended(binding.openId, session);
    context.log.debug({ ...about, end, tookMs: Math.round(context.clock.monotonicMs() - startedMs) }, "session ended");
  }

  #ended(openId: bigint, session: CarriedSession | undefined): void {
    if (session === undefined) return;
    if (this.#sessions.get(openId) === session) this.#sessions.delete(openId);
    this.#options.context.ended(session);
    this.#options.changed();
  }

  async #redeem(
    { socket }: DialedGateway,
    { openId, proof }: MessageShape<typeof SessionBindingSchema>,
  ): Promise<Extract<Redemption, { kind: "open" }>> {
    const { clock } = this.#options.context;
    const exporter = exporterOf(socket);
    let redeemed = this.#tickets.redeem(openId, proof, exporter, clock.monotonicMs());
    if (redeemed.kind === "unknown") {
      await this.#announcement(openId);
      redeemed = this.#tickets.redeem(openId, proof, exporter, clock.monotonicMs());
    }
    switch (redeemed.kind) {
      case "open":
        return redeemed;
      case "unknown":
        throw notBound("its ticket is not known");
      case "refused":
        throw notBound(refusals[redeemed.reason]);
      default:
        return assertNever(redeemed);
    }
  }

  /** Resolves when it came, or when it is late. One connection waits for each. */
  async #announcement(openId: bigint): Promise<void> {
    const { limits } = this.#options.context;
    if (this.#announcements.has(openId) || this.#announcements.size >= limits.linkOpensMax) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ANNOUNCEMENT_WAIT_MS);
    this.#announcements.set(openId, resolve);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#announcements.delete(openId);
    }
  }

  /** By the agent's own declaration. Throws `resource_unknown` or `unauthorized`. */
  #resourceOf(name: string, gatewayLabels: Readonly<Record<string, string>>): ResourceSpec {
    const { resources, identity } = this.#options.context;
    const resource = resources.find(name);
    if (resource === undefined || !carries(identity.self.labels, resource.agents ?? {})) {
      throw new GatewayError("resource_unknown", "The agent has no such resource.", {
        detail: { sequence: String(resources.sequence) },
      });
    }
    if (!carries(resource.labels, gatewayLabels)) {
      throw new GatewayError("unauthorized", "The gateway's certificate does not allow it to serve this resource.", {
        hint: "The labels in a gateway's join token say which resources it may serve.",
      });
    }
    return resource;
  }

  async #cancel(openId: bigint, cancelId: bigint): Promise<void> {
    const { context, gateway } = this.#options;
    const session = this.#sessions.get(openId);
    if (this.#cancels >= CANCELS_MAX * Math.max(1, this.#sessions.size)) {
      const error = new GatewayError("agent_unavailable", "The agent has too many cancel requests to deliver.");
      this.#send({ case: "cancelDone", value: { cancelId, fault: toFault(error) } });
      return;
    }
    this.#cancels += 1;
    try {
      await session?.cancel();
      this.#send({ case: "cancelDone", value: { cancelId } });
    } catch (thrown) {
      const error = toGatewayError(thrown);
      context.log.warn({ gateway, code: error.code, reason: error.message }, "cancel request not delivered");
      this.#send({ case: "cancelDone", value: { cancelId, fault: toFault(error) } });
    } finally {
      this.#cancels -= 1;
    }
  }
}

const refusals: Readonly<Record<Extract<Redemption, { kind: "refused" }>["reason"], string>> = {
  late: "its ticket is too old",
  used: "its ticket was used before",
  "wrong proof": "its proof is not for this connection",
};

/** All of `wanted`, with these values. */
export function carries(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value);
}

/** Until the agent has answered, the gateway may say nothing; that it goes is seen, because the socket is read. */
function guardConnection({ socket }: DialedGateway): { readonly signal: AbortSignal; lift(): void } {
  const gone = new AbortController();
  const onGone = (): void => gone.abort(new Error("the gateway closed the session connection"));
  const onData = (): void => void socket.destroy();
  socket.on("data", onData).on("end", onGone).on("close", onGone);
  return {
    signal: gone.signal,
    lift: () => {
      socket.pause();
      socket.off("data", onData).off("end", onGone).off("close", onGone);
    },
  };
}

function healthText({ sessions, draining }: { readonly sessions: number; readonly draining: boolean }): string {
  return `${sessions} ${draining}`;
}

function notBound(why: string): GatewayError {
  return new GatewayError("unauthorized", `The session connection was not bound: ${why}.`);
}
