/** Askers take turns, each within its bound; what is taken out is gone. */
import { expect, test } from "vitest";
import { FairQueue } from "./fair-queue.ts";

test("askers take turns, each in its own order", () => {
  const queue = new FairQueue<string>(100, 100, "free");
  for (const item of ["a1", "a2", "a3", "b1", "c1", "c2"]) queue.push(item[0]!, item);
  const taken: (string | undefined)[] = [];
  while (queue.length > 0) {
    const next = queue.first();
    taken.push(queue.shift());
    expect(taken.at(-1)).toBe(next);
  }
  expect(taken).toEqual(["a1", "b1", "c1", "a2", "c2", "a3"]);
  expect([queue.first(), queue.shift()]).toEqual([undefined, undefined]);
});

test("all together and each asker have a bound, and one does not count", () => {
  const queue = new FairQueue<string>(4, 2, "free");
  for (let n = 0; n < 10; n++) queue.push("free", `f${n}`);
  expect([queue.length, queue.refusal("a")]).toEqual([0, null]);
  queue.push("a", "a1");
  queue.push("a", "a2");
  expect([queue.refusal("a"), queue.refusal("b")]).toEqual(["asker-full", null]);
  queue.push("b", "b1");
  queue.push("c", "c1");
  expect(queue.refusal("d")).toBe("full");
  expect([queue.remove("b", "b1"), queue.remove("b", "b1"), queue.remove("x", "a1")]).toEqual([true, false, false]);
  expect([queue.refusal("d"), queue.length]).toEqual([null, 3]);
  expect(queue.drain()).toHaveLength(13);
  expect([queue.length, queue.first()]).toEqual([0, undefined]);
});
