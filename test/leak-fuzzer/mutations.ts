/**
 * `node test/leak-fuzzer/mutations.ts [--budget N] [--only NAME] [--seed S]`: switches off one rule at a time in a copy of the
 * sources and lets the fuzzer run against it, until it finds a difference or has compared N statements. Ends with status 1 when
 * a mutation that should be caught was not.
 */
import { parseArgs } from "node:util";
import { Campaign } from "./campaign-run.ts";
import { type FuzzTarget, startFuzzGateway, startFuzzTarget } from "./installation.ts";
import { type Mutation, mutations } from "./mutation-list.ts";
import { copySources, type SourceCopy } from "./source-copy.ts";

const { values } = parseArgs({
  options: {
    budget: { type: "string", default: "6000" },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});
const lanes = { redacted: 3, partial: 1 };
const say = (line: string): void => void process.stdout.write(`${line}\n`);

interface Verdict {
  readonly mutation: Mutation;
  readonly after: number | null;
  readonly compared: number;
  readonly example: string;
}

const fuzz = await startFuzzTarget({ lanes });
const copy = await copySources();
try {
  process.exitCode = (await main(fuzz, copy)) ? 0 : 1;
} finally {
  await copy.remove();
  await fuzz.stop();
}

async function main(target: FuzzTarget, sources: SourceCopy): Promise<boolean> {
  const wanted = mutations.filter(({ name }) => values.only === undefined || name.includes(values.only));
  const verdicts: Verdict[] = [];
  let faults = 0;
  for (const mutation of wanted) {
    try {
      const verdict = await tried(mutation, target, sources);
      verdicts.push(verdict);
      say(lineOf(verdict));
      if (verdict.after === null && mutation.notCaught === undefined) faults += 1;
    } catch (error) {
      faults += 1;
      say(`FAULT ${mutation.name}: ${error instanceof Error ? error.message.slice(0, 400) : String(error)}`);
    }
  }
  const caught = verdicts.filter(({ after }) => after !== null);
  say(`${caught.length} of ${verdicts.length} caught`);
  for (const { mutation, after } of verdicts) {
    if (after === null) say(`not caught: ${mutation.name}: ${mutation.notCaught ?? "FAULT: it should have been"}`);
  }
  return faults === 0;
}

async function tried(mutation: Mutation, target: FuzzTarget, sources: SourceCopy): Promise<Verdict> {
  const undo = await sources.patch(mutation.file, mutation.find, mutation.replace);
  try {
    const gateway = await startFuzzGateway(target, sources.launcher);
    try {
      const campaign = new Campaign({
        fuzz: target,
        gateway,
        lanes,
        seed: Number(values.seed),
        statements: Number(values.budget),
        findingsMax: 1,
        shrinkTriesMax: 0,
      });
      const { findings, compared, unsteady } = await campaign.run();
      for (const line of unsteady) say(`    unsteady: ${line.slice(0, 600)}`);
      const [found] = findings;
      if (values.verbose && found !== undefined)
        say(`    ${found.kind} ${found.marker ?? ""}\n    ${found.left}\n    ${found.right}`);
      const example = found?.statements.at(-1)?.sql ?? "";
      return { mutation, after: found?.after ?? null, compared, example };
    } finally {
      await gateway.stop();
    }
  } finally {
    await undo();
  }
}

function lineOf({ mutation, after, compared, example }: Verdict): string {
  const outcome = after === null ? `NOT in ${compared}` : `after ${after}`;
  return `${mutation.name.padEnd(46)}${outcome.padEnd(16)}${example.replaceAll(/\s+/g, " ").slice(0, 110)}`;
}
