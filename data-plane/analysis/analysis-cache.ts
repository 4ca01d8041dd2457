/** Analyses by exact text and everything they depend on, least recently used first out, bounded in bytes. */
import type { Analysis } from "@sluice/inspect/sql/model.ts";
import type { AnalysisRequest } from "./analysis-messages.ts";

/** Bytes a model takes beside its text: measured on ordinary statements, rounded up. */
const MODEL_BYTES = 1_024;
const COLUMN_BYTES = 160;

interface Entry {
  readonly analysis: Analysis;
  readonly bytes: number;
}

export class AnalysisCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(key: string): Analysis | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.analysis;
  }

  set(key: string, analysis: Analysis): void {
    const bytes = key.length * 2 + bytesOf(analysis);
    if (bytes > this.#bytesMax) return;
    const former = this.#entries.get(key);
    if (former !== undefined) {
      this.#bytes -= former.bytes;
      this.#entries.delete(key);
    }
    this.#entries.set(key, { analysis, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#entries.delete(oldest);
      this.#bytes -= entry.bytes;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }
}

/** Two requests with one key get one analysis: nothing that an analysis depends on may be missing here. */
export function cacheKey(request: AnalysisRequest): string {
  const { bulkRowsMin, bulkLimitMax, safeFunctions } = request.settings;
  const settings = safeFunctions.length === 0 ? "" : JSON.stringify(safeFunctions);
  return `${request.catalogKey}\n${request.epoch}\n${request.scope.digest}\n${bulkRowsMin}/${bulkLimitMax}/${settings}\n${request.text}`;
}

function bytesOf(analysis: Analysis): number {
  if (analysis.kind === "unparsed") return MODEL_BYTES;
  return analysis.statements.reduce(
    (sum, model) => sum + MODEL_BYTES + ((model.columns?.length ?? 0) + model.reaches.length) * COLUMN_BYTES,
    0,
  );
}
