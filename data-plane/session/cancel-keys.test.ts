import { systemRandom } from "@sluice/core/system.ts";
import { describe, expect, it } from "vitest";
import { CancelKeys } from "./cancel-keys.ts";

describe("CancelKeys", () => {
  it("cancels only for the exact key of a living session", () => {
    const keys = new CancelKeys(systemRandom);
    let cancelled = 0;
    const key = keys.issue(0, () => {
      cancelled += 1;
    });
    expect(key.secret).toHaveLength(4);
    const wrong = Buffer.from(key.secret);
    wrong[3] = wrong[3]! ^ 1;
    keys.redeem(key.processId, wrong);
    keys.redeem(key.processId, key.secret.subarray(0, 3));
    keys.redeem(key.processId ^ 1, key.secret);
    expect(cancelled).toBe(0);
    keys.redeem(key.processId, key.secret);
    expect(cancelled).toBe(1);
    keys.revoke(key);
    keys.redeem(key.processId, key.secret);
    expect(cancelled).toBe(1);
  });

  it("gives protocol 3.2 a long secret", () => {
    expect(new CancelKeys(systemRandom).issue(2, () => {}).secret).toHaveLength(32);
  });
});
