/** Choosing gateways by distance: who is taken, who stays, who moves. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseNearest, isNearer, type MeasuredGateway, type NearestChoice, noChoice, rankGateways } from "./nearest.ts";

const measured = (roundTrips: Readonly<Record<string, number>>, draining: readonly string[] = []): readonly MeasuredGateway[] =>
  Object.entries(roundTrips).map(([name, roundTripMs]) => ({ name, roundTripMs, draining: draining.includes(name) }));

describe("ranking", () => {
  test("by distance; what does not answer or drains is left out", () => {
    const gateways = measured({ far: 80, near: 5, gone: Number.POSITIVE_INFINITY, middle: 20, draining: 1 }, ["draining"]);
    expect(rankGateways("a", gateways)).toEqual(["near", "middle", "far"]);
  });

  test("equals are spread over by who asks, always the same for one", () => {
    const gateways = measured({ a: 1, b: 1.5, c: 0.7 });
    const firsts = Array.from({ length: 300 }, (_, index) => rankGateways(`agent-${index}`, gateways)[0]);
    for (const name of ["a", "b", "c"]) expect(firsts.filter((first) => first === name).length).toBeGreaterThan(60);
    expect(rankGateways("x", gateways)).toEqual(rankGateways("x", [...gateways].reverse()));
  });

  test("property: nobody stands before one that is nearer", () => {
    const gateways = fc.dictionary(fc.string(), fc.double({ min: 0, max: 500, noNaN: true }));
    fc.assert(
      fc.property(fc.string(), gateways, (chooser, roundTrips) => {
        const ranked = rankGateways(chooser, measured(roundTrips));
        expect(ranked.toSorted()).toEqual(Object.keys(roundTrips).toSorted());
        // Only neighbours in one group of equals may stand the wrong way round.
        const inversions = ranked.filter((name, at) =>
          ranked.slice(0, at).some((before) => isNearer(roundTrips[name]!, roundTrips[before]!)),
        );
        expect(inversions.filter((name) => roundTrips[name] === Math.min(...Object.values(roundTrips)))).toEqual([]);
      }),
    );
  });
});

describe("choosing", () => {
  const run = (count: number, rounds: readonly (readonly MeasuredGateway[])[]): readonly (readonly string[])[] => {
    let choice: NearestChoice = noChoice;
    return rounds.map((round) => (choice = chooseNearest("agent", count, round, choice)).chosen);
  };

  test("the nearest ones, as many as wanted and as there are", () => {
    const gateways = measured({ a: 30, b: 10, c: 20 });
    expect(run(2, [gateways])).toEqual([["b", "c"]]);
    expect(run(5, [gateways])).toEqual([["b", "c", "a"]]);
    expect(run(2, [[]])).toEqual([[]]);
  });

  test("moves when another is nearer twice in a row, and not before", () => {
    const first = measured({ a: 10, b: 40 });
    const closer = measured({ a: 30, b: 10 });
    expect(run(1, [first, closer, closer])).toEqual([["a"], ["a"], ["b"]]);
    expect(run(1, [first, closer, first, closer, first])).toEqual([["a"], ["a"], ["a"], ["a"], ["a"]]);
  });

  test("does not move for less than 20 % or 2 ms", () => {
    const close = measured({ a: 100, b: 85 });
    const tiny = measured({ a: 2.5, b: 0.6 });
    expect(run(1, [measured({ a: 10, b: 40 }), close, close, close])[3]).toEqual(["a"]);
    expect(run(1, [measured({ a: 10, b: 40 }), tiny, tiny, tiny])[3]).toEqual(["a"]);
  });

  test("leaves one that drains, does not answer or is gone at once", () => {
    const all = measured({ a: 10, b: 40 });
    expect(run(1, [all, measured({ a: 10, b: 40 }, ["a"])])[1]).toEqual(["b"]);
    expect(run(1, [all, measured({ a: Number.POSITIVE_INFINITY, b: 40 })])[1]).toEqual(["b"]);
    expect(run(1, [all, measured({ b: 40 })])[1]).toEqual(["b"]);
  });

  test("among equals comes back to a restarted one after a while", () => {
    const both = measured({ a: 1, b: 1 });
    const home = rankGateways("agent", both)[0]!;
    const other = home === "a" ? "b" : "a";
    const rounds = run(1, [both, measured({ [other]: 1 }), ...Array.from({ length: 10 }, () => both)]);
    expect(rounds.slice(0, 3)).toEqual([[home], [other], [other]]);
    expect(rounds.at(-2)).toEqual([other]);
    expect(rounds.at(-1)).toEqual([home]);
  });
});
