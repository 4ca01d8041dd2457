/**
 * Analyses by everything they depend on: catalog, epoch, exact text, session names, settings. Bounded in bytes, what was not used
 * for longest first out (second chance). Must never answer for a text that differs by a single character.
 */
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";

export interface CacheKeyParts {
  readonly catalogKey: string;
  readonly epoch: string;
  readonly text: string;
  readonly scope: SessionScope;
  /** The same object from request to request makes the way shorter; equal ones find the same analyses. */
  readonly settings: AnalysisSettings;
}

/** Rough cost of an entry's objects beyond its characters. Bytes. */
const ENTRY_BYTES = 512;

/** Everything an analysis depends on but the text. */
interface Context {
  readonly key: string;
  readonly byText: Map<string, Entry>;
  /** It is still the one that is found by its key. */
  live: boolean;
}

interface Entry {
  readonly context: Context;
  readonly text: string;
  readonly analysis: Analysis;
  readonly bytes: number;
  /** Used since it was last looked at for eviction. */
  used: boolean;
}

/** Where a settings object was used last: its session asks for the same context nearly always. */
interface LastContext {
  readonly catalogKey: string;
  readonly epoch: string;
  readonly digest: string;
  readonly context: Context;
}

export class AnalysisCache {
  readonly #bytesMax: number;
  readonly #contexts = new Map<string, Context>();
  /** In the order in which they are looked at for eviction. */
  readonly #entries = new Set<Entry>();
  readonly #settingKeys = new WeakMap<AnalysisSettings, string>();
  readonly #lastContexts = new WeakMap<AnalysisSettings, LastContext>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A request as one string. Lengths keep parts from running into each other. */
  keyOf(parts: CacheKeyParts): string {
    return `${this.#contextKey(parts)}${parts.text}`;
  }

  get(parts: CacheKeyParts): Analysis | undefined {
    const entry = this.#contextOf(parts)?.byText.get(parts.text);
    if (entry === undefined) return undefined;
    entry.used = true;
    return entry.analysis;
  }

  set(parts: CacheKeyParts, analysis: Analysis): void {
    const key = this.#contextKey(parts);
    const bytes = textBytes(key) + textBytes(parts.text) + sizeOf(analysis) + ENTRY_BYTES;
    if (bytes > this.#bytesMax / 8) return; // one giant must not push out everybody else's
    let context = this.#contexts.get(key);
    if (context === undefined) {
      context = { key, byText: new Map(), live: true };
      this.#contexts.set(key, context);
    }
    const former = context.byText.get(parts.text);
    const entry: Entry = { context, text: parts.text, analysis, bytes, used: false };
    context.byText.set(parts.text, entry);
    this.#entries.add(entry);
    this.#bytes += bytes;
    if (former !== undefined) this.#forget(former);
    this.#evict();
  }

  /** Ends: every round drops an entry or takes its second chance away. */
  #evict(): void {
    for (const entry of this.#entries) {
      if (this.#bytes <= this.#bytesMax) return;
      if (entry.used) {
        entry.used = false;
        this.#entries.delete(entry);
        this.#entries.add(entry);
      } else this.#drop(entry);
    }
  }

  #drop(entry: Entry): void {
    const { context } = entry;
    context.byText.delete(entry.text);
    this.#forget(entry);
    if (context.byText.size > 0) return;
    context.live = false;
    this.#contexts.delete(context.key);
  }

  #forget(entry: Entry): void {
    this.#entries.delete(entry);
    this.#bytes -= entry.bytes;
  }

  #contextOf(parts: CacheKeyParts): Context | undefined {
    const { catalogKey, epoch, scope, settings } = parts;
    const last = this.#lastContexts.get(settings);
    if (last?.context.live === true && last.epoch === epoch && last.digest === scope.digest && last.catalogKey === catalogKey)
      return last.context;
    const context = this.#contexts.get(this.#contextKey(parts));
    if (context !== undefined) this.#lastContexts.set(settings, { catalogKey, epoch, digest: scope.digest, context });
    return context;
  }

  #contextKey({ catalogKey, epoch, scope, settings }: CacheKeyParts): string {
    return [catalogKey, epoch, scope.digest, this.#settingsKey(settings)].map((part) => `${part.length}:${part}`).join("");
  }

  #settingsKey(settings: AnalysisSettings): string {
    const known = this.#settingKeys.get(settings);
    if (known !== undefined) return known;
    const key = JSON.stringify([settings.bulkRowsMin, settings.bulkLimitMax, settings.safeFunctions]);
    this.#settingKeys.set(settings, key);
    return key;
  }
}

/** Bytes of a flat value in memory, roughly: a header and its characters or fields for each text, list and object. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return textBytes(value);
  if (typeof value !== "object" || value === null) return 0; // stands in the field itself
  let bytes = 32;
  for (const entry of Object.values(value)) bytes += 8 + sizeOf(entry);
  return bytes;
}

/** One byte for each character, two where some character needs them. */
function textBytes(text: string): number {
  return 16 + text.length * (/[\u0100-\uffff]/.test(text) ? 2 : 1);
}
