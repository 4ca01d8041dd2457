/**
 * What the gateway's thread and the analysis worker say to each other: flat data only, since a deep tree does not survive the way
 * between threads. A worker handles one message at a time, in order.
 */
import type { Catalog } from "@sluice/core/catalog.ts";
import type { ErrorCode } from "@sluice/core/errors.ts";
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";

export type ToWorker =
  | { readonly kind: "catalog"; readonly key: string; readonly catalog: Catalog }
  /** `epoch` names the catalog the answer must rest on. */
  | {
      readonly kind: "analyse";
      readonly number: number;
      readonly key: string;
      readonly epoch: string;
      readonly text: string;
      readonly scope: SessionScope;
      readonly settings: AnalysisSettings;
    }
  /** Parse and drop the result: does the text leave the parser alive? */
  | { readonly kind: "try"; readonly number: number; readonly text: string };

export type FromWorker =
  | { readonly kind: "ready" }
  | { readonly kind: "analysed"; readonly number: number; readonly analysis: Analysis }
  | { readonly kind: "tried"; readonly number: number }
  /** A refusal that is the text's own fault or the catalog's absence: the worker is well. */
  | {
      readonly kind: "refused";
      readonly number: number;
      readonly code: ErrorCode;
      readonly message: string;
      readonly hint: string;
    }
  /** Anything else: the parser may be damaged, the worker must go. `name` is the error's class, never its text. */
  | { readonly kind: "broken"; readonly number: number; readonly name: string };
