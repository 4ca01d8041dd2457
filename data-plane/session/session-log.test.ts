import { describe, expect, test } from "vitest";
import type { Clock } from "@sluice/core/clock.ts";
import type { SessionRecord } from "@sluice/events/session-events.ts";
import type { Spool } from "@sluice/events/spool.ts";
import { testSessionId } from "@sluice/events/testing.ts";
import { SessionLog } from "./session-log.ts";

const clock: Clock = { nowMs: () => 5, monotonicMs: () => 5 };

function open(): { log: SessionLog; written: SessionRecord[]; durableAfter: number[] } {
  const written: SessionRecord[] = [];
  const durableAfter: number[] = [];
  const spool: Pick<Spool, "append" | "release" | "durable"> = {
    append: (record) => void written.push(record),
    release: (record, pieces) => {
      const bytes = Buffer.concat(pieces);
      written.push({ ...record, bytes });
      return { bytes, sent: () => {} };
    },
    durable: () => {
      durableAfter.push(written.length);
      return Promise.resolve();
    },
  };
  return { log: new SessionLog(testSessionId(1), spool as Spool, clock), written, durableAfter }; // the log uses no more of it
}

const ended = (number: number) => ({ kind: "finished", finished: { number, ok: true, tag: "SELECT 1", rows: 1 } }) as const;

describe("a session's log", () => {
  test("puts endings into the record of the bytes released with them, and numbers without gaps", () => {
    const { log, written } = open();
    log.append(ended(1));
    log.append(ended(2));
    expect(log.release([Buffer.from("ro"), Buffer.from("ws")]).bytes).toEqual(Buffer.from("rows"));
    log.append({ kind: "released", bytes: Buffer.from("more") });
    const base = { sessionId: testSessionId(1), atMs: 5, kind: "released" };
    expect(written).toEqual([
      { ...base, sequence: 0, bytes: Buffer.from("rows"), finished: [ended(1).finished, ended(2).finished] },
      { ...base, sequence: 1, bytes: Buffer.from("more") },
    ]);
  });

  test("records endings before whatever else follows them, and on their own when nothing does", () => {
    const { log, written } = open();
    log.append(ended(1));
    log.append({ kind: "closed", closed: { code: "closed", statements: 1, denied: 0, masked: 0 } });
    log.append(ended(2));
    log.settle();
    log.settle();
    expect(written.map(({ kind, sequence }) => [kind, sequence])).toEqual([
      ["finished", 0],
      ["closed", 1],
      ["finished", 2],
    ]);
  });

  test("durable covers endings that were waiting", async () => {
    const { log, durableAfter } = open();
    log.append(ended(1));
    await log.durable();
    expect(durableAfter).toEqual([1]);
  });
});
