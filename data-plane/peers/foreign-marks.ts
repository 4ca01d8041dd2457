/**
 * What other gateways have said of DDL of their sessions. A mark lasts until its gateway ends it, or until nothing was heard of it for
 * `ddlMarkKeptMs`: a gateway that died says nothing. Must never let an end that came first be overtaken by its begin.
 */
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { DdlFollower, DdlScope } from "../upstream/ddl.ts";

/** Of a mark's texts. Names of resources and databases have under 64 characters. */
const CHARACTERS_MAX = 512;
/** Marks of which it is known that they are over; what is in flight when one ends comes within seconds. */
const ENDED_MAX = 4_096;
/** Looks at what has not been heard of this many times within `ddlMarkKeptMs`. */
const LOOKS = 60;

interface ForeignMark {
  readonly gateway: string;
  readonly scope: DdlScope;
  heardMs: number;
}

export class ForeignMarks {
  readonly #limits: Limits;
  readonly #clock: Clock;
  readonly #marks = new Map<string, ForeignMark>();
  readonly #counts = new Map<string, number>();
  readonly #ended = new Set<string>();
  readonly #followers = new Set<DdlFollower>();
  #timer: NodeJS.Timeout | undefined;

  constructor(limits: Limits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Begins a mark, or says that it lasts. Throws `limit_reached`, `protocol_violation`. */
  begin(gateway: string, id: string, scope: DdlScope): void {
    const key = keyOf(gateway, id, scope);
    if (this.#ended.has(key)) return;
    const heardMs = this.#clock.monotonicMs();
    const known = this.#marks.get(key);
    if (known !== undefined) {
      known.heardMs = heardMs;
      return;
    }
    const count = this.#counts.get(gateway) ?? 0;
    if (count >= this.#limits.ddlMarksMax) {
      throw new GatewayError("limit_reached", `${count} transactions of the gateway ${gateway} with DDL are open already.`, {
        hint: "Wait until some of them are over.",
      });
    }
    this.#counts.set(gateway, count + 1);
    this.#marks.set(key, { gateway, scope, heardMs });
    for (const follower of this.#followers) follower.begin(key, scope);
    this.#timer ??= setInterval(() => this.#forgetSilent(), this.#limits.ddlMarkKeptMs / LOOKS).unref();
  }

  /** Ends a mark. One that is not known may have been lost by a restart: its change is read all the same. */
  end(gateway: string, id: string, scope: DdlScope): void {
    const key = keyOf(gateway, id, scope);
    if (this.#ended.has(key)) return;
    this.#remember(key);
    if (this.#marks.has(key)) this.#drop(key);
    else {
      for (const follower of this.#followers) {
        follower.begin(key, scope);
        follower.end(key);
      }
    }
  }

  follow(follower: DdlFollower): () => void {
    this.#followers.add(follower);
    for (const [key, { scope }] of this.#marks) follower.begin(key, scope);
    return () => void this.#followers.delete(follower);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#marks.clear();
    this.#followers.clear();
  }

  #forgetSilent(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, { heardMs }] of this.#marks) if (nowMs - heardMs > this.#limits.ddlMarkKeptMs) this.#drop(key);
  }

  #drop(key: string): void {
    const { gateway } = this.#marks.get(key)!; // it was found there
    this.#marks.delete(key);
    const count = (this.#counts.get(gateway) ?? 1) - 1;
    if (count > 0) this.#counts.set(gateway, count);
    else this.#counts.delete(gateway);
    if (this.#marks.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    for (const follower of this.#followers) follower.end(key);
  }

  #remember(key: string): void {
    this.#ended.add(key);
    if (this.#ended.size <= ENDED_MAX) return;
    const [oldest] = this.#ended;
    if (oldest !== undefined) this.#ended.delete(oldest);
  }
}

/** One gateway must not be able to end another's marks. */
function keyOf(gateway: string, id: string, { resource, database }: DdlScope): string {
  if (id === "" || id.length > CHARACTERS_MAX || resource.length > CHARACTERS_MAX || database.length > CHARACTERS_MAX)
    throw new GatewayError("protocol_violation", "A mark of DDL has no id, or texts that are too long.");
  return JSON.stringify([gateway, id]);
}
