/**
 * Classification and lineage over a corpus that nobody here wrote: `node test/corpus.ts [DIR…]` runs them over every statement of the
 * .sql files in the directories, by default over PostgreSQL's own regression suite, and prints what came of it. Exits 1 on a crash.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { index } from "@sluice/inspect/sql/postgres/testing.ts";
import { reportOf } from "./corpus/report.ts";
import { fetchRegressionSuite, readScripts } from "./corpus/source.ts";
import { tallyScripts } from "./corpus/tally.ts";

const given = process.argv.slice(2);
const directories = given.length > 0 ? given : await fetchRegressionSuite(join(tmpdir(), "sluice-corpus"));
const scripts = await readScripts(directories);
const tally = tallyScripts(scripts, index);
process.stdout.write(`${reportOf(`${scripts.length} scripts, against the tests' sample catalog`, tally)}\n`);
if (tally.crashes.length > 0 || tally.statements === 0) process.exitCode = 1;
