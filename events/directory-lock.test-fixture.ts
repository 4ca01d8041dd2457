/** A process for the lock's test: takes the directory in argv[2], says so, and holds it until it is killed. */
import { writeSync } from "node:fs";
import { lockDirectory } from "./directory-lock.ts";

try {
  await lockDirectory(process.argv[2]!, "spool");
  writeSync(1, "locked\n");
  setInterval(() => undefined, 60_000);
} catch (error) {
  writeSync(1, `${String(error)}\n`);
}
