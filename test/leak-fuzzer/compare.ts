/**
 * One session on two databases: the same statements, and whether what comes back is the same. A difference is looked at three
 * times: whether it comes again on fresh sessions, whether it comes too where the values are equal, and how little it takes.
 */
import type { RawClient } from "../support/raw-client.ts";
import type { WireMessage } from "../support/wire-messages.ts";
import { type Databases, type FuzzGateway, type Kind } from "./installation.ts";
import { findMarker } from "./markers.ts";
import { comparable } from "./normalise.ts";
import { exchange, type SentStatement } from "./sessions.ts";

export interface Difference {
  /** Which statement of those sent. */
  readonly at: number;
  readonly left: string;
  readonly right: string;
  /** Set when both sides are alike and hold a piece of a protected value. */
  readonly marker?: string;
}

export interface Pair {
  readonly left: RawClient;
  readonly right: RawClient;
}

export interface Place {
  readonly gateway: FuzzGateway;
  readonly kind: Kind;
  readonly databases: Databases;
  readonly lastOid: number;
}

export async function openPair({ gateway, kind }: Place, left: string, right: string): Promise<Pair> {
  const [one, other] = await Promise.all([gateway.connect(kind, left), gateway.connect(kind, right)]);
  await Promise.all([one, other].map((client) => exchange(client, [RESTART])));
  return { left: one, right: other };
}

/** What earlier sessions took from the sequence is forgotten. */
const RESTART: SentStatement = { sql: "BEGIN READ WRITE; SELECT setval('counter', 1, false); COMMIT", form: "simple" };

export async function closePair(pair: Pair): Promise<void> {
  await Promise.all([pair.left.end(), pair.right.end()]);
}

export interface Compared {
  readonly answers: readonly (readonly WireMessage[])[];
  readonly difference: Difference | undefined;
  /** A side could not be judged because the catalog was being read: from there on the two went different ways. */
  readonly cutShort: boolean;
}

/** Sends the statements to both and compares answer by answer, up to the first that differ. */
export async function comparePair(pair: Pair, place: Place, statements: readonly SentStatement[]): Promise<Compared> {
  const [left, right] = await Promise.all([exchange(pair.left, statements), exchange(pair.right, statements)]);
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const [one, other] = [comparable(left[at] ?? [], place.lastOid), comparable(right[at] ?? [], place.lastOid)];
    if (one !== other) {
      if ([one, other].some((answer) => answer.includes('"code":"catalog_unavailable"')))
        return { answers: left.slice(0, at), difference: undefined, cutShort: true };
      return { answers: left, difference: { at, left: one, right: other }, cutShort: false };
    }
    const marker = findMarker(place.kind, one, statements.map(({ sql }) => sql).join(" "));
    if (marker !== undefined) return { answers: left, difference: { at, left: one, right: other, marker }, cutShort: false };
  }
  return { answers: left, difference: undefined, cutShort: false };
}

/** The same statements on fresh sessions. `control`: on databases that hold equal values. */
export async function replay(
  place: Place,
  statements: readonly SentStatement[],
  control = false,
): Promise<Difference | undefined> {
  const { left, right, twin } = place.databases;
  const pair = await openPair(place, left, control ? twin : right);
  try {
    // One after the other: what is looked for must not hang on what was under way at the same time.
    for (const [at, statement] of statements.entries()) {
      const { difference, cutShort } = await comparePair(pair, place, [statement]);
      if (cutShort) return undefined;
      if (difference !== undefined && !(control && difference.marker !== undefined)) return { ...difference, at };
    }
    return undefined;
  } finally {
    await closePair(pair);
  }
}
