import { expect, it } from "vitest";
import { CancelLimiter } from "./cancel-limiter.ts";

it("counts each source within its window", () => {
  let nowMs = 5;
  const limiter = new CancelLimiter(2, { nowMs: () => 0, monotonicMs: () => nowMs });
  expect(["a", "a", "a", "b"].map((source) => limiter.admits(source))).toEqual([true, true, false, true]);
  nowMs += 9_999;
  expect(limiter.admits("a")).toBe(false);
  nowMs += 1;
  expect(limiter.admits("a")).toBe(true);
});

it("does not remember more sources than it may, and takes what is left over as one", () => {
  const limiter = new CancelLimiter(2, { nowMs: () => 0, monotonicMs: () => 0 });
  for (let source = 0; source < 10_000; source += 1) expect(limiter.admits(`s${source}`)).toBe(true);
  expect(["x", "y", "z"].map((source) => limiter.admits(source))).toEqual([true, true, false]);
  expect(limiter.admits("s1")).toBe(true);
});
