/**
 * What the gateway's thread and the analysis worker say to each other: flat data only, since a deep tree does not survive the way
 * between threads. A worker handles one message at a time, in order.
 */
import type { ErrorCode } from "@sluice/core/errors.ts";
import type { Protocol } from "@sluice/core/snapshot.ts";
import type { LabelRules } from "@sluice/inspect/policy/label-rules.ts";
import type { Analysis, AnalysisSettings, SessionScope } from "@sluice/inspect/sql/model.ts";
import type { CatalogBounds } from "../links/catalog-transfer.ts";
import type { CatalogFacts } from "./catalog-facts.ts";

export type ToWorker = Task & { readonly number: number };

export type Task =
  /** Keep this catalog in place of the former one of the key. `bytes` are shared, as the agent made them. */
  | {
      readonly kind: "catalog";
      readonly key: string;
      readonly bytes: Uint8Array<SharedArrayBuffer>;
      readonly protocol: Protocol;
      readonly bounds: CatalogBounds;
      /** Null: nobody asks for labels. */
      readonly rules: LabelRules | null;
    }
  /** Label the kept catalog of the key again. */
  | { readonly kind: "label"; readonly key: string; readonly epoch: string; readonly rules: LabelRules }
  | { readonly kind: "forget"; readonly key: string }
  /** `epoch` names the catalog the answer must rest on. */
  | {
      readonly kind: "analyse";
      readonly key: string;
      readonly epoch: string;
      readonly text: string;
      readonly scope: SessionScope;
      readonly settings: AnalysisSettings;
    }
  /** Parse and drop the result: does the text leave the parser alive? */
  | { readonly kind: "try"; readonly text: string };

export type FromWorker =
  | { readonly kind: "ready" }
  | { readonly kind: "analysed"; readonly number: number; readonly analysis: Analysis }
  /** A catalog is kept, or labelled. `facts` is null when nobody asked for labels. */
  | { readonly kind: "kept"; readonly number: number; readonly facts: CatalogFacts | null }
  | { readonly kind: "forgotten"; readonly number: number }
  | { readonly kind: "tried"; readonly number: number }
  /** A refusal that is the text's own fault, or the catalog's fault or absence: the worker is well. */
  | {
      readonly kind: "refused";
      readonly number: number;
      readonly code: ErrorCode;
      readonly message: string;
      readonly hint: string;
    }
  /** Anything else: the parser may be damaged, the worker must go. `name` is the error's class, never its text. */
  | { readonly kind: "broken"; readonly number: number; readonly name: string };
