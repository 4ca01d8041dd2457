import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { index } from "@sluice/inspect/sql/postgres/testing.ts";
import { describe, expect, test } from "vitest";
import type { Analysis, AnalysisSettings } from "@sluice/inspect/sql/model.ts";
import { emptyScope } from "@sluice/inspect/sql/scope.ts";
import { AnalysisCache, type CacheKeyParts } from "./analysis-cache.ts";

const settings: AnalysisSettings = { bulkRowsMin: 10, bulkLimitMax: 5, safeFunctions: [] };
const parts = (changed: Partial<CacheKeyParts> = {}): CacheKeyParts => ({
  catalogKey: "orders",
  epoch: "e1",
  text: "SELECT 1",
  scope: emptyScope,
  settings,
  ...changed,
});
const analysis = (message: string): Analysis => ({ kind: "unparsed", message, position: 0 });

describe("the cache of analyses", () => {
  test("answers for exactly what was asked: any difference is another entry", () => {
    const cache = new AnalysisCache(1_000_000);
    cache.set(parts(), analysis("one"));
    expect(cache.get(parts())).toEqual(analysis("one"));
    expect(cache.get(parts({ settings: { ...settings } }))).toEqual(analysis("one"));
    for (const other of [
      { catalogKey: "others" },
      { epoch: "e2" },
      { text: "SELECT 1 " },
      { scope: { ...emptyScope, digest: "other" } },
      { settings: { ...settings, safeFunctions: ["public.f"] } },
      { catalogKey: "orderse", epoch: "1" },
    ])
      expect(cache.get(parts(other)), JSON.stringify(other)).toBeUndefined();
  });

  test("finds what is set after a context was emptied, with the same settings object", () => {
    const cache = new AnalysisCache(64_000);
    cache.set(parts(), analysis("one"));
    expect(cache.get(parts())).toBeDefined();
    for (let n = 0; n < 120; n++) cache.set(parts({ epoch: "e2", text: `SELECT ${n}` }), analysis("x".repeat(1_000)));
    expect(cache.get(parts())).toBeUndefined();
    cache.set(parts(), analysis("again"));
    expect(cache.get(parts())).toEqual(analysis("again"));
  });

  test("stays within its bytes, drops what is not used first, and takes no giant", () => {
    const cache = new AnalysisCache(64_000);
    cache.set(parts(), analysis("used"));
    for (let n = 0; n < 200; n++) {
      expect(cache.get(parts())).toEqual(analysis("used"));
      cache.set(parts({ text: `SELECT x${n}` }), analysis("x".repeat(1_000)));
      expect(cache.bytes).toBeLessThanOrEqual(64_000);
    }
    expect(cache.get(parts({ text: "SELECT x0" }))).toBeUndefined();
    cache.set(parts({ text: "giant" }), analysis("x".repeat(10_000)));
    expect(cache.get(parts({ text: "giant" }))).toBeUndefined();
  });

  test("setting the same again replaces it and counts its bytes once", () => {
    const cache = new AnalysisCache(1_000_000);
    cache.set(parts(), analysis("one"));
    const { bytes } = cache;
    cache.set(parts(), analysis("two"));
    expect(cache.get(parts())).toEqual(analysis("two"));
    expect(cache.bytes).toBe(bytes);
  });
});

test("counts its bytes about as the heap does", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void; // what the flag gives to new contexts
  const { loadModule, parseSync } = await import("libpg-query");
  await loadModule();
  const heap = (): number => {
    collect();
    collect();
    return process.memoryUsage().heapUsed;
  };
  const texts = Array.from(
    { length: 3_000 },
    (_, n) => `SELECT id, name, ssn AS number_${n} FROM customers WHERE id = ${n} ORDER BY name`,
  );
  for (const text of texts.slice(0, 500)) analyse(parseSync, text, index, emptyScope, settings);
  const cache = new AnalysisCache(1_000_000_000);
  const before = heap();
  // As they come from the worker: copies that share nothing with each other.
  for (const text of texts) cache.set(parts({ text }), structuredClone(analyse(parseSync, text, index, emptyScope, settings)));
  const taken = heap() - before;
  expect(cache.bytes / taken).toBeGreaterThan(0.7);
  expect(cache.bytes / taken).toBeLessThan(1.3);
});
