/** What a recording says was released, as a tool outside reads it: `sessions replay --json`. */
import type { Sluice } from "./sluice.ts";

export type ReplayedItem = Readonly<Record<string, unknown>> & { readonly kind: string };

export async function replayed(sluice: Sluice, id: string): Promise<readonly ReplayedItem[]> {
  const result = await sluice.cli("sessions", "replay", id, "--json");
  if (result.status !== 0) throw new Error(`sessions replay ended with status ${result.status}: ${result.stderr}`);
  return result.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ReplayedItem); // JSON lines with a kind, by the contract
}

/** Waits until the recording is closed. */
export async function replayedWhole(sluice: Sluice, id: string): Promise<readonly ReplayedItem[]> {
  const deadline = Date.now() + 15_000;
  while (Date.now() < deadline) {
    const items = await replayed(sluice, id).catch(() => []);
    if (items.at(-1)?.kind === "closed") return items;
  }
  throw new Error(`the recording of ${id} was not closed within 15 s`);
}
