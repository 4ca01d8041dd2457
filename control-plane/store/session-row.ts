/**
 * From a session's records to its row in the index. Pure. Records may come twice and in any batches: what is at or below the
 * row's last sequence was counted before. Only counts and names are kept, never a statement.
 */
import { assertNever } from "@sluice/core/assert-never.ts";
import type { SessionRecord, StatementRecorded } from "@sluice/events/session-events.ts";

export interface SessionRow {
  readonly id: string;
  readonly resource: string;
  readonly subject: string;
  readonly issuer: string;
  readonly groups: readonly string[];
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  /** `lost`: its gateway went away without closing it. */
  readonly state: "active" | "ended" | "lost";
  readonly statements: number;
  readonly denied: number;
  readonly masked: number;
  readonly closeCode: string | null;
  /** The last record that counted. */
  readonly lastSequence: number;
  readonly lastSeenAtMs: number;
}

/** True for records that change a row. Released bytes, which are nearly all records, do not. */
export function countsInIndex(record: SessionRecord): boolean {
  return record.kind === "opened" || record.kind === "statement" || record.kind === "closed";
}

/**
 * Adds the records of one session, in order, to its row. Undefined when there is no row and no record that opens one.
 * `runStartedAtMs`: a session that was opened before it belongs to an earlier run, so that it is lost unless it was closed.
 */
export function foldRecords(
  row: SessionRow | undefined,
  records: readonly SessionRecord[],
  runStartedAtMs: number,
): SessionRow | undefined {
  let folded = row;
  for (const record of records) {
    if (folded !== undefined && record.sequence <= folded.lastSequence) continue;
    folded = folded === undefined ? openRow(record, runStartedAtMs) : addRecord(folded, record);
  }
  return folded;
}

function openRow(record: SessionRecord, runStartedAtMs: number): SessionRow | undefined {
  if (record.kind !== "opened") return undefined;
  const { resource, principal } = record.opened;
  const earlier = record.atMs < runStartedAtMs;
  return {
    id: record.sessionId,
    resource: storable(resource),
    subject: storable(principal.subject),
    issuer: storable(principal.issuer),
    groups: principal.groups.map(storable),
    startedAtMs: record.atMs,
    endedAtMs: earlier ? record.atMs : null,
    state: earlier ? "lost" : "active",
    statements: 0,
    denied: 0,
    masked: 0,
    closeCode: null,
    lastSequence: record.sequence,
    lastSeenAtMs: record.atMs,
  };
}

function addRecord(row: SessionRow, record: SessionRecord): SessionRow {
  const seen = {
    ...row,
    lastSequence: record.sequence,
    lastSeenAtMs: record.atMs,
    endedAtMs: row.state === "lost" ? record.atMs : row.endedAtMs,
  };
  switch (record.kind) {
    case "statement":
      return {
        ...seen,
        statements: row.statements + 1,
        denied: row.denied + (isRefused(record.statement) ? 1 : 0),
        masked: row.masked + (record.statement.decision["effect"] === "mask" ? 1 : 0),
      };
    case "closed": {
      // The gateway's own totals: they also hold what was refused before it could be recorded as a statement.
      const { code, statements, denied, masked } = record.closed;
      return { ...seen, state: "ended", endedAtMs: record.atMs, closeCode: storable(code), statements, denied, masked };
    }
    case "opened":
    case "released":
    case "finished":
    case "alert":
      return seen;
    default:
      return assertNever(record);
  }
}

/** PostgreSQL takes neither NUL nor half a pair in a text; a token may hold both, and one row must not keep out all others. */
function storable(text: string): string {
  return text.replaceAll("\0", "\u{fffd}").toWellFormed();
}

function isRefused(statement: StatementRecorded): boolean {
  const effect = statement.decision["effect"];
  return effect === "deny" || effect === "approve";
}
