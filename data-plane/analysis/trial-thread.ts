/**
 * A thread for one unusual text, which leaves the cores to everything else on a busy machine: it lowers its priority before it loads
 * anything. Linux knows threads as processes of their own; elsewhere it runs like the others.
 */
import { readlinkSync } from "node:fs";
import { setPriority } from "node:os";

/** Niceness: about a quarter of a core that others want too, so that a long but honest text is still tried within its deadline. */
const NICENESS = 5;

try {
  const thread = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
  if (thread > 0 && thread !== process.pid) setPriority(thread, NICENESS);
} catch {
  // Not Linux, or not allowed.
}
await import("./analysis-worker.ts");
