/**
 * `npm run test:chaos -- --minutes N [--seed S] [--callers C] [--logs DIR]`: the longer form of fleet-chaos.test.ts. Ends with status 1 when
 * anything was seen that must not be; the seed it prints does the same again.
 */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { runChaos } from "./support/fleet-chaos.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    seed: { type: "string" },
    callers: { type: "string", default: "4" },
    logs: { type: "string" },
  },
});
const minutes = Number(values.minutes);
const seed = values.seed === undefined ? randomInt(2 ** 32) : Number(values.seed);
const callersPerGateway = Number(values.callers);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

if (![minutes, seed, callersPerGateway].every((number) => Number.isFinite(number) && number >= 0) || callersPerGateway < 2) {
  process.stderr.write(
    "Use: npm run test:chaos -- --minutes N [--seed S] [--callers C] [--logs DIR], with two callers at least.\n",
  );
  process.exitCode = 2;
} else {
  say(`seed ${seed}, ${minutes} minutes, ${callersPerGateway} callers at each gateway`);
  const logs = values.logs === undefined ? {} : { logDirectory: values.logs };
  const report = await runChaos({ seed, breakingMs: minutes * 60_000, callersPerGateway, say, ...logs });
  process.exitCode = report.faults.length === 0 ? 0 : 1;
}
