/** Moves of the sequence: the first at once, later ones ever more seldom, none forgotten. */
import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createPaces } from "./paces.ts";

const log = pino({ level: "silent" });
const clock = { nowMs: () => Date.now(), monotonicMs: () => Date.now() };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("moves at once, then at a pace that slows down, always to the highest that was asked for", async () => {
  const paces = createPaces(clock, log);
  const moved: bigint[] = [];
  const move = async (sequence: bigint): Promise<void> => void moved.push(sequence);
  await paces.run(5n, move);
  expect(moved).toEqual([5n]);
  for (let asked = 6n; asked < 100n; asked += 1n) await paces.run(asked, move);
  await paces.run(7n, move);
  expect(moved).toEqual([5n]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(moved).toEqual([5n, 99n]);
  await paces.run(100n, move);
  await vi.advanceTimersByTimeAsync(1_999);
  expect(moved).toEqual([5n, 99n]);
  await vi.advanceTimersByTimeAsync(1);
  expect(moved).toEqual([5n, 99n, 100n]);
  paces.close();
});

it("costs a liar's installation few snapshots an hour, and an honest one's next restore nothing", async () => {
  const paces = createPaces(clock, log);
  let moves = 0;
  const move = async (): Promise<void> => void moves++;
  for (let second = 0; second < 3_600; second += 1) {
    await paces.run(BigInt(second), move);
    await vi.advanceTimersByTimeAsync(1_000);
  }
  expect(moves).toBeLessThan(20);
  await vi.advanceTimersByTimeAsync(2 * 3_600_000);
  const before = moves;
  await paces.run(1n, move);
  expect(moves).toBe(before + 1);
  paces.close();
});

it("forgets what waits when it is closed", async () => {
  const paces = createPaces(clock, log);
  const move = vi.fn(async () => undefined);
  await paces.run(1n, move);
  await paces.run(2n, move);
  paces.close();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(move).toHaveBeenCalledTimes(1);
});
