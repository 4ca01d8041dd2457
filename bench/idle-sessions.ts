/** What an idle TLS session costs in memory: many of them, each with one statement behind it, and what gateway and agent have grown by. */
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { portOf } from "../test/support/fleet.ts";
import { type Pace, residentBytes, type Row } from "./measure.ts";
import type { TwoHops } from "./two-hops.ts";

/** Open before anything is counted, and until the end: what the first sessions need for good is there then. */
const BEFOREHAND = 100;
const SESSIONS = 400;
const SESSIONS_QUICK = 100;
/** Handshakes at a time: the gateway takes so many from one address. */
const AT_A_TIME = 16;
/** For collectors to come round. */
const SETTLE_MS = 8_000;

export async function measureIdleSessions({ fleet, tls }: TwoHops, pace: Pace): Promise<Row> {
  const gateway = fleet.gateways[1]!; // the one with TLS to the caller
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({
      host: "127.0.0.1",
      port: portOf(gateway),
      user: "bench",
      password: tls.password,
      database: "bench-relaxed",
      ssl: { ca: await readFile(gateway.ready.caFile, "utf8"), rejectUnauthorized: true },
    });
    client.on("error", () => undefined);
    await client.connect();
    await client.query("SELECT abalance FROM pgbench_accounts WHERE aid = $1", [1]);
    return client;
  };
  const open = async (count: number): Promise<pg.Client[]> => {
    const clients: pg.Client[] = [];
    while (clients.length < count) {
      const next = Math.min(AT_A_TIME, count - clients.length);
      clients.push(...(await Promise.all(Array.from({ length: next }, connect))));
    }
    return clients;
  };
  const close = async (clients: readonly pg.Client[]): Promise<void> =>
    void (await Promise.all(clients.map((client) => client.end())));
  const resident = async (): Promise<readonly [gateway: number, agent: number]> => {
    await delay(SETTLE_MS);
    return [await residentBytes(gateway.ready.pid), await residentBytes(fleet.agents[0]!.ready.pid)];
  };
  const beforehand = await open(BEFOREHAND);
  const count = pace.quick ? SESSIONS_QUICK : SESSIONS;
  const before = await resident();
  const clients = await open(count);
  const after = await resident();
  await close([...beforehand, ...clients]);
  const [gatewayKB, agentKB] = [0, 1].map((at) => (after[at]! - before[at]!) / count / 1_000) as [number, number];
  const measured = (side: string, value: number): Row["measured"][number] => ({
    side,
    unit: "KB",
    median: value,
    rounds: [Number(value.toFixed(1))],
    cpuUsPerTransaction: {},
  });
  return {
    name: `memory of an idle TLS session, ${count} of them, resident`,
    measured: [measured("gateway", gatewayKB), measured("agent", agentKB)],
    verdicts: [{ of: "gateway", value: gatewayKB, better: "less", first: 100, later: 60 }],
  };
}
