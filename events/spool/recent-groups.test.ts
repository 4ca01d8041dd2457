import { expect, test } from "vitest";
import { releasedRecord } from "../testing.ts";
import { RecentGroups } from "./recent-groups.ts";

test("forgets what was trimmed and keeps what stands behind it", () => {
  const recent = new RecentGroups(1_000);
  for (const at of [0, 100, 200]) recent.add(at, at + 100, [releasedRecord(1, at)]);
  recent.forgetBefore(150);
  expect(recent.from(0, 1_000)).toBeNull();
  expect(recent.from(100, 1_000)).toEqual({ records: [releasedRecord(1, 100), releasedRecord(1, 200)], next: 300 });
  recent.forgetBefore(300);
  expect(recent.from(200, 1_000)).toBeNull();
  recent.add(300, 1_300, [releasedRecord(1, 300)]);
  expect(recent.from(300, 1_000)?.next).toBe(1_300);
});

test("holds no more than its bytes, the newest last", () => {
  const recent = new RecentGroups(250);
  for (const at of [0, 100, 200, 300]) recent.add(at, at + 100, [releasedRecord(1, at)]);
  expect(recent.from(100, 1_000)).toBeNull();
  expect(recent.from(200, 1_000)?.next).toBe(400);
});
