/**
 * The index of sessions: who, where, when, how much was refused or masked. Fed from the event bus, asked by the admin API. It
 * is durable before `consume` resolves, and a batch that comes again changes nothing. It never holds a statement or a value.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { RecordConsumer } from "@sluice/events/bus.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import { type Kysely, type Selectable, sql } from "kysely";
import type { Logger } from "pino";
import { countsInIndex, foldRecords, type SessionRow } from "./session-row.ts";
import type { SessionTable, Tables } from "./tables.ts";

export interface SessionIndexOptions {
  readonly db: Kysely<Tables>;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly log: Logger;
  /**
   * Whose sessions an earlier run of this process left open: `all` where this process is the whole installation, `own` where its
   * gateway is one among others, `none` where it has no gateway, so that sessions outlive it.
   */
  readonly ends: "all" | "own" | "none";
}

/** Where records come from: a gateway, its spool, and the place in the spool where the gateway's present run began. */
export interface RecordsOrigin {
  readonly gateway: string;
  readonly spoolId: string;
  readonly runStart: bigint | number;
}

/** A session as the API shows it. */
export interface SessionSummary {
  readonly id: string;
  readonly resource: string;
  readonly principal: { readonly subject: string; readonly groups: readonly string[]; readonly issuer: string };
  /** RFC 3339, UTC. */
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly state: "active" | "ended" | "lost";
  readonly statements: number;
  readonly denied: number;
  readonly masked: number;
  /** Why it ended; null while it runs or when nobody knows. */
  readonly closeCode: string | null;
}

export interface SessionIndexConsumer extends RecordConsumer {
  /** `consume`, of a gateway elsewhere. Several replicas may take batches at the same time, and the same one twice. */
  consumeFrom(origin: RecordsOrigin, records: readonly SessionRecord[]): Promise<void>;
}

export interface SessionIndex {
  readonly consumer: SessionIndexConsumer;
  /**
   * Marks sessions lost whose gateway has been away for `goneMs`, was forgotten, or began anew since. Returns how many. Meant for one
   * replica at a time; harmless on several.
   */
  markLost(goneMs: number): Promise<number>;
  /** Newest first, `limits.sessionListMax` at most. */
  list(): Promise<readonly SessionSummary[]>;
  get(id: string): Promise<SessionSummary | undefined>;
}

/** Rows in one INSERT: sixteen parameters each, 65,535 allowed. */
const ROWS_PER_INSERT = 1_000;

/** Marks sessions that an earlier run left open as lost, so call it before the gateway of this process serves. */
export async function openSessionIndex(options: SessionIndexOptions): Promise<SessionIndex> {
  const { db, limits, log, ends } = options;
  // Where gateways are elsewhere, this process's start says nothing about their sessions.
  const runStartedAtMs = ends === "none" ? 0 : options.clock.nowMs();
  if (ends !== "none") await loseFormer(db, ends, log);

  const add = async (records: readonly SessionRecord[], origin: RecordsOrigin | null): Promise<void> => {
    const bySession = groupBySession(records);
    if (bySession.size === 0 && origin === null) return;
    await db.transaction().execute(async (transaction) => {
      await addRecords(transaction, bySession, { runStartedAtMs, origin, log });
      if (origin !== null) await loseEarlierRuns(transaction, origin, log);
    });
  };

  return {
    consumer: {
      name: "session-index",
      consume: async (records) => await add(records, null),
      consumeFrom: async (origin, records) => await add(records, origin),
    },
    markLost: async (goneMs) => await loseGone(db, goneMs, log),
    list: async () => {
      const rows = await db
        .selectFrom("sessions")
        .selectAll()
        .orderBy("started_at", "desc")
        .orderBy("id", "desc")
        .limit(limits.sessionListMax)
        .execute();
      return rows.map((row) => summarise(row));
    },
    get: async (id) => {
      const row = await db.selectFrom("sessions").selectAll().where("id", "=", id).executeTakeFirst();
      return row === undefined ? undefined : summarise(row);
    },
  };
}

function groupBySession(records: readonly SessionRecord[]): Map<string, SessionRecord[]> {
  const bySession = new Map<string, SessionRecord[]>();
  for (const record of records) {
    if (!countsInIndex(record)) continue;
    const known = bySession.get(record.sessionId);
    if (known === undefined) bySession.set(record.sessionId, [record]);
    else known.push(record);
  }
  return bySession;
}

async function loseFormer(db: Kysely<Tables>, whose: "all" | "own", log: Logger): Promise<void> {
  let query = db
    .updateTable("sessions")
    .set((row) => ({ state: "lost", ended_at: row.ref("last_seen_at") }))
    .where("state", "=", "active");
  if (whose === "own") query = query.where("gateway", "is", null);
  const lost = await query.executeTakeFirst();
  if (lost.numUpdatedRows > 0n) log.warn({ sessions: Number(lost.numUpdatedRows) }, "sessions of an earlier run were lost");
}

/** Places in one spool only grow, so a run that began later says that the ones before are over. Other spools tell nothing of the order. */
async function loseEarlierRuns(db: Kysely<Tables>, { gateway, spoolId, runStart }: RecordsOrigin, log: Logger): Promise<void> {
  const { numAffectedRows } = await sql`
    update sessions set state = 'lost', ended_at = last_seen_at
    where state = 'active' and gateway = ${gateway} and split_part(spool, '/', 1) = ${spoolId}
      and split_part(spool, '/', 2)::numeric < ${String(runStart)}::numeric`.execute(db);
  if (numAffectedRows !== undefined && numAffectedRows > 0n) {
    log.warn({ gateway, sessions: Number(numAffectedRows) }, "sessions of an earlier run of a gateway were lost");
  }
}

async function loseGone(db: Kysely<Tables>, goneMs: number, log: Logger): Promise<number> {
  const { numAffectedRows = 0n } = await sql`
    update sessions set state = 'lost', ended_at = sessions.last_seen_at
    where state = 'active' and gateway is not null and not exists (
      select from nodes
      where nodes.role = 'gateway' and nodes.name = sessions.gateway and nodes.revoked_at is null
        and (nodes.connected_to is not null or nodes.last_seen_at > clock_timestamp() - ${goneMs} * interval '1 millisecond')
        and sessions.started_at >= to_timestamp(coalesce((nodes.status->>'startedAtMs')::float8, 0) / 1000))`.execute(db);
  if (numAffectedRows > 0n)
    log.warn({ sessions: Number(numAffectedRows) }, "sessions were lost: their gateways are gone or began anew");
  return Number(numAffectedRows);
}

interface Adding {
  readonly runStartedAtMs: number;
  readonly origin: RecordsOrigin | null;
  readonly log: Logger;
}

async function addRecords(
  db: Kysely<Tables>,
  bySession: ReadonlyMap<string, readonly SessionRecord[]>,
  { runStartedAtMs, origin, log }: Adding,
): Promise<void> {
  const ids = [...bySession.keys()].sort(); // one order of locking for everybody
  const known = new Map<string, SessionRow>();
  const others = new Set<string>();
  for (const row of await db
    .selectFrom("sessions")
    .selectAll()
    .where("id", "=", sql<string>`any(${ids}::text[])`)
    .orderBy("id")
    .forUpdate()
    .execute()) {
    known.set(row.id, toRow(row));
    if (origin !== null && row.gateway !== null && row.gateway !== origin.gateway) others.add(row.id);
  }
  const changed: SessionRow[] = [];
  for (const id of ids) {
    if (others.has(id)) {
      log.warn({ session: id, gateway: origin?.gateway }, "a gateway told of another's session: not in the index");
      continue;
    }
    const before = known.get(id);
    const after = foldRecords(before, bySession.get(id) ?? [], runStartedAtMs);
    if (after === undefined) log.warn({ session: id }, "records of a session whose beginning is unknown: not in the index");
    else if (after !== before) changed.push(after);
  }
  for (let at = 0; at < changed.length; at += ROWS_PER_INSERT) await upsert(db, changed.slice(at, at + ROWS_PER_INSERT), origin);
}

async function upsert(db: Kysely<Tables>, rows: readonly SessionRow[], origin: RecordsOrigin | null): Promise<void> {
  const gateway = origin?.gateway ?? null;
  const spool = origin === null ? null : `${origin.spoolId}/${origin.runStart}`;
  await db
    .insertInto("sessions")
    .values(
      rows.map((row) => ({
        id: row.id,
        resource: row.resource,
        subject: row.subject,
        issuer: row.issuer,
        groups: JSON.stringify(row.groups),
        started_at: new Date(row.startedAtMs),
        ended_at: row.endedAtMs === null ? null : new Date(row.endedAtMs),
        state: row.state,
        statements: row.statements,
        denied: row.denied,
        masked: row.masked,
        close_code: row.closeCode,
        last_sequence: row.lastSequence,
        last_seen_at: new Date(row.lastSeenAtMs),
        gateway,
        spool,
      })),
    )
    .onConflict((conflict) =>
      // A row that did not exist when it was asked for may have been made meanwhile, by a replica that knows more.
      conflict
        .column("id")
        .doUpdateSet((row) => ({
          ended_at: row.ref("excluded.ended_at"),
          state: row.ref("excluded.state"),
          statements: row.ref("excluded.statements"),
          denied: row.ref("excluded.denied"),
          masked: row.ref("excluded.masked"),
          close_code: row.ref("excluded.close_code"),
          last_sequence: row.ref("excluded.last_sequence"),
          last_seen_at: row.ref("excluded.last_seen_at"),
          gateway: row.ref("excluded.gateway"),
          spool: row.ref("excluded.spool"),
        }))
        .where((eb) => eb("excluded.last_sequence", ">=", eb.ref("sessions.last_sequence"))),
    )
    .execute();
}

function toRow(row: Selectable<SessionTable>): SessionRow {
  return {
    id: row.id,
    resource: row.resource,
    subject: row.subject,
    issuer: row.issuer,
    groups: row.groups,
    startedAtMs: row.started_at.getTime(),
    endedAtMs: row.ended_at?.getTime() ?? null,
    state: row.state,
    statements: row.statements,
    denied: row.denied,
    masked: row.masked,
    closeCode: row.close_code,
    lastSequence: row.last_sequence,
    lastSeenAtMs: row.last_seen_at.getTime(),
  };
}

function summarise(row: Selectable<SessionTable>): SessionSummary {
  return {
    id: row.id,
    resource: row.resource,
    principal: { subject: row.subject, groups: row.groups, issuer: row.issuer },
    startedAt: row.started_at.toISOString(),
    endedAt: row.ended_at?.toISOString() ?? null,
    state: row.state,
    statements: row.statements,
    denied: row.denied,
    masked: row.masked,
    closeCode: row.close_code,
  };
}
