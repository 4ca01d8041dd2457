/** Folding a session's records: any batching and any repetition give the same row. */
import type { SessionId } from "@sluice/core/ids.ts";
import type { SessionRecord, SessionRecordBody } from "@sluice/events/session-events.ts";
import fc from "fast-check";
import { expect, it } from "vitest";
import { countsInIndex, foldRecords, type SessionRow } from "./session-row.ts";

const sessionId = "s_AAAAAAAAAAAAAAAAAAAAAA" as SessionId; // shaped like one
const statement = (effect: string): SessionRecordBody => ({
  kind: "statement",
  statement: { number: 1, phase: "query", text: "", parameters: [], decision: { effect } },
});
const opened: SessionRecordBody = {
  kind: "opened",
  opened: {
    resource: "orders",
    database: "orders",
    protocol: "postgres",
    principal: { subject: "ada", issuer: "https://idp", groups: ["agents"], owner: "", task: "" },
    clientAddress: "127.0.0.1",
    declared: {},
    policyVersion: "v",
    recording: "strict",
  },
};
const closed: SessionRecordBody = { kind: "closed", closed: { code: "terminated", statements: 9, denied: 3, masked: 2 } };
const bodies: readonly SessionRecordBody[] = [
  opened,
  statement("allow"),
  { kind: "released", bytes: Buffer.from("x") },
  statement("mask"),
  statement("deny"),
  { kind: "alert", alert: { code: "x", message: "y" } },
  statement("approve"),
  { kind: "finished", finished: { number: 1, ok: true, tag: "SELECT 1", rows: 1 } },
];
const session = (list: readonly SessionRecordBody[]): SessionRecord[] =>
  list.map((body, sequence) => ({ sessionId, sequence, atMs: 1_000 + sequence, ...body }));

const running: SessionRow = {
  id: sessionId,
  resource: "orders",
  subject: "ada",
  issuer: "https://idp",
  groups: ["agents"],
  startedAtMs: 1_000,
  endedAtMs: null,
  state: "active",
  statements: 4,
  denied: 2,
  masked: 1,
  closeCode: null,
  lastSequence: 6,
  lastSeenAtMs: 1_006,
};

it("counts statements, refusals and masked answers; takes the gateway's totals at the end", () => {
  const records = session([...bodies, closed]);
  expect(foldRecords(undefined, records.slice(0, -1).filter(countsInIndex), 0)).toEqual(running);
  expect(foldRecords(undefined, records, 0)).toMatchObject({
    state: "ended",
    endedAtMs: 1_008,
    closeCode: "terminated",
    statements: 9,
    denied: 3,
    masked: 2,
  });
});

it("gives the same row however the records are batched and repeated", () => {
  const records = session([...bodies, closed]).filter(countsInIndex);
  const whole = foldRecords(undefined, records, 0);
  fc.assert(
    fc.property(fc.array(fc.nat(records.length), { maxLength: 12 }), fc.nat(records.length - 1), (cuts, again) => {
      const at = [0, ...cuts.sort((a, b) => a - b), records.length];
      let row: SessionRow | undefined;
      for (let i = 1; i < at.length; i++) {
        row = foldRecords(row, records.slice(Math.max(0, (at[i - 1] ?? 0) - again), at[i]), 0);
      }
      expect(row).toEqual(whole);
    }),
  );
});

it("knows nothing without a beginning, and a session of an earlier run is lost until its end arrives", () => {
  const records = session([...bodies, closed]);
  expect(foldRecords(undefined, records.slice(1), 0)).toBeUndefined();
  const late = foldRecords(undefined, records.slice(0, 5), 5_000);
  expect(late).toMatchObject({ state: "lost", endedAtMs: 1_004, statements: 3 });
  expect(foldRecords(late, records.slice(5), 5_000)).toMatchObject({ state: "ended", endedAtMs: 1_008, statements: 9 });
});
