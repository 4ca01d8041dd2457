import { systemRandom } from "@sluice/core/system.ts";
import fc from "fast-check";
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

  it("says in each process id whose key it is; none is 0, negative or given twice", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_095 }), fc.uint8Array({ minLength: 4, maxLength: 4 }), (slot, bytes) => {
        let given = 0;
        // The same few bytes again and again, then other ones: as random as it gets when it is at its worst.
        const random = { bytes: (count: number) => (count === 4 && given++ < 4 ? bytes : systemRandom.bytes(count)) };
        const keys = new CancelKeys(random, { slot });
        const ids = Array.from({ length: 10 }, () => keys.issue(2, () => {}).processId);
        expect(new Set(ids).size).toBe(10);
        for (const id of ids) {
          expect(id).toBeGreaterThan(0);
          expect(id).toBeLessThan(2 ** 31);
          expect(id >>> 19).toBe(slot);
        }
      }),
    );
  });

  it("takes another slot for new keys, and keeps those of before", () => {
    const keys = new CancelKeys(systemRandom);
    let cancelled = 0;
    const former = keys.issue(2, () => {
      cancelled += 1;
    });
    keys.slot = 7;
    expect(keys.issue(2, () => {}).processId >>> 19).toBe(7);
    keys.redeem(former.processId, former.secret);
    expect(cancelled).toBe(1);
    for (const slot of [-1, 4_096, 1.5, Number.NaN]) {
      expect(() => {
        keys.slot = slot;
      }).toThrow(RangeError);
    }
  });

  it("forwards what is of another slot, and nothing else", () => {
    const keys = new CancelKeys(systemRandom, { slot: 2 });
    const forwarded: number[] = [];
    keys.redeem((5 << 19) | 1, Buffer.alloc(4));
    keys.forwardBy((slot) => void forwarded.push(slot));
    keys.redeem((5 << 19) | 1, Buffer.alloc(4));
    keys.redeem((2 << 19) | 1, Buffer.alloc(4));
    keys.redeem(1, Buffer.alloc(4));
    keys.redeem(-1, Buffer.alloc(4));
    keys.redeemHere((5 << 19) | 1, Buffer.alloc(4));
    expect(forwarded).toEqual([5]);
  });

  it("looks at no more than the limiter lets through", () => {
    const sources: string[] = [];
    const limiter = {
      admits: (source: string) => {
        sources.push(source);
        return source !== "10.0.0.9";
      },
    };
    const keys = new CancelKeys(systemRandom, { limiter });
    let cancelled = 0;
    const key = keys.issue(2, () => {
      cancelled += 1;
    });
    keys.redeem(key.processId, key.secret, "10.0.0.9");
    expect(cancelled).toBe(0);
    keys.redeem(key.processId, key.secret, "10.0.0.1");
    expect(cancelled).toBe(1);
    expect(sources).toEqual(["10.0.0.9", "10.0.0.1"]);
  });
});
