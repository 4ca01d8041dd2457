import { expect, it } from "vitest";
import { Outbox } from "./outbox.ts";

it("gives all that it took, in order, also to a reader that came first", async () => {
  const outbox = new Outbox<number>(3);
  const read: number[] = [];
  const reading = (async () => {
    for await (const message of outbox) read.push(message);
  })();
  expect(outbox.push(1)).toBe(true);
  await new Promise(setImmediate);
  expect(read).toEqual([1]);
  expect([outbox.push(2), outbox.push(3), outbox.push(4), outbox.push(5)]).toEqual([true, true, true, false]);
  outbox.end();
  expect(outbox.push(6)).toBe(false);
  await reading;
  expect(read).toEqual([1, 2, 3, 4]);
});
