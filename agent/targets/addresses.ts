/**
 * Which addresses of a target are tried, in which order, and for how long each: pure but for the memory of what answered last.
 * Knows nothing of protocols and secrets; that a secret may go to an address is checked by whoever connects.
 */
import { type ErrorCode, GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { TargetSpec } from "@sluice/core/snapshot.ts";

export type TargetAddress = Pick<TargetSpec, "host" | "port">;

/** New sessions begin with the address that answered last for this long; then the declared order counts again. */
const LAST_GOOD_MS = 30_000;
/** Targets remembered; the one that answered longest ago is forgotten first. */
const LAST_GOOD_MAX = 10_000;
/** Another address of the same database may do better; a wrong password or an unknown database is the same on all of them. */
const TRIED_ELSEWHERE: ReadonlySet<ErrorCode> = new Set(["target_unreachable", "secret_unavailable"]);

export class TargetAddresses {
  readonly #lastGood = new Map<string, { readonly address: TargetAddress; readonly atMs: number }>();

  /** All addresses, each once: what answered lately first, the others as declared. */
  inOrder(target: TargetSpec, nowMs: number): readonly TargetAddress[] {
    const declared = addressesOf(target);
    const last = this.#lastGood.get(keyOf(target));
    if (last === undefined || nowMs - last.atMs > LAST_GOOD_MS) return declared;
    const good = declared.filter((address) => isSame(address, last.address));
    return [...good, ...declared.filter((address) => !isSame(address, last.address))];
  }

  answered(target: TargetSpec, address: TargetAddress, nowMs: number): void {
    if (target.failover === undefined || target.failover.length === 0) return;
    const key = keyOf(target);
    this.#lastGood.delete(key);
    this.#lastGood.set(key, { address, atMs: nowMs });
    for (const oldest of this.#lastGood.keys()) {
      if (this.#lastGood.size <= LAST_GOOD_MAX) break;
      this.#lastGood.delete(oldest);
    }
  }
}

/**
 * Tries one address after the other until one succeeds. Each gets its share of what is left of `timeoutMs`, so that one that
 * hangs leaves time for the next. Throws the most telling GatewayError when none does, and at once what no other address would mend.
 */
export async function tryInOrder<Result>(
  addresses: readonly TargetAddress[],
  options: { readonly timeoutMs: number; readonly monotonicMs: () => number; readonly signal: AbortSignal },
  attempt: (address: TargetAddress, signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const endsAtMs = options.monotonicMs() + options.timeoutMs;
  const failures: GatewayError[] = [];
  for (const [index, address] of addresses.entries()) {
    const shareMs = Math.max(1, Math.floor((endsAtMs - options.monotonicMs()) / (addresses.length - index)));
    try {
      return await attempt(address, AbortSignal.any([options.signal, AbortSignal.timeout(shareMs)]));
    } catch (thrown) {
      const error = toGatewayError(thrown);
      if (options.signal.aborted || !TRIED_ELSEWHERE.has(error.code)) throw error;
      failures.push(error);
    }
  }
  // That no server answered is the less telling part when for another the agent's own configuration is wrong.
  throw failures.find(({ code }) => code !== "target_unreachable") ?? failures[0] ?? noAddress();
}

function addressesOf(target: TargetSpec): readonly TargetAddress[] {
  const all = [target, ...(target.failover ?? [])].map(({ host, port }) => ({ host, port }));
  return all.filter((address, index) => all.findIndex((other) => isSame(other, address)) === index);
}

function isSame(a: TargetAddress, b: TargetAddress): boolean {
  return a.host === b.host && a.port === b.port;
}

function keyOf(target: TargetSpec): string {
  return JSON.stringify([addressesOf(target), target.role ?? "any", target.database]);
}

function noAddress(): GatewayError {
  return new GatewayError("target_unreachable", "The resource declares no address.");
}
