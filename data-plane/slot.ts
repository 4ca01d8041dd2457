/**
 * This gateway's number among the others, part of the cancel keys it issues. It comes from the control plane and is kept, so that a
 * start without the control plane goes on issuing keys that other gateways know where to send.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";

export interface KeptSlot {
  /** As of the last run; 0: none. */
  readonly number: number;
  /** In the background. */
  keep(slot: number): void;
}

const SLOT_MAX = 4_095;

export async function openSlot(directory: string, log: Logger): Promise<KeptSlot> {
  const file = join(directory, "slot");
  const text = await readFile(file, "utf8").catch(() => "");
  const number = /^\d{1,4}\n$/.test(text) ? Math.min(Number(text), SLOT_MAX) : 0;
  let kept = number;
  let writing: Promise<void> = Promise.resolve();
  return {
    number,
    keep: (slot) => {
      if (slot === kept) return;
      kept = slot;
      writing = writing.then(async () => {
        try {
          await writeFile(`${file}.new`, `${slot}\n`, { mode: 0o600 });
          await rename(`${file}.new`, file);
        } catch (error) {
          log.warn({ err: error }, "this gateway's slot could not be kept on disk");
        }
      });
    },
  };
}
