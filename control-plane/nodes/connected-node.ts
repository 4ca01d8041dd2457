/** One node that holds a control stream to this replica: who it is by its certificate, what it last reported, what is on its way to it. */
import type { Clock } from "@sluice/core/clock.ts";
import type { GatewayError } from "@sluice/core/errors.ts";
import type { NodeStatus } from "@sluice/rpc/control-link.ts";
import type { NodeCertificate } from "@sluice/rpc/nodes.ts";
import type { HelloFacts } from "./messages.ts";
import type { NodeReport, StoredVerdict } from "./node-store.ts";
import { Outbox } from "./outbox.ts";

export interface ConnectedFacts {
  readonly certificate: NodeCertificate;
  readonly hello: HelloFacts;
  /** Gateways: 1 to 4,095; 0 for others. */
  readonly slot: number;
  /** The newest that it speaks. */
  readonly capability: number;
}

export class ConnectedNode {
  readonly certificate: NodeCertificate;
  readonly hello: HelloFacts;
  readonly slot: number;
  readonly capability: number;
  readonly outbox: Outbox;
  /** What `EndSessions` it was told on this stream. */
  readonly toldCommands: Set<string> = new Set();
  /** What it said of the newest snapshot and the store does not have yet. */
  verdict: StoredVerdict | undefined;
  verdictUnderWay: StoredVerdict | undefined;
  readonly #clock: Clock;
  #status: NodeStatus = { sessions: 0, draining: false, links: [], spoolBytes: 0 };
  #reportedCertificate: { readonly serial: string; readonly notAfterMs: number };
  #heardAtMs: number;
  #lastWork: Promise<unknown> = Promise.resolve();
  #waitingWork = 0;
  readonly #wantedAtMs = new Map<string, number>();

  constructor({ certificate, hello, slot, capability }: ConnectedFacts, clock: Clock) {
    this.certificate = certificate;
    this.hello = hello;
    this.slot = slot;
    this.capability = capability;
    this.outbox = new Outbox(clock);
    this.#clock = clock;
    this.#heardAtMs = clock.monotonicMs();
    this.#reportedCertificate = { serial: certificate.serial, notAfterMs: certificate.notAfterMs };
  }

  get key(): string {
    return keyOf(this.certificate);
  }

  get status(): NodeStatus {
    return this.#status;
  }

  /** Something came from it. */
  heard(): void {
    this.#heardAtMs = this.#clock.monotonicMs();
  }

  silentForMs(): number {
    return this.#clock.monotonicMs() - this.#heardAtMs;
  }

  /** True when others should hear of it at once. */
  takeStatus(status: NodeStatus, certificate: { readonly serial: string; readonly notAfterMs: number } | null): boolean {
    const isNews = status.draining !== this.#status.draining;
    this.#status = status;
    if (certificate !== null) this.#reportedCertificate = certificate;
    return isNews;
  }

  /** True at most once in `intervalMs` for each name: a node that asks again and again is not a reason to ask others as often. */
  mayWant(name: string, intervalMs: number): boolean {
    const nowMs = this.#clock.monotonicMs();
    const last = this.#wantedAtMs.get(name);
    if (last !== undefined && nowMs - last < intervalMs) return false;
    if (this.#wantedAtMs.size >= WANTED_MAX) this.#wantedAtMs.clear();
    this.#wantedAtMs.set(name, nowMs);
    return true;
  }

  /**
   * Runs `work` after what was given before, without anybody waiting: a store that is slow must not stop the stream. False: too much
   * waits already, and this is left out.
   */
  later(work: () => Promise<void>, failed: (error: unknown) => void): boolean {
    if (this.#waitingWork >= WORK_MAX) return false;
    this.#waitingWork++;
    this.#lastWork = this.#lastWork
      .then(work)
      .catch(failed)
      .finally(() => this.#waitingWork--);
    return true;
  }

  end(error: GatewayError | null): void {
    this.outbox.end(error);
  }

  report(): NodeReport {
    const { role, name } = this.certificate;
    const { serial, notAfterMs } = this.#reportedCertificate;
    const status = { ...this.#status, startedAtMs: this.hello.startedAtMs, left: false };
    return { role, name, status, certificateSerial: serial, certificateNotAfterMs: notAfterMs };
  }
}

const WANTED_MAX = 1_000;
/** What a node reports beyond heartbeats is rare. */
const WORK_MAX = 32;

export function keyOf({ role, name }: { readonly role: string; readonly name: string }): string {
  return `${role}/${name}`;
}
