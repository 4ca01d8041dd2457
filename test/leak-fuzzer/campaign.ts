/**
 * `node test/leak-fuzzer/campaign.ts --statements N --seed S`: generated sessions through the real gateway against real databases
 * that differ in protected values alone. Prints how far it is every five seconds, then what it covered; ends with status 1 on a
 * difference, which it adds to the corpus.
 */
import { parseArgs } from "node:util";
import { Campaign } from "./campaign-run.ts";
import { replayCorpus } from "./corpus-replay.ts";
import { addToCorpus } from "./corpus.ts";
import { startFuzzGateway, startFuzzTarget } from "./installation.ts";
import { measurePrecision } from "./precision.ts";

const { values } = parseArgs({
  options: {
    statements: { type: "string", default: "2000" },
    seed: { type: "string", default: "1" },
    launcher: { type: "string" },
    "no-corpus": { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
  },
});
const lanes = { redacted: 3, partial: 1 };
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const fuzz = await startFuzzTarget({ lanes });
const gateway = await startFuzzGateway(fuzz, values.launcher);
try {
  process.exitCode = (await main()) ? 0 : 1;
} finally {
  await gateway.stop();
  await fuzz.stop();
}

async function main(): Promise<boolean> {
  const faults: string[] = [];
  for (const fault of await replayCorpus(fuzz, gateway)) faults.push(`corpus: ${fault}`);
  const campaign = new Campaign({
    fuzz,
    gateway,
    lanes,
    seed: Number(values.seed),
    statements: Number(values.statements),
    findingsMax: 8,
    shrinkTriesMax: 250,
    onFinding: (finding) => {
      const { about, kind, seed, statements } = finding;
      say(`DIFFERENCE seed ${seed} (${kind})${finding.marker === undefined ? "" : ` marker ${finding.marker}`}`);
      for (const { sql, form } of statements) say(`    ${form}: ${sql}`);
      say(`    ${finding.left}\n    ${finding.right}`);
      if (!values["no-corpus"]) addToCorpus({ about, kind, seed, statements });
    },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => campaign.stop());
  const startedAt = performance.now();
  const timer = setInterval(() => {
    const seconds = (performance.now() - startedAt) / 1000;
    say(
      `${campaign.compared} statements in ${seconds.toFixed(0)} s, ${(campaign.compared / seconds).toFixed(0)}/s, ${campaign.findings.length} differences`,
    );
  }, 5_000);
  const result = await campaign.run().finally(() => clearInterval(timer));
  for (const line of result.coverage.lines()) say(line);
  if (values.verbose)
    for (const [text, { example }] of [...result.coverage.refusals, ...result.coverage.failures])
      say(`  ${text}\n      ${example}`);
  const { coverage } = result;
  say(
    `${result.compared} statements compared in ${result.seconds.toFixed(0)} s (${(result.compared / result.seconds).toFixed(0)}/s)`,
  );
  say(
    `${(100 * coverage.answered).toFixed(1)} % of those that return rows were permitted and did; ${coverage.refused} of ${coverage.work} refused, ${coverage.failed} failed, ${coverage.ended} sessions ended, ${coverage.cutShort} cut short by a catalog that was being read`,
  );
  for (const line of result.unsteady) say(`UNSTEADY ${line}`);
  const precision = await measurePrecision({ fuzz, gateway, seed: Number(values.seed), statements: 1_500 });
  for (const line of precision.lines) say(line);
  if (precision.share > precision.ceiling)
    faults.push(`precision: ${(100 * precision.share).toFixed(1)} % of unprotected cells were withheld`);
  for (const feature of coverage.faults) faults.push(`never permitted: ${feature}`);
  if (coverage.answered < 0.5) faults.push("fewer than half of the statements that return rows were permitted and did");
  if (result.findings.length > 0) faults.push(`${result.findings.length} differences`);
  for (const fault of faults) say(`FAULT ${fault}`);
  return faults.length === 0;
}
