/**
 * Accounts that Vault's database engine makes: one lease for all who use the same role of it, renewed at half its life, replaced
 * before it ends, given back at the end. Sessions may run on an account longer than it is handed out, so a lease that still
 * serves them is never given back early. Spec: Vault HTTP API, "Database secrets engine", "/sys/leases".
 */
import { GatewayError } from "@sluice/core/errors.ts";
import { leaseOf, type LeaseGrant, refusalOf, strangeAnswer } from "./vault-answers.ts";
import { encodePath, TIMER_MS_MAX, type VaultOptions, type VaultSession, type VaultToken } from "./vault-session.ts";

export interface Account {
  readonly username: string;
  readonly password: string;
}

export interface AccountRole {
  readonly mount: string;
  readonly role: string;
}

interface Lease {
  readonly id: string;
  readonly account: Account;
  readonly token: VaultToken;
  readonly isRenewable: boolean;
  /** As first granted. */
  readonly fullMs: number;
  readonly obtainedMs: number;
  /** Monotonic; grows at renewal. */
  endsAtMs: number;
  /** Near its longest life: the next upkeep replaces it. */
  isLast: boolean;
  uses: number;
}

interface Slot extends AccountRole {
  current: Lease | undefined;
  obtaining: Promise<Lease> | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** Upkeep is never busier than this, however short the lives that Vault gives. */
const UPKEEP_MS_MIN = 500;

export class LeasedAccounts {
  readonly #session: VaultSession;
  readonly #options: VaultOptions;
  readonly #slots = new Map<string, Slot>();
  /** Replaced, but perhaps not ended yet. */
  readonly #former = new Set<Lease>();
  #isClosed = false;

  constructor(session: VaultSession, options: VaultOptions) {
    this.#session = session;
    this.#options = options;
  }

  /** Throws GatewayError `secret_unavailable`. */
  async get(role: AccountRole): Promise<Account> {
    const slot = this.#slotOf(role);
    const lease = slot.current !== undefined && this.#lasts(slot.current) ? slot.current : await this.#obtainOnce(slot);
    lease.uses += 1;
    return lease.account;
  }

  /** The target refused it: the next one who asks gets another, unless it was made only just now. It ends by itself. */
  invalidate(role: AccountRole): void {
    const slot = this.#slots.get(keyOf(role));
    if (slot?.current === undefined) return;
    const ageMs = this.#options.clock.monotonicMs() - slot.current.obtainedMs;
    if (ageMs >= this.#options.limits.secretLeaseRefetchMs) this.#let(slot);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const slot of this.#slots.values()) {
      clearTimeout(slot.timer);
      if (slot.current !== undefined) this.#former.add(slot.current);
    }
    const leases = [...this.#former].filter((lease) => this.#lasts(lease));
    await Promise.all(leases.map((lease) => this.#revoke(lease)));
    this.#former.clear();
    this.#slots.clear();
  }

  #slotOf(role: AccountRole): Slot {
    const key = keyOf(role);
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    const slot: Slot = { ...role, current: undefined, obtaining: undefined, timer: undefined };
    this.#slots.set(key, slot);
    return slot;
  }

  #lasts(lease: Lease): boolean {
    // A lease ends with the token that it was got with.
    return this.#options.clock.monotonicMs() < Math.min(lease.endsAtMs, lease.token.endsAtMs);
  }

  async #obtainOnce(slot: Slot): Promise<Lease> {
    slot.obtaining ??= this.#obtain(slot).finally(() => {
      slot.obtaining = undefined;
    });
    return await slot.obtaining;
  }

  async #obtain(slot: Slot): Promise<Lease> {
    const { clock, log } = this.#options;
    const what = `the database account ${slot.mount}/${slot.role}`;
    const askedMs = clock.monotonicMs();
    const path = `/v1/${encodePath(slot.mount)}/creds/${encodePath(slot.role)}`;
    const { answer, token } = await this.#session.ask({ method: "GET", path });
    if (answer.status !== 200) throw refusalOf(this.#session.name, what, answer);
    const grant = leaseOf(answer);
    const account = grant === undefined ? undefined : accountOf(grant);
    if (grant === undefined || account === undefined) throw strangeAnswer(this.#session.name, "a leased database account");
    const lease: Lease = {
      id: grant.id,
      account,
      token,
      isRenewable: grant.isRenewable,
      fullMs: grant.durationMs,
      obtainedMs: askedMs,
      endsAtMs: askedMs + grant.durationMs,
      isLast: false,
      uses: 0,
    };
    if (this.#isClosed) {
      await this.#revoke(lease);
      throw new GatewayError("secret_unavailable", "The agent is shutting down.", { hint: "Try again in a moment." });
    }
    this.#let(slot);
    slot.current = lease;
    this.#keep(slot, lease);
    log.info({ account: `${slot.mount}/${slot.role}`, seconds: grant.durationMs / 1_000 }, "leased a database account");
    return lease;
  }

  /** Nobody gets it any more; whoever has it keeps it to its end. */
  #let(slot: Slot): void {
    clearTimeout(slot.timer);
    const lease = slot.current;
    slot.current = undefined;
    for (const former of this.#former) if (!this.#lasts(former)) this.#former.delete(former);
    if (lease !== undefined && this.#lasts(lease)) this.#former.add(lease);
  }

  /** Looks again after half of what is left. */
  #keep(slot: Slot, lease: Lease): void {
    const leftMs = Math.min(lease.endsAtMs, lease.token.endsAtMs) - this.#options.clock.monotonicMs();
    if (leftMs <= 0 || this.#isClosed) return;
    clearTimeout(slot.timer);
    slot.timer = setTimeout(() => void this.#upkeep(slot, lease), Math.min(Math.max(leftMs / 2, UPKEEP_MS_MIN), TIMER_MS_MAX));
    slot.timer.unref();
  }

  async #upkeep(slot: Slot, lease: Lease): Promise<void> {
    if (slot.current !== lease || this.#isClosed) return;
    try {
      const mustReplace = lease.isLast || !lease.isRenewable || lease.token.isSuperseded || !(await this.#renew(lease));
      if (slot.current !== lease || this.#isClosed) return;
      if (!mustReplace) return this.#keep(slot, lease);
      // An account that nobody asked for in its whole life is not made again.
      if (lease.uses === 0) return this.#let(slot);
      await this.#obtainOnce(slot);
    } catch (error) {
      const reason = error instanceof GatewayError ? error.message : "internal fault";
      const about = { account: `${slot.mount}/${slot.role}`, reason };
      if (!this.#isClosed) this.#options.log.warn(about, "a leased database account could not be renewed or replaced");
      if (slot.current === lease) this.#keep(slot, lease);
    }
  }

  /** False when it is gone. Throws when Vault could not be asked. */
  async #renew(lease: Lease): Promise<boolean> {
    const askedMs = this.#options.clock.monotonicMs();
    const answer = await this.#session.askWith(lease.token, {
      method: "PUT",
      path: "/v1/sys/leases/renew",
      body: { lease_id: lease.id, increment: Math.ceil(lease.fullMs / 1_000) },
    });
    if (answer.status >= 500 || answer.status === 429) throw refusalOf(this.#session.name, "a renewal of a lease", answer);
    const grant = answer.status === 200 ? leaseOf(answer) : undefined;
    if (grant === undefined) return false;
    lease.endsAtMs = askedMs + grant.durationMs;
    lease.isLast = grant.durationMs * 2 < lease.fullMs; // Vault gives less and less towards the longest life
    return true;
  }

  async #revoke(lease: Lease): Promise<void> {
    try {
      const answer = await this.#session.askWith(lease.token, {
        method: "PUT",
        path: "/v1/sys/leases/revoke",
        body: { lease_id: lease.id },
      });
      if (answer.status >= 400) throw refusalOf(this.#session.name, "the end of a lease", answer);
    } catch (error) {
      const reason = error instanceof GatewayError ? error.message : "internal fault";
      this.#options.log.warn({ reason }, "a leased database account could not be given back; it ends by itself");
    }
  }
}

function keyOf({ mount, role }: AccountRole): string {
  return `${mount}/creds/${role}`;
}

function accountOf({ data }: LeaseGrant): Account | undefined {
  const { username, password } = data;
  return typeof username === "string" && typeof password === "string" ? { username, password } : undefined;
}
