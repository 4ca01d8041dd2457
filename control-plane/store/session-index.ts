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

export interface SessionIndex {
  readonly consumer: RecordConsumer;
  /** Newest first, `limits.sessionListMax` at most. */
  list(): Promise<readonly SessionSummary[]>;
  get(id: string): Promise<SessionSummary | undefined>;
}

/** Rows in one INSERT: fourteen parameters each, 65,535 allowed. */
const ROWS_PER_INSERT = 1_000;

/** Marks sessions that an earlier run left open as lost, so call it before any gateway of this run serves. */
export async function openSessionIndex(options: SessionIndexOptions): Promise<SessionIndex> {
  const { db, limits, log } = options;
  const runStartedAtMs = options.clock.nowMs();
  const lost = await db
    .updateTable("sessions")
    .set((row) => ({ state: "lost", ended_at: row.ref("last_seen_at") }))
    .where("state", "=", "active")
    .executeTakeFirst();
  if (lost.numUpdatedRows > 0n) log.warn({ sessions: Number(lost.numUpdatedRows) }, "sessions of an earlier run were lost");

  return {
    consumer: {
      name: "session-index",
      consume: async (records) => {
        const bySession = groupBySession(records);
        if (bySession.size === 0) return;
        await db.transaction().execute(async (transaction) => {
          await addRecords(transaction, bySession, runStartedAtMs, log);
        });
      },
    },
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

async function addRecords(
  db: Kysely<Tables>,
  bySession: ReadonlyMap<string, readonly SessionRecord[]>,
  runStartedAtMs: number,
  log: Logger,
): Promise<void> {
  const ids = [...bySession.keys()].sort(); // one order of locking for everybody
  const known = new Map<string, SessionRow>();
  for (const row of await db
    .selectFrom("sessions")
    .selectAll()
    .where("id", "=", sql<string>`any(${ids}::text[])`)
    .orderBy("id")
    .forUpdate()
    .execute()) {
    known.set(row.id, toRow(row));
  }
  const changed: SessionRow[] = [];
  for (const id of ids) {
    const before = known.get(id);
    const after = foldRecords(before, bySession.get(id) ?? [], runStartedAtMs);
    if (after === undefined) log.warn({ session: id }, "records of a session whose beginning is unknown: not in the index");
    else if (after !== before) changed.push(after);
  }
  for (let at = 0; at < changed.length; at += ROWS_PER_INSERT) await upsert(db, changed.slice(at, at + ROWS_PER_INSERT));
}

async function upsert(db: Kysely<Tables>, rows: readonly SessionRow[]): Promise<void> {
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
      })),
    )
    .onConflict((conflict) =>
      conflict.column("id").doUpdateSet((row) => ({
        ended_at: row.ref("excluded.ended_at"),
        state: row.ref("excluded.state"),
        statements: row.ref("excluded.statements"),
        denied: row.ref("excluded.denied"),
        masked: row.ref("excluded.masked"),
        close_code: row.ref("excluded.close_code"),
        last_sequence: row.ref("excluded.last_sequence"),
        last_seen_at: row.ref("excluded.last_seen_at"),
      })),
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
