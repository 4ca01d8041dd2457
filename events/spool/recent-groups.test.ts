import { expect, test } from "vitest";
import { Slabs } from "@sluice/core/slabs.ts";
import { releasedRecord } from "../testing.ts";
import { RecentGroups } from "./recent-groups.ts";
import { encodeIntoSlab, type SlabRecord } from "./record-codec.ts";

const slabs = new Slabs({ slabBytes: 64 * 1024, keptBytesMax: 0 });

function recordAt(from: number): SlabRecord {
  return encodeIntoSlab(slabs, releasedRecord(1, from), [Buffer.from("released")]);
}

function add(recent: RecentGroups, from: number, next: number): void {
  recent.add(from, next, [recordAt(from)]);
}

test("forgets what was trimmed and keeps what stands behind it", () => {
  const recent = new RecentGroups(1_000);
  for (const at of [0, 100, 200]) add(recent, at, at + 100);
  recent.forgetBefore(150, true);
  expect(recent.from(0, 1_000)).toBeNull();
  expect(recent.from(100, 1_000)).toMatchObject({
    from: 100,
    records: [releasedRecord(1, 100), releasedRecord(1, 200)],
    encoded: [recordAt(100).encoded, recordAt(200).encoded],
    next: 300,
  });
  recent.forgetBefore(300, true);
  expect(recent.from(200, 1_000)).toBeNull();
  add(recent, 300, 1_300);
  expect(recent.from(300, 1_000)?.next).toBe(1_300);
});

test("holds no more than its bytes, the oldest first, and lets go of what it does not hold", () => {
  const recent = new RecentGroups(250);
  const kept = recordAt(0);
  recent.add(0, 100, [kept]);
  add(recent, 100, 200);
  const refused = recordAt(200);
  let freed = 0;
  Object.defineProperty(refused.slab, "letGo", { value: () => (freed += 1), configurable: true });
  recent.add(200, 300, [refused]);
  expect(recent.from(0, 1_000)?.next).toBe(200);
  expect(freed).toBe(1);
  recent.forgetBefore(100, true);
  expect(freed).toBe(2); // the same slab
  recent.forgetBefore(200, false);
  expect(freed).toBe(2);
});
