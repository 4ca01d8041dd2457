/**
 * What classification and lineage make of a corpus: each statement analysed in its script's session, counted by class, with every
 * reason for not knowing. Must never stop at one that fails: a crash is what it looks for.
 */
import { performance } from "node:perf_hooks";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogIndex } from "@sluice/inspect/sql/catalog-index.ts";
import type { AnalysisSettings, SessionScope, StatementModel } from "@sluice/inspect/sql/model.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { applyScopeChange, emptyScope } from "@sluice/inspect/sql/scope.ts";
import { parseSync } from "libpg-query";
import { splitPsqlScript } from "./psql-script.ts";

export interface Script {
  readonly name: string;
  readonly text: string;
}

export interface Tally {
  statements: number;
  /** Statements by class; `unparsed` and `refused` stand for those without. */
  readonly classes: Map<string, number>;
  readonly effects: Map<string, number>;
  /** Reasons of class `unknown`, and their statements. */
  readonly unknown: Map<string, string[]>;
  /** Reasons for being undecided, without the names in them. */
  readonly undecided: Map<string, number>;
  readonly unparsed: { readonly place: string; readonly message: string }[];
  readonly refused: Map<string, string[]>;
  readonly crashes: { readonly place: string; readonly error: string; readonly text: string }[];
  /** Output columns: known exactly, derived, without a base column, not to be known. */
  readonly columns: { exact: number; derived: number; clean: number; unknown: number };
  /** Milliseconds of each text. */
  readonly times: { readonly place: string; readonly ms: number }[];
}

/** Called with each statement that could be analysed. */
export type OnModel = (place: string, text: string, models: readonly StatementModel[]) => void;

export const corpusSettings: AnalysisSettings = { bulkRowsMin: 10_000, bulkLimitMax: 1_000, safeFunctions: [] };

/** Analyses every statement of the scripts against one catalog. */
export function tallyScripts(scripts: readonly Script[], index: CatalogIndex, onModel?: OnModel): Tally {
  const tally: Tally = {
    statements: 0,
    classes: new Map(),
    effects: new Map(),
    unknown: new Map(),
    undecided: new Map(),
    unparsed: [],
    refused: new Map(),
    crashes: [],
    columns: { exact: 0, derived: 0, clean: 0, unknown: 0 },
    times: [],
  };
  for (const script of scripts) {
    let scope = emptyScope;
    for (const { text, line } of splitPsqlScript(script.text)) {
      scope = take(tally, `${script.name}:${line}`, text, index, scope, onModel);
    }
  }
  return tally;
}

function take(
  tally: Tally,
  place: string,
  text: string,
  index: CatalogIndex,
  scope: SessionScope,
  onModel: OnModel | undefined,
): SessionScope {
  tally.statements += 1;
  const startMs = performance.now();
  try {
    const analysis = analyse(parseSync, text, index, scope, corpusSettings);
    tally.times.push({ place, ms: performance.now() - startMs });
    if (analysis.kind === "unparsed") {
      count(tally.classes, "unparsed");
      tally.unparsed.push({ place, message: analysis.message });
      return scope;
    }
    for (const model of analysis.statements) takeModel(tally, place, model);
    onModel?.(place, text, analysis.statements);
    return analysis.statements.flatMap(({ scopeChanges }) => scopeChanges).reduce(applyScopeChange, scope);
  } catch (error) {
    if (error instanceof GatewayError) {
      count(tally.classes, "refused");
      list(tally.refused, error.code, place);
    } else {
      tally.crashes.push({ place, error: error instanceof Error ? String(error.stack) : String(error), text });
    }
    return scope;
  }
}

function takeModel(tally: Tally, place: string, model: StatementModel): void {
  count(tally.classes, model.class);
  for (const { name } of model.effects) count(tally.effects, name);
  if (model.class === "unknown") {
    const effect = model.effects.find((each) => each.class === "unknown")?.name ?? "";
    list(tally.unknown, `${effect}: ${model.undecided.map(kindOfReason).join(", ")}`, place);
  }
  for (const reason of new Set(model.undecided.map(kindOfReason))) count(tally.undecided, reason);
  for (const { origins, exact } of model.columns ?? []) {
    if (origins.includes("*")) tally.columns.unknown += 1;
    else if (origins.length === 0) tally.columns.clean += 1;
    else if (exact) tally.columns.exact += 1;
    else tally.columns.derived += 1;
  }
}

/** `function public.f` is a `function`; what was made twice or is written to stays out of it. */
export function kindOfReason(reason: string): string {
  const kinds = [
    "prepared statement",
    "trigger or default function",
    "foreign table",
    "function",
    "operator",
    "type",
    "cursor",
    "view",
  ];
  return kinds.find((kind) => reason.startsWith(`${kind} `)) ?? reason;
}

export function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

export function list(lists: Map<string, string[]>, name: string, entry: string): void {
  const known = lists.get(name);
  if (known === undefined) lists.set(name, [entry]);
  else known.push(entry);
}
