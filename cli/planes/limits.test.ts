import { defaultLimits } from "@sluice/core/limits.ts";
import { describe, expect, test } from "vitest";
import { limitsOf } from "./limits.ts";

describe("limitsOf", () => {
  test("keeps every default and takes what is configured", () => {
    expect(limitsOf({})).toEqual(defaultLimits);
    expect(limitsOf({ sessionsMax: 3 })).toEqual({ ...defaultLimits, sessionsMax: 3 });
  });

  test("waits the longest a timer can rather than not at all, and leaves other numbers alone", () => {
    const limits = limitsOf({
      authenticationTimeoutMs: 2 ** 31,
      catalogRefreshMs: Number.MAX_SAFE_INTEGER,
      spoolBytesMax: 2 ** 40,
    });
    expect([limits.authenticationTimeoutMs, limits.catalogRefreshMs, limits.spoolBytesMax]).toEqual([
      2 ** 31 - 1,
      2 ** 31 - 1,
      2 ** 40,
    ]);
  });
});
