/**
 * How many connections and sessions may be held, by whom. Counting only: it opens and closes nothing.
 * Every count that is taken is given back through the function that taking it returned, once.
 */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";

export type Release = () => void;

export class Admission {
  readonly #limits: Limits;
  #unauthenticated = 0;
  #sessions = 0;
  readonly #unauthenticatedByAddress = new Map<string, number>();
  readonly #sessionsByAddress = new Map<string, number>();
  readonly #sessionsByPrincipal = new Map<string, number>();

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get sessions(): number {
    return this.#sessions;
  }

  /** A stranger connects. Throws `too_many_connections` above the caps for connections that have not authenticated. */
  enter(address: string): Release {
    if (this.#unauthenticated >= this.#limits.unauthenticatedMax)
      throw tooMany("this gateway has too many connections that are still logging in");
    if (count(this.#unauthenticatedByAddress, address) >= this.#limits.unauthenticatedPerAddressMax) {
      throw tooMany("your address has too many connections that are still logging in");
    }
    this.#unauthenticated += 1;
    add(this.#unauthenticatedByAddress, address, 1);
    return once(() => {
      this.#unauthenticated -= 1;
      add(this.#unauthenticatedByAddress, address, -1);
    });
  }

  /** A principal opens a session. Throws `too_many_connections` above the caps per gateway, address and principal. */
  open(address: string, principal: string): Release {
    if (this.#sessions >= this.#limits.sessionsMax) throw tooMany("this gateway has reached its number of sessions");
    if (count(this.#sessionsByAddress, address) >= this.#limits.sessionsPerAddressMax)
      throw tooMany("your address has reached its number of sessions");
    if (count(this.#sessionsByPrincipal, principal) >= this.#limits.sessionsPerPrincipalMax)
      throw tooMany("you have reached your number of sessions");
    this.#sessions += 1;
    add(this.#sessionsByAddress, address, 1);
    add(this.#sessionsByPrincipal, principal, 1);
    return once(() => {
      this.#sessions -= 1;
      add(this.#sessionsByAddress, address, -1);
      add(this.#sessionsByPrincipal, principal, -1);
    });
  }
}

function tooMany(what: string): GatewayError {
  return new GatewayError("too_many_connections", `Connection refused: ${what}.`, {
    hint: "Close connections that are not in use, use a pool, or try again shortly.",
  });
}

function count(counts: Map<string, number>, key: string): number {
  return counts.get(key) ?? 0;
}

function add(counts: Map<string, number>, key: string, difference: number): void {
  const next = count(counts, key) + difference;
  if (next === 0) counts.delete(key);
  else counts.set(key, next);
}

function once(release: Release): Release {
  let released = false;
  return () => {
    if (released) return;
    released = true;
    release();
  };
}
