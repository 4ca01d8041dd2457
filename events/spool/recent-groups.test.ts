import { expect, test } from "vitest";
import { releasedRecord } from "../testing.ts";
import { RecentGroups } from "./recent-groups.ts";
import { encodeRecord } from "./record-codec.ts";

function add(recent: RecentGroups, from: number, next: number): void {
  const record = releasedRecord(1, from);
  recent.add(from, next, [record], [encodeRecord(record)]);
}

test("forgets what was trimmed and keeps what stands behind it", () => {
  const recent = new RecentGroups(1_000);
  for (const at of [0, 100, 200]) add(recent, at, at + 100);
  recent.forgetBefore(150);
  expect(recent.from(0, 1_000)).toBeNull();
  expect(recent.from(100, 1_000)).toEqual({
    from: 100,
    records: [releasedRecord(1, 100), releasedRecord(1, 200)],
    encoded: [encodeRecord(releasedRecord(1, 100)), encodeRecord(releasedRecord(1, 200))],
    next: 300,
  });
  recent.forgetBefore(300);
  expect(recent.from(200, 1_000)).toBeNull();
  add(recent, 300, 1_300);
  expect(recent.from(300, 1_000)?.next).toBe(1_300);
});

test("holds no more than its bytes, the newest last", () => {
  const recent = new RecentGroups(250);
  for (const at of [0, 100, 200, 300]) add(recent, at, at + 100);
  expect(recent.from(100, 1_000)).toBeNull();
  expect(recent.from(200, 1_000)?.next).toBe(400);
});
