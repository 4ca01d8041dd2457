import fc from "fast-check";
import { expect, it } from "vitest";
import { WarmSize } from "./warm-size.ts";

const bounds = { warmConnectionsMin: 2, warmConnectionsMax: 64 };

it("asks for few when nothing happens, and forgets a burst", () => {
  const size = new WarmSize(bounds);
  expect(size.wanted(0, 0)).toBe(2);
  expect(size.wanted(0, 5)).toBe(7);
  for (let taken = 0; taken < 1_000; taken += 1) size.taken(1_000);
  expect(size.wanted(1_000, 0)).toBeGreaterThan(20);
  expect(size.wanted(61_000, 0)).toBe(2);
});

it("asks for twice what is taken while one is being dialled", () => {
  const [near, far] = [new WarmSize(bounds), new WarmSize(bounds)];
  for (let nowMs = 0; nowMs < 60_000; nowMs += 10) {
    near.taken(nowMs);
    near.arrived(nowMs + 5);
    far.taken(nowMs);
    if (nowMs >= 200) far.arrived(nowMs);
  }
  // 100 a second: for 5 ms one connection more than at rest, for 200 ms forty.
  expect(near.wanted(60_000, 0)).toBe(2);
  expect(far.wanted(60_000, 0)).toBeGreaterThanOrEqual(38);
  expect(far.wanted(60_000, 0)).toBeLessThanOrEqual(44);
});

it("stays within its bounds whatever happens", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ afterMs: fc.nat(10_000), what: fc.constantFrom("taken", "arrived"), waiting: fc.nat(200) })),
      (steps) => {
        const size = new WarmSize(bounds);
        let nowMs = 0;
        for (const { afterMs, what, waiting } of steps) {
          nowMs += afterMs;
          if (what === "taken") size.taken(nowMs);
          else size.arrived(nowMs);
          const wanted = size.wanted(nowMs, waiting);
          expect(Number.isInteger(wanted) && wanted >= 2 && wanted <= 64).toBe(true);
        }
      },
    ),
  );
});
