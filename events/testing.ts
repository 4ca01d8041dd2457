/** Records and a silent log for the tests of events and recorder. Never imported by product code. */
import { parseSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { Log } from "./log.ts";
import type { SessionRecord } from "./session-events.ts";

/** A session id that is the same for the same number. */
export function testSessionId(number: number): SessionId {
  return parseSessionId(`s_${String(number).padStart(22, "0")}`)!; // the shape is right by construction
}

export function releasedRecord(session: number, sequence: number, bytes: Buffer | string = "released"): SessionRecord {
  return { sessionId: testSessionId(session), sequence, atMs: 1_000 + sequence, kind: "released", bytes: Buffer.from(bytes) };
}

export function openedRecord(session: number): SessionRecord {
  return {
    sessionId: testSessionId(session),
    sequence: 0,
    atMs: 1_000,
    kind: "opened",
    opened: {
      resource: "orders",
      database: "orders",
      protocol: "postgres",
      principal: { subject: "bot", issuer: "https://issuer", groups: ["agents"], owner: "alice", task: "" },
      clientAddress: "127.0.0.1",
      declared: {},
      policyVersion: "v1",
      recording: "strict",
    },
  };
}

export function closedRecord(session: number, sequence: number): SessionRecord {
  const closed = { code: "ok", statements: 1, denied: 0, masked: 0 };
  return { sessionId: testSessionId(session), sequence, atMs: 1_000 + sequence, kind: "closed", closed };
}

/** Keeps the sentences that were logged. */
export function testLog(): Log & { readonly sentences: string[] } {
  const sentences: string[] = [];
  const keep = (_fields: unknown, sentence: string): void => void sentences.push(sentence);
  return { sentences, info: keep, warn: keep, error: keep };
}
