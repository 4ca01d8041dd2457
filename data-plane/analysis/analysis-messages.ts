/** What the gateway's thread and an analysis worker say to each other. Flat data only: a deep tree cannot cross threads. */
import type { Catalog } from "@sluice/core/catalog.ts";
import type { ErrorCode } from "@sluice/core/errors.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";

export interface AnalysisRequest {
  readonly catalogKey: string;
  readonly epoch: CatalogEpoch;
  readonly text: string;
  readonly scope: SessionScope;
  readonly settings: AnalysisSettings;
}

export type ToWorker =
  | { readonly kind: "catalog"; readonly catalogKey: string; readonly catalog: Catalog }
  | { readonly kind: "analyse"; readonly id: number; readonly request: AnalysisRequest };

export type FromWorker =
  | { readonly kind: "analysed"; readonly id: number; readonly analysis: Analysis }
  /** The statement is refused and the worker is well. */
  | { readonly kind: "refused"; readonly id: number; readonly code: ErrorCode; readonly message: string; readonly hint?: string }
  /** Anything else went wrong: the worker must be replaced. Never holds statement text. */
  | { readonly kind: "unwell"; readonly id: number; readonly reason: string };

/** What a disposable worker is given, once: a text that may hurt the parser. It answers `parsed` or does not. */
export interface TrialRequest {
  readonly text: string;
}
export type TrialAnswer = "parsed";
