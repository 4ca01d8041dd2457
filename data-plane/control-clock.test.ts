/** A clock that is off is said, in both directions, until it is right again. */
import { expect, it } from "vitest";
import { ControlClock } from "./control-clock.ts";

const MINUTE_MS = 60_000;

it("says how far off the clock is, and nothing once it was set right", () => {
  let nowMs = 1_000_000_000;
  let monotonicMs = 5;
  const clock = new ControlClock({ nowMs: () => nowMs, monotonicMs: () => monotonicMs }, 5 * MINUTE_MS);
  expect(clock.fault).toBeNull();
  clock.told(nowMs + 10 * MINUTE_MS);
  expect(clock.fault).toBe("this machine's clock is 10.0 minutes behind the control plane's");
  nowMs += MINUTE_MS;
  monotonicMs += MINUTE_MS;
  expect(clock.fault).toContain("10.0 minutes behind");
  nowMs += 10 * MINUTE_MS;
  expect(clock.fault).toBeNull();
  nowMs += 6 * MINUTE_MS;
  expect(clock.fault).toBe("this machine's clock is 6.0 minutes ahead of the control plane's");
  clock.told(nowMs);
  expect(clock.fault).toBeNull();
});
