/** Every case that ever showed a difference, one JSON object a line. They are replayed first, for ever. */
import { readFileSync, appendFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Kind } from "./installation.ts";
import type { SentStatement } from "./sessions.ts";

export interface CorpusCase {
  /** What leaked, in a few words. */
  readonly about: string;
  readonly kind: Kind;
  readonly seed: number;
  readonly statements: readonly SentStatement[];
}

export const corpusFile: string = fileURLToPath(new URL("corpus.jsonl", import.meta.url));

export function readCorpus(): readonly CorpusCase[] {
  return readFileSync(corpusFile, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as CorpusCase); // written by `addToCorpus`, or by hand with the same fields
}

export function addToCorpus(found: CorpusCase): void {
  appendFileSync(corpusFile, `${JSON.stringify(found)}\n`);
}
