/** One caller with a statement that is known, through a real gateway, while eight sessions send texts made to hurt the parser. */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { type Orders, startOrders } from "../test/support/orders.ts";
import type { Pace } from "./measure.ts";

export interface HostileFigures {
  /** With nobody else there. */
  readonly quietP99Ms: number;
  readonly p99Ms: number;
  /** Hostile texts that were answered with an error meanwhile. */
  readonly refused: number;
}

const SESSIONS = 8;

/** Each call gives another text, so that none is known: comment bombs, chains of casts and operators, brackets, long lists, deep reads. */
const texts: readonly ((n: number) => string)[] = [
  (n) => `SELECT ${n} ${"/*".repeat(250)}${"*/".repeat(250)}`,
  (n) => `SELECT ${n}${"::int".repeat(12_000)}`,
  (n) => `SELECT ${n}${"+1".repeat(300_000)}`,
  (n) => `SELECT ${"(".repeat(250)}${n}${")".repeat(250)}`,
  (n) => `SELECT ${n} WHERE 1 IN (${"1,".repeat(200_000)}2)`,
  (n) => `SELECT ${n} FROM ${"(SELECT * FROM ".repeat(60)}orders${") s".repeat(60)}`,
  (n) => `SELECT ${n} ${"UNION ALL SELECT 1 ".repeat(2_000)}`,
  (n) => `SELECT ${n}, '${"x".repeat(1_000_000)}'`,
];

export async function measureHostile({ quick }: Pace): Promise<HostileFigures> {
  const orders = await startOrders();
  try {
    const victim = await orders.connect(orders.dba);
    const quietP99Ms = await p99Of(victim, quick ? 2_000 : 5_000);
    const ending = new AbortController();
    let refused = 0;
    const hostile = Array.from({ length: SESSIONS }, (_, at) => hurt(orders, at, ending.signal, () => void (refused += 1)));
    await delay(500); // they have logged in and sent their first
    const p99Ms = await p99Of(victim, quick ? 4_000 : 15_000);
    ending.abort();
    await Promise.all(hostile);
    await victim.end();
    return { quietP99Ms, p99Ms, refused };
  } finally {
    await orders.stop();
  }
}

async function p99Of(client: pg.Client, forMs: number): Promise<number> {
  const taken: number[] = [];
  for (let n = 0; n < 20; n++) await client.query("SELECT id, state FROM orders WHERE id = 1");
  const end = performance.now() + forMs;
  while (performance.now() < end) {
    const started = performance.now();
    await client.query("SELECT id, state FROM orders WHERE id = 1");
    taken.push(performance.now() - started);
  }
  return taken.sort((a, b) => a - b)[Math.floor(taken.length * 0.99)]!;
}

/** Sends until told to end; a session that the gateway ends is replaced. */
async function hurt(orders: Orders, from: number, signal: AbortSignal, refused: () => void): Promise<void> {
  let client: pg.Client | undefined;
  for (let n = from; !signal.aborted; n++) {
    try {
      client ??= await orders.connect(orders.agent);
      await client.query(texts[n % texts.length]!(n));
    } catch (error) {
      refused();
      const lost = !(error instanceof Error && "severity" in error);
      if (lost) client = undefined;
    }
  }
  await client?.end().catch(() => undefined); // it may be gone already
}
