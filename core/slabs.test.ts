import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Slab, Slabs } from "./slabs.ts";

describe("slabs", () => {
  test("are used again when everybody has let go, and not before", () => {
    const slabs = new Slabs({ slabBytes: 100, keptBytesMax: 1_000 });
    const first = slabs.room(60);
    first.slab.hold();
    const second = slabs.room(60);
    expect(second.slab).not.toBe(first.slab);
    first.slab.letGo();
    second.slab.letGo();
    expect(slabs.room(60).slab).not.toBe(first.slab); // one still reads it
    first.slab.letGo();
    const again = slabs.room(60);
    expect([again.slab, again.start]).toEqual([first.slab, 0]);
  });

  test("keep no more free memory than they may, and none that is larger than a slab", () => {
    const slabs = new Slabs({ slabBytes: 100, keptBytesMax: 100 });
    const large = slabs.room(101);
    expect(large.slab.memory.length).toBe(101);
    const rooms = [slabs.room(100), slabs.room(100), slabs.room(100)];
    slabs.room(100);
    for (const { slab } of [large, ...rooms]) slab.letGo();
    const next = [slabs.room(100).slab, slabs.room(100).slab, slabs.room(100).slab];
    expect(next.filter((slab) => [large, ...rooms].some((room) => room.slab === slab))).toHaveLength(1);
  });

  test("never write to what is held, whoever comes and goes", () => {
    const step = fc.oneof(
      fc.record({ write: fc.integer({ min: 1, max: 60 }), holds: fc.integer({ min: 0, max: 2 }) }),
      fc.record({ letGo: fc.nat(1_000) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const slabs = new Slabs({ slabBytes: 100, keptBytesMax: 300 });
        const held: { slab: Slab; bytes: Buffer; is: number }[] = [];
        steps.forEach((one, at) => {
          if ("letGo" in one) {
            const [gone] = held.length === 0 ? [] : held.splice(one.letGo % held.length, 1);
            gone?.slab.letGo();
          } else {
            const { slab, start } = slabs.room(one.write);
            const bytes = slab.memory.subarray(start, start + one.write).fill(at % 256);
            held.push({ slab, bytes, is: at % 256 });
            for (let more = 0; more < one.holds; more++) {
              slab.hold();
              held.push({ slab, bytes, is: at % 256 });
            }
          }
          for (const { bytes, is } of held) expect(bytes.every((byte) => byte === is)).toBe(true);
        });
      }),
    );
  });
});
