/**
 * Jobs that one replica runs at a time. Who holds the lease is in the store and by the database's clock, so that replicas whose
 * clocks differ agree. The holder stops working well before others may take over: it counts from before it asked for more time.
 * Two may still overlap when a process is suspended in mid step, so what a job writes must bear being written twice.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import { codeOf } from "./store.ts";
import type { Tables } from "./tables.ts";

export interface LeaseOptions {
  readonly db: Kysely<Tables>;
  /** Of the job. */
  readonly name: string;
  /** Of this process, different from every other's. */
  readonly holder: string;
  /** How long a holder that is not heard of keeps the job. Milliseconds; renewed at a third. */
  readonly ttlMs: number;
  /** Ends the wait and the work. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/**
 * Runs `work` whenever this process holds the lease, until `signal` aborts; resolves once the work has ended and the lease is
 * given back. The signal that `work` gets aborts when the lease is lost. Work that ends or throws is begun again (here or by
 * another replica) after `ttlMs`.
 */
export async function holdLease(options: LeaseOptions, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const { name, ttlMs, signal, log } = options;
  while (!signal.aborted) {
    const askedAtMs = performance.now();
    const held = await take(options).catch((error: unknown) => {
      log.warn({ lease: name, reason: codeOf(error) }, "the store does not answer: no lease for now");
      return false;
    });
    if (held) await workWhileHeld(options, askedAtMs, work);
    // Others may want it after a failure; and who did not get it asks often enough to take over soon after its end.
    await pause(held ? ttlMs : ttlMs / 3, signal);
  }
}

async function workWhileHeld(
  options: LeaseOptions,
  takenAtMs: number,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { name, log } = options;
  const done = new AbortController();
  const lost = new AbortController();
  const renewing = keepRenewing(options, takenAtMs, done.signal).then(() => lost.abort());
  try {
    await work(AbortSignal.any([options.signal, lost.signal]));
  } catch (error) {
    if (!options.signal.aborted && !lost.signal.aborted)
      log.error({ err: error, lease: name }, "a job of the control plane failed");
  }
  done.abort();
  await renewing;
  await giveBack(options).catch(() => undefined); // it ends by itself then
}

/** Returns when the lease is lost or the work has ended. A third of the time is left to the work for stopping. */
async function keepRenewing(options: LeaseOptions, takenAtMs: number, ended: AbortSignal): Promise<void> {
  const { name, ttlMs, signal, log } = options;
  const stop = AbortSignal.any([signal, ended]);
  let heldSinceMs = takenAtMs;
  let waitMs = ttlMs / 3;
  for (;;) {
    await pause(waitMs, stop);
    if (stop.aborted) return;
    const askedAtMs = performance.now();
    const leftMs = heldSinceMs + (2 * ttlMs) / 3 - askedAtMs;
    const asked = take(options).then(
      (held) => (held ? "held" : "taken"),
      () => "unknown",
    );
    const answer = leftMs <= 0 ? "late" : await Promise.race([asked, delay(leftMs, "late", { ref: false })]);
    if (stop.aborted) return;
    if (answer === "held") heldSinceMs = askedAtMs;
    if (answer === "taken" || answer === "late") {
      log.warn({ lease: name, answer }, "a job's lease is lost: the job stops here");
      return;
    }
    waitMs = answer === "held" ? ttlMs / 3 : ttlMs / 12;
  }
}

/** Takes it when it is free, has ended, or is ours already. */
async function take({ db, name, holder, ttlMs }: LeaseOptions): Promise<boolean> {
  const until = sql<Date>`clock_timestamp() + ${ttlMs} * interval '1 millisecond'`;
  const row = await db
    .insertInto("leases")
    .values({ name, holder, until })
    .onConflict((conflict) =>
      conflict
        .column("name")
        .doUpdateSet({ holder, until })
        .where((eb) => eb.or([eb("leases.until", "<", sql<Date>`clock_timestamp()`), eb("leases.holder", "=", holder)])),
    )
    .returning("holder")
    .executeTakeFirst();
  return row?.holder === holder;
}

async function giveBack({ db, name, holder }: LeaseOptions): Promise<void> {
  await db.deleteFrom("leases").where("name", "=", name).where("holder", "=", holder).execute();
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined); // aborted: the caller looks
}
