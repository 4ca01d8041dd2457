/**
 * How long a snapshot may still be enforced without a word from the control plane. Time is what cannot be set back: monotonic
 * within the process (and the machine's own time since boot, which also counts while it sleeps), time since boot across restarts
 * of the process, and the wall clock only after a reboot. Whatever cannot be told counts as over.
 */
import { readFileSync } from "node:fs";
import type { Clock } from "@sluice/core/clock.ts";
import type { SnapshotLease } from "@sluice/rpc/snapshot-source.ts";

/** When the control plane was last heard of, in a form that survives the process. */
export interface Heard {
  /** Milliseconds since the Unix epoch. */
  readonly wallMs: number;
  /** Null where the machine does not tell. */
  readonly boot: BootTime | null;
}

/** One boot of one machine, and the milliseconds since then. */
export interface BootTime {
  readonly id: string;
  readonly ms: number;
}

export interface LeaseTimes {
  readonly leaseMs: number;
  readonly strictLeaseMs: number;
}

/** As Linux tells it. Null elsewhere. */
export function readBootTime(): BootTime | null {
  try {
    const id = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const seconds = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    return id === "" || !Number.isFinite(seconds) ? null : { id, ms: seconds * 1_000 };
  } catch {
    return null;
  }
}

export class Lease implements SnapshotLease {
  readonly #clock: Clock;
  readonly #readBoot: () => BootTime | null;
  #times: LeaseTimes = { leaseMs: 0, strictLeaseMs: 0 };
  /** Undefined: never heard. */
  #heard: { readonly monotonicMs: number; readonly kept: Heard } | undefined;

  constructor(clock: Clock, readBoot: () => BootTime | null) {
    this.#clock = clock;
    this.#readBoot = readBoot;
  }

  /** What the snapshot in force says. Times that make no sense are none. */
  set times({ leaseMs, strictLeaseMs }: LeaseTimes) {
    this.#times = { leaseMs: duration(leaseMs), strictLeaseMs: duration(strictLeaseMs) };
  }

  /** The control plane was heard of just now. */
  renew(): void {
    this.#heard = {
      monotonicMs: this.#clock.monotonicMs(),
      kept: { wallMs: this.#clock.nowMs(), boot: this.#readBoot() },
    };
  }

  /** Goes on from what an earlier process has kept. */
  restore(kept: Heard): void {
    const elapsedMs = this.#elapsedSince(kept);
    this.#heard = elapsedMs < 0 ? undefined : { monotonicMs: this.#clock.monotonicMs() - elapsedMs, kept };
  }

  /** For whoever keeps it on disk; null when it was never heard of. */
  get heard(): Heard | null {
    return this.#heard?.kept ?? null;
  }

  remainingMs(strict: boolean): number {
    if (this.#heard === undefined) return 0;
    const { monotonicMs, kept } = this.#heard;
    const boot = kept.boot === null ? null : this.#readBoot();
    const sinceBootMs = boot !== null && boot.id === kept.boot?.id ? boot.ms - kept.boot.ms : 0;
    const elapsedMs = Math.max(this.#clock.monotonicMs() - monotonicMs, sinceBootMs);
    return (strict ? this.#times.strictLeaseMs : this.#times.leaseMs) - elapsedMs;
  }

  /** Negative: a clock went backwards. */
  #elapsedSince({ wallMs, boot }: Heard): number {
    const now = boot === null ? null : this.#readBoot();
    if (boot !== null && now !== null && now.id === boot.id) return now.ms - boot.ms;
    return this.#clock.nowMs() - wallMs;
  }
}

function duration(ms: number): number {
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}
