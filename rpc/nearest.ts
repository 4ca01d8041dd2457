/**
 * Which gateways are the nearest: pure choice over measured round trips, shared by agents (which gateways to link to) and the CLI
 * (which gateway to send a caller to). Gateways that are about as near count as equal, and are spread over by a hash, so that not
 * everybody takes the same one.
 */
import { createHash } from "node:crypto";

export interface MeasuredGateway {
  readonly name: string;
  /** Infinity: it does not answer. */
  readonly roundTripMs: number;
  readonly draining: boolean;
}

/** What a choice is made from besides the measurements: the former choice, and who has been better since then. */
export interface NearestChoice {
  /** Nearest first. */
  readonly chosen: readonly string[];
  /** Measurements in a row in which a gateway that is not chosen would have been. */
  readonly streaks: ReadonlyMap<string, Streak>;
}

interface Streak {
  readonly nearer: number;
  readonly preferred: number;
}

export const noChoice: NearestChoice = { chosen: [], streaks: new Map() };

/** Nearer than another means by more than this share and by more than this time: less is noise. */
const NEARER_SHARE = 0.2;
const NEARER_MS = 2;
/** Nobody moves on one measurement. */
const NEARER_ROUNDS = 2;
/** Among equals it is no hurry: this only brings agents back to a gateway that was restarted. */
const PREFERRED_ROUNDS = 10;

/** True when `a` is nearer than `b` by more than noise. Milliseconds. */
export function isNearer(a: number, b: number): boolean {
  return b - a > NEARER_MS && a < b * (1 - NEARER_SHARE);
}

/** All that answer and do not drain, the ones to take first: by distance, equals in an order that differs from chooser to chooser. */
export function rankGateways(chooser: string, measured: readonly MeasuredGateway[]): readonly string[] {
  const left = measured
    .filter(({ roundTripMs, draining }) => Number.isFinite(roundTripMs) && !draining)
    .sort((a, b) => a.roundTripMs - b.roundTripMs);
  const ranked: string[] = [];
  for (let best = left[0]; best !== undefined; best = left[0]) {
    const nearest = best.roundTripMs;
    const equals = left.splice(
      0,
      left.filter(({ roundTripMs }) => !isNearer(nearest, roundTripMs)).length, // sorted: they are the first ones
    );
    const names = equals.map(({ name }) => name);
    ranked.push(...names.sort((a, b) => (weightOf(chooser, a) > weightOf(chooser, b) ? -1 : 1)));
  }
  return ranked;
}

/**
 * Up to `count` gateways. Of the former ones those stay that answer and do not drain, unless another has been nearer for two
 * measurements in a row. Call it once a measurement.
 */
export function chooseNearest(
  chooser: string,
  count: number,
  measured: readonly MeasuredGateway[],
  before: NearestChoice,
): NearestChoice {
  const ranked = rankGateways(chooser, measured);
  const roundTrips = new Map(measured.map(({ name, roundTripMs }) => [name, roundTripMs]));
  const distanceOf = (name: string): number => roundTrips.get(name) ?? Number.POSITIVE_INFINITY;
  const placeOf = (name: string): number => ranked.indexOf(name);
  const chosen = before.chosen.filter((name) => ranked.includes(name)).slice(0, count);
  for (const name of ranked) if (chosen.length < count && !chosen.includes(name)) chosen.push(name);
  const streaks = new Map<string, Streak>();
  for (const challenger of ranked) {
    const last = chosen.toSorted((a, b) => placeOf(a) - placeOf(b)).at(-1);
    if (chosen.includes(challenger) || last === undefined || placeOf(challenger) > placeOf(last)) continue;
    const streak = before.streaks.get(challenger);
    const nearer = isNearer(distanceOf(challenger), distanceOf(last)) ? (streak?.nearer ?? 0) + 1 : 0;
    const preferred = (streak?.preferred ?? 0) + 1;
    if (nearer >= NEARER_ROUNDS || preferred >= PREFERRED_ROUNDS) chosen.splice(chosen.indexOf(last), 1, challenger);
    else streaks.set(challenger, { nearer, preferred });
  }
  return { chosen: chosen.sort((a, b) => placeOf(a) - placeOf(b)), streaks };
}

/** Rendezvous hashing: each pair has a weight of its own, so that a gateway that comes or goes moves nobody else. */
function weightOf(chooser: string, gateway: string): string {
  return createHash("sha256").update(`${chooser}\0${gateway}`).digest("hex");
}
