/**
 * A slice of the leak fuzzer: every case that was ever found, then generated sessions with a fixed seed, then how much of what
 * nobody protects is withheld. `campaign.ts` is the long form, `mutations.ts` shows that it would notice.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Campaign } from "./campaign-run.ts";
import { replayCorpus } from "./corpus-replay.ts";
import { type FuzzGateway, type FuzzTarget, startFuzzGateway, startFuzzTarget } from "./installation.ts";
import { measurePrecision } from "./precision.ts";

const lanes = { redacted: 3, partial: 1 };
const seed = 20_260_101;
/** Some hundred a second on two cores. */
const statements = 6_000;

let fuzz: FuzzTarget;
let gateway: FuzzGateway;
beforeAll(async () => {
  fuzz = await startFuzzTarget({ lanes });
  gateway = await startFuzzGateway(fuzz);
});
afterAll(async () => {
  await gateway?.stop();
  await fuzz?.stop();
});

describe("callers with masks, on databases that differ in protected values alone", () => {
  it("get the same bytes for every case that once differed", async () => {
    expect(await replayCorpus(fuzz, gateway)).toEqual([]);
  });

  it("get the same bytes for generated sessions", { timeout: 300_000 }, async () => {
    const campaign = new Campaign({ fuzz, gateway, lanes, seed, statements, findingsMax: 3, shrinkTriesMax: 150 });
    const { findings, coverage, compared } = await campaign.run();
    expect(findings).toEqual([]);
    expect(compared).toBeGreaterThanOrEqual(statements);
    // Were most of them refused, equal bytes would say little.
    expect(coverage.answered).toBeGreaterThan(0.45);
    expect(coverage.faults).toEqual([]);
  });

  it("get what nobody protects as it is", { timeout: 120_000 }, async () => {
    const { share, ceiling, cells, lines } = await measurePrecision({ fuzz, gateway, seed, statements: 1_000 });
    expect(cells).toBeGreaterThan(2_000);
    expect(share, lines.join("\n")).toBeLessThan(ceiling);
  });
});
