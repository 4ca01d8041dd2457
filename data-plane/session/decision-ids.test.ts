import { expect, test } from "vitest";
import { newDecisionId } from "@sluice/core/ids.ts";
import { systemRandom } from "@sluice/core/system.ts";
import { pooledForIds } from "./decision-ids.ts";

test("ids never meet, few draws serve many, and one source has one pool", () => {
  let draws = 0;
  const random = {
    bytes: (count: number) => {
      draws += 1;
      return systemRandom.bytes(count);
    },
  };
  const pooled = pooledForIds(random);
  expect(pooledForIds(random)).toBe(pooled);
  const ids = new Set(Array.from({ length: 2_000 }, () => newDecisionId(pooled)));
  expect(ids.size).toBe(2_000);
  expect(draws).toBe(8);
});

test("gives as many bytes as are asked for, also more than it draws at once", () => {
  let next = 0;
  const counting = { bytes: (count: number) => Uint8Array.from({ length: count }, () => next++ % 256) };
  const pooled = pooledForIds(counting);
  const given = [3, 5_000, 16].map((count) => pooled.bytes(count));
  expect(given.map((bytes) => bytes.length)).toEqual([3, 5_000, 16]);
  expect(Array.from(given[0]!)).toEqual([0, 1, 2]);
});
