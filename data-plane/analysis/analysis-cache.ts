/**
 * Analyses by everything they depend on: catalog, epoch, exact text, session names, settings. Bounded in bytes, least recently
 * used first out. Must never answer for a text that differs by a single character.
 */
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";

export interface CacheKeyParts {
  readonly catalogKey: string;
  readonly epoch: string;
  readonly text: string;
  readonly scope: SessionScope;
  readonly settings: AnalysisSettings;
}

/** Rough cost of an entry's objects beyond its characters. Bytes. */
const ENTRY_BYTES = 512;

export class AnalysisCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, { readonly analysis: Analysis; readonly bytes: number }>();
  readonly #settingKeys = new WeakMap<AnalysisSettings, string>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The key of a request. Lengths keep parts from running into each other. */
  keyOf({ catalogKey, epoch, text, scope, settings }: CacheKeyParts): string {
    const parts = [catalogKey, epoch, scope.digest, this.#settingsKey(settings)];
    return `${parts.map((part) => `${part.length}:${part}`).join("")}${text}`;
  }

  get(key: string): Analysis | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.analysis;
  }

  set(key: string, analysis: Analysis): void {
    const bytes = 2 * key.length + sizeOf(analysis) + ENTRY_BYTES;
    if (bytes > this.#bytesMax / 8) return; // one giant must not push out everybody else's
    this.#drop(key);
    this.#entries.set(key, { analysis, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }

  #settingsKey(settings: AnalysisSettings): string {
    const known = this.#settingKeys.get(settings);
    if (known !== undefined) return known;
    const key = JSON.stringify([settings.bulkRowsMin, settings.bulkLimitMax, settings.safeFunctions]);
    this.#settingKeys.set(settings, key);
    return key;
  }
}

/** Bytes of a flat value in memory, roughly: two for each character, a few words for each object and field. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return 16 + 2 * value.length;
  if (typeof value !== "object" || value === null) return 8;
  let bytes = 32;
  for (const entry of Object.values(value)) bytes += 16 + sizeOf(entry);
  return bytes;
}
