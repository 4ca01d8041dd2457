/**
 * The thread that parses: owns the parser's memory and the indexed catalogs, answers with flat models. Must never say anything
 * about a text but its analysis: no logging, no error texts. It is replaced after any error that is not a syntax error.
 */
import { parentPort } from "node:worker_threads";
import { GatewayError } from "@sluice/core/errors.ts";
import { type CatalogIndex, indexCatalog, isSyntaxError } from "@sluice/inspect/sql/catalog-index.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { loadModule, parseSync } from "libpg-query";
import type { FromWorker, ToWorker } from "./messages.ts";

const port = parentPort;
if (port === null) throw new Error("analysis-worker.ts runs as a worker thread only");
const post = (message: FromWorker): void => port.postMessage(message);
const indexes = new Map<string, CatalogIndex>();

await loadModule();
port.on("message", handle);
post({ kind: "ready" });

function handle(message: ToWorker): void {
  switch (message.kind) {
    case "catalog":
      takeCatalog(message);
      return;
    case "analyse":
      answer(message.number, () => ({ kind: "analysed", number: message.number, analysis: analysisOf(message) }));
      return;
    default:
      answer(message.number, () => {
        tryToParse(message.text);
        return { kind: "tried", number: message.number };
      });
  }
}

/** Nothing is parsed here. One that cannot be indexed counts as absent: it must not end a thread that would be given it again. */
function takeCatalog({ key, catalog }: ToWorker & { readonly kind: "catalog" }): void {
  indexes.delete(key);
  try {
    indexes.set(key, indexCatalog(catalog, parseSync));
  } catch {
    // Statements on it are refused for want of a catalog.
  }
}

function analysisOf({ key, epoch, text, scope, settings }: ToWorker & { readonly kind: "analyse" }): ReturnType<typeof analyse> {
  const index = indexes.get(key);
  if (index === undefined || index.epoch !== epoch) {
    throw new GatewayError("catalog_unavailable", "The target's catalog changed while the statement was analysed.", {
      hint: "Send the statement again.",
    });
  }
  return analyse(parseSync, text, index, scope, settings);
}

function tryToParse(text: string): void {
  try {
    parseSync(text);
  } catch (error) {
    if (!isSyntaxError(error)) throw error;
  }
}

function answer(number: number, work: () => FromWorker): void {
  try {
    post(work());
  } catch (error) {
    if (error instanceof GatewayError) {
      post({ kind: "refused", number, code: error.code, message: error.message, hint: error.hint ?? "" });
    } else {
      post({ kind: "broken", number, name: error instanceof Error ? error.name : typeof error });
    }
  }
}
