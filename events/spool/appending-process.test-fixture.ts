/** A process for the kill test: appends to the spool in argv[2] for ever, and prints each sequence once it is durable. */
import { writeSync } from "node:fs";
import { defaultLimits } from "@sluice/core/limits.ts";
import { releasedRecord, testLog } from "../testing.ts";
import { openFileSpool } from "./file-spool.ts";

const spool = await openFileSpool({ directory: process.argv[2]!, limits: defaultLimits, log: testLog() });
for (let sequence = 0; ; sequence++) {
  spool.append(releasedRecord(7, sequence, "x".repeat(sequence % 500)));
  await spool.durable();
  writeSync(1, `${sequence}\n`); // straight to the pipe: nothing is said that is not durable, and nothing is buffered
}
