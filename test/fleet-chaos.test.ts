/** Every process of a fleet is killed and started again under load; a short slice of `npm run test:chaos`, with a seed of its own. */
import { expect, it } from "vitest";
import { runChaos, SERVED_AGAIN_MS } from "./support/fleet-chaos.ts";

const SEED = 20_260_101;

it("loses nothing, shows nothing and says what happens, whatever is killed", { timeout: 180_000 }, async () => {
  const report = await runChaos({
    seed: SEED,
    breakingMs: 40_000,
    callersPerGateway: 3,
    say: (line) => process.stdout.write(`   ${line}\n`),
  });
  expect(report.faults).toEqual([]);
  expect(report.episodes.length).toBeGreaterThanOrEqual(10);
  for (const { name, servedAgainMs, wholeAgainMs } of report.episodes) {
    expect(servedAgainMs, name).toBeLessThan(SERVED_AGAIN_MS);
    expect(wholeAgainMs, name).toBeLessThan(SERVED_AGAIN_MS);
  }
  expect(report.rows).toBeGreaterThan(500);
});
