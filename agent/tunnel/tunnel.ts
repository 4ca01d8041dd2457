/**
 * An agent's tunnel: links to the nearest gateways and to those that ask for this agent, moved as gateways come, go, drain and
 * change their distance. Never opens anything that the agent's own declarations do not name.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { ControlLink, NodeStatus } from "@sluice/rpc/control-link.ts";
import { verifyNode } from "@sluice/rpc/identity/verify.ts";
import { chooseNearest, type MeasuredGateway, type NearestChoice, noChoice } from "@sluice/rpc/nearest.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import type { DirectoryNode } from "@sluice/rpc/nodes.ts";
import type { AgentMetrics } from "@sluice/telemetry/plane-metrics.ts";
import type { Logger } from "pino";
import { fraction } from "./backoff.ts";
import type { CarriedSession } from "./carried-session.ts";
import { GatewayLink } from "./gateway-link.ts";
import { carries } from "./link-run.ts";
import { measureGateways } from "./measure.ts";
import { type DialedGateway, GatewayDialer } from "./session-dialer.ts";
import type { AgentResources, TunnelContext } from "./tunnel-context.ts";

export interface TunnelOptions {
  readonly identity: NodeIdentity;
  /** Where the gateways are. */
  readonly control: Pick<ControlLink, "directory" | "onDirectory" | "statusChanged">;
  readonly resources: AgentResources;
  /** Opens targets and reads catalogs: the same agent that serves a gateway in its own process. */
  readonly agentLink: AgentLink;
  readonly config: { readonly nearest: number; readonly region: string };
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly metrics?: Pick<AgentMetrics, "bindingRefused">;
  /** What this agent says that it speaks; for tests. */
  readonly capability?: number;
}

export interface Tunnel {
  /** For the control plane. */
  status(): Pick<NodeStatus, "sessions" | "draining" | "links">;
  /** Opens that were not taken since the start. */
  readonly refusedOpens: number;
  /** Connections to gateways that wait for a session. */
  readonly warmConnections: number;
  /** A gateway has a caller and no agent. */
  dialGateway(name: string): void;
  /** The agent's declarations changed: gateways may be waiting for that. */
  resourcesChanged(): void;
  /** No new sessions; resolves when the running ones have ended or the time for that is over. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

export function openTunnel(options: TunnelOptions): Tunnel {
  return new AgentTunnel(options);
}

/** A measurement that one gateway holds up is not waited for when there is no link yet. */
const FIRST_CHOICE_MS = 1_000;
/** Between measurements while gateways are missing. */
const SHORT_MEASURE_MS = 1_500;
/** The directory changes in bursts. */
const DIRECTORY_SETTLE_MS = 50;
const DRAIN_CHECK_MS = 50;
/** Gateways end sessions that are not allowed any more by themselves, with a reason for the caller; those that do not are cut after this. */
const LEAVE_RESOURCE_MS = 2_000;

class AgentTunnel implements Tunnel {
  readonly #options: TunnelOptions;
  readonly #context: TunnelContext;
  readonly #dialer: GatewayDialer;
  readonly #links = new Map<string, GatewayLink>();
  readonly #carried = new Map<CarriedSession, DialedGateway>();
  readonly #roundTripMs = new Map<string, number>();
  /** Until when a link that a gateway asked for is kept, in monotonic time. */
  readonly #onDemand = new Map<string, number>();
  readonly #closing = new AbortController();
  readonly #stops: (() => void)[] = [];
  #choice: NearestChoice = noChoice;
  #wake: () => void = () => undefined;
  #review: NodeJS.Timeout | undefined;
  #draining = false;
  #refused = 0;
  readonly #done: Promise<void>;

  constructor(options: TunnelOptions) {
    const { config, identity, clock, control } = options;
    this.#options = options;
    this.#dialer = new GatewayDialer(identity, clock);
    this.#context = {
      ...options,
      region: config.region,
      dialer: this.#dialer,
      sessions: () => this.#carried.size,
      draining: () => this.#draining,
      started: (session, dialed) => void this.#carried.set(session, dialed),
      ended: (session) => void this.#carried.delete(session),
      refused: (reason) => {
        this.#refused += 1;
        options.metrics?.bindingRefused(reason);
      },
    };
    this.#stops.push(
      control.onDirectory(() => this.#wake()),
      identity.onChange(() => this.#recheck()),
    );
    this.#done = this.#follow();
  }

  get refusedOpens(): number {
    return this.#refused;
  }

  get warmConnections(): number {
    return [...this.#links.values()].reduce((sum, { idle }) => sum + idle, 0);
  }

  status(): ReturnType<Tunnel["status"]> {
    const links = [...this.#links.values()].filter(({ linked }) => linked);
    return {
      sessions: this.#carried.size,
      draining: this.#draining,
      links: links.map(({ gateway, sessions }) => ({
        name: gateway.name,
        sessions,
        roundTripUs: this.#roundTripUs(gateway.name),
      })),
    };
  }

  dialGateway(name: string): void {
    if (this.#draining || this.#closing.signal.aborted) return;
    this.#onDemand.set(name, this.#options.clock.monotonicMs() + this.#options.limits.linkOnDemandMs);
    this.#apply();
  }

  resourcesChanged(): void {
    this.#sayHealth();
    clearTimeout(this.#review);
    this.#review = setTimeout(() => this.#cutDisallowed(), LEAVE_RESOURCE_MS).unref();
  }

  async drain(): Promise<void> {
    this.#draining = true;
    this.#sayHealth();
    this.#options.control.statusChanged();
    const endsAtMs = this.#options.clock.monotonicMs() + this.#options.limits.drainTimeoutMs;
    while (this.#carried.size > 0 && this.#options.clock.monotonicMs() < endsAtMs) await delay(DRAIN_CHECK_MS);
  }

  async close(): Promise<void> {
    this.#draining = true;
    this.#closing.abort(new Error("the agent is shutting down"));
    clearTimeout(this.#review);
    for (const stop of this.#stops) stop();
    this.#wake();
    for (const session of this.#carried.keys()) session.destroy();
    await Promise.all([this.#done, ...[...this.#links.values()].map((link) => link.close())]);
    this.#links.clear();
    this.#dialer.close();
  }

  #sayHealth(): void {
    for (const link of this.#links.values()) link.sayHealth();
  }

  /** Measures from time to time and whenever the directory has changed, and goes by what it finds. */
  async #follow(): Promise<void> {
    const { limits, random } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const { promise: changed, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      this.#apply(); // what is gone or drains is left at once
      await this.#measure();
      this.#recheck(); // certificates run out without anybody saying so
      this.#choose();
      const pauseMs = (this.#isShort ? SHORT_MEASURE_MS : limits.gatewayMeasureMs) * (0.8 + 0.4 * fraction(random));
      const pausing = new AbortController();
      const pause = delay(pauseMs, undefined, { signal: AbortSignal.any([signal, pausing.signal]), ref: false });
      await Promise.race([changed, pause.catch(() => undefined)]);
      pausing.abort();
      if (!signal.aborted) await delay(DIRECTORY_SETTLE_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** There are gateways that do not answer, and fewer links than wanted: they may just be starting. */
  get #isShort(): boolean {
    const open = this.#gateways().filter(({ draining }) => !draining).length;
    return this.#choice.chosen.length < Math.min(this.#options.config.nearest, open);
  }

  async #measure(): Promise<void> {
    const gateways = this.#gateways();
    for (const name of this.#roundTripMs.keys()) {
      if (!gateways.some((gateway) => gateway.name === name)) this.#roundTripMs.delete(name);
    }
    const { limits } = this.#options;
    const impatient = setTimeout(() => {
      if (this.#choice.chosen.length === 0) this.#choose();
    }, FIRST_CHOICE_MS);
    try {
      await measureGateways(gateways, { dialer: this.#dialer, limits, signal: this.#closing.signal }, (name, roundTripMs) => {
        this.#roundTripMs.set(name, roundTripMs);
      });
    } finally {
      clearTimeout(impatient);
    }
  }

  #choose(): void {
    if (this.#closing.signal.aborted) return;
    const { config, identity, control } = this.#options;
    const measured = this.#gateways().map(
      ({ name, draining }): MeasuredGateway => ({
        name,
        draining,
        roundTripMs: this.#roundTripMs.get(name) ?? Number.POSITIVE_INFINITY,
      }),
    );
    this.#choice = chooseNearest(identity.self.name, config.nearest, measured, this.#choice);
    this.#apply();
    control.statusChanged();
  }

  /** Makes the links that are wanted, leaves the others when their sessions have ended. */
  #apply(): void {
    if (this.#closing.signal.aborted) return;
    const nowMs = this.#options.clock.monotonicMs();
    const gateways = new Map(this.#gateways().map((gateway) => [gateway.name, gateway]));
    for (const [name, link] of this.#links) {
      if (link.closed) this.#links.delete(name);
      else if (link.sessions > 0 && this.#onDemand.has(name)) {
        this.#onDemand.set(name, nowMs + this.#options.limits.linkOnDemandMs);
      }
    }
    for (const [name, untilMs] of this.#onDemand) if (untilMs < nowMs) this.#onDemand.delete(name);
    const wanted = new Set([...this.#choice.chosen, ...this.#onDemand.keys()]);
    for (const name of wanted) {
      const gateway = gateways.get(name);
      if (gateway === undefined || gateway.draining) continue;
      const link = this.#links.get(name);
      if (link === undefined) this.#links.set(name, this.#linkTo(gateway));
      else if (!isSamePlace(link.gateway, gateway)) this.#move(link, gateway);
      else link.leave(false);
    }
    for (const [name, link] of this.#links) {
      if (!wanted.has(name) || gateways.get(name)?.draining !== false) link.leave(true);
    }
  }

  /** The gateway listens somewhere else now: whatever was at the old address is gone. */
  #move(link: GatewayLink, gateway: DirectoryNode): void {
    void link.close();
    this.#links.set(gateway.name, this.#linkTo(gateway));
  }

  #linkTo(gateway: DirectoryNode): GatewayLink {
    return new GatewayLink({
      context: this.#context,
      gateway,
      roundTripUs: () => this.#roundTripUs(gateway.name),
      changed: () => this.#options.control.statusChanged(),
    });
  }

  #gateways(): readonly DirectoryNode[] {
    return this.#options.control.directory.filter(({ role, addresses }) => role === "gateway" && addresses.control !== null);
  }

  /** Own certificate, authorities or revocations changed, or time passed: gateways that are not accepted any more carry nothing on. */
  #recheck(): void {
    if (this.#closing.signal.aborted) return;
    const isAccepted = (dialed: DialedGateway): boolean => this.#isAccepted(dialed);
    for (const link of this.#links.values()) link.recheck(isAccepted);
    for (const [session, dialed] of this.#carried) {
      if (isAccepted(dialed)) continue;
      this.#options.log.warn({ gateway: dialed.gateway.name }, "session cut: the gateway's certificate is not accepted any more");
      session.destroy();
    }
    const carrying = [...this.#carried.values()].map(({ gateway }) => gateway.name);
    this.#dialer.forgetOthers(new Set([...this.#gateways().map(({ name }) => name), ...this.#links.keys(), ...carrying]));
  }

  /**
   * A session may outlive the certificate that it began with, but not the gateway's standing: one that was withdrawn long after shows in
   * no list of revocations by its first certificates, and one that has no valid certificate any more is nobody.
   */
  #isAccepted({ certificate, gateway }: DialedGateway): boolean {
    const { identity, clock } = this.#options;
    const newest = this.#dialer.newestOf(gateway.name) ?? gateway;
    if (identity.isRevoked(gateway.serial) || identity.isRevoked(newest.serial)) return false;
    const verdict = verifyNode(certificate, identity, clock.nowMs());
    return verdict.kind === "node" || (verdict.reason === "expired" && newest.notAfterMs > clock.nowMs());
  }

  /** A gateway that goes on with a resource which it may not serve any more, or which is gone, is not trusted to end that. */
  #cutDisallowed(): void {
    const { resources, identity, log } = this.#options;
    for (const [session, { gateway }] of this.#carried) {
      const resource = resources.find(session.resource);
      if (
        resource !== undefined &&
        carries(identity.self.labels, resource.agents ?? {}) &&
        carries(resource.labels, gateway.labels)
      )
        continue;
      log.warn(
        { gateway: gateway.name, resource: session.resource },
        "session cut: the gateway may not serve this resource any more",
      );
      session.destroy();
    }
  }

  #roundTripUs(name: string): number {
    const roundTripMs = this.#roundTripMs.get(name) ?? 0;
    return Number.isFinite(roundTripMs) ? Math.round(roundTripMs * 1_000) : 0;
  }
}

function isSamePlace(a: DirectoryNode, b: DirectoryNode): boolean {
  return a.addresses.control === b.addresses.control && a.addresses.sessions === b.addresses.sessions;
}
