/**
 * The thread that owns the catalogs: parses, classifies, traces, and posts back a flat model. It keeps no text and logs nothing.
 * Whatever is not a refusal or a syntax error makes it say that it is unwell; its owner then replaces it.
 */
import { parentPort, workerData } from "node:worker_threads";
import { GatewayError } from "@sluice/core/errors.ts";
import { type CatalogIndex, indexCatalog } from "@sluice/inspect/sql/catalog-index.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { loadModule, parseSync } from "libpg-query";
import type { AnalysisRequest, FromWorker, ToWorker, TrialAnswer, TrialRequest } from "./analysis-messages.ts";

await loadModule();

if (parentPort === null) throw new Error("this file runs as a worker thread only");
const port = parentPort;
const trial = workerData as TrialRequest | null; // set by `analyser.ts`, the only starter of this file

if (trial !== null) {
  // A syntax error is an answer too: the text has not hurt the parser.
  try {
    parseSync(trial.text);
  } catch {
    // Judged again, and reported, by the shared worker.
  }
  const answer: TrialAnswer = "parsed";
  port.postMessage(answer);
} else {
  const indexes = new Map<string, CatalogIndex>();
  port.on("message", (message: ToWorker) => {
    if (message.kind === "catalog") indexes.set(message.catalogKey, indexCatalog(message.catalog, parseSync));
    else port.postMessage(answerTo(message.id, message.request, indexes));
  });
}

function answerTo(id: number, request: AnalysisRequest, indexes: ReadonlyMap<string, CatalogIndex>): FromWorker {
  const index = indexes.get(request.catalogKey);
  if (index === undefined || index.epoch !== request.epoch) {
    return {
      kind: "refused",
      id,
      code: "catalog_unavailable",
      message: "The structure of this database has just changed, so the statement could not be judged.",
      hint: "Run the statement again.",
    };
  }
  try {
    return { kind: "analysed", id, analysis: analyse(parseSync, request.text, index, request.scope, request.settings) };
  } catch (error) {
    if (error instanceof GatewayError) {
      const { code, message, hint } = error;
      return { kind: "refused", id, code, message, ...(hint === undefined ? {} : { hint }) };
    }
    // The parser's own messages may quote the text; only the kind of failure leaves.
    return { kind: "unwell", id, reason: error instanceof Error ? error.name : typeof error };
  }
}
