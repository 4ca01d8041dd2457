/**
 * The thread that parses and that owns the catalogs: unpacks, checks, indexes and labels them, answers with flat data. Must never say
 * anything about a text but its analysis: no logging, no error texts. It is replaced after any error that is not a refusal.
 */
import { parentPort } from "node:worker_threads";
import { assertNever } from "@sluice/core/assert-never.ts";
import type { Catalog } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { type CatalogIndex, indexCatalog, isSyntaxError } from "@sluice/inspect/sql/catalog-index.ts";
import { analyse } from "@sluice/inspect/sql/postgres/analyse.ts";
import { loadModule, parseSync } from "libpg-query";
import { decodeCatalog } from "../links/catalog-transfer.ts";
import { catalogFacts, transferOf } from "./catalog-facts.ts";
import type { FromWorker, Task, ToWorker } from "./messages.ts";

interface Kept {
  readonly catalog: Catalog;
  readonly index: CatalogIndex;
}

const port = parentPort;
if (port === null) throw new Error("analysis-worker.ts runs as a worker thread only");
const post = (message: FromWorker, transfer: readonly ArrayBuffer[] = []): void => port.postMessage(message, [...transfer]);
const kept = new Map<string, Kept>();

await loadModule();
port.on("message", handle);
post({ kind: "ready" });

function handle(message: ToWorker): void {
  const { number } = message;
  try {
    const answer = answerTo(message);
    const facts = answer.kind === "kept" ? answer.facts : null;
    post({ ...answer, number }, facts === null ? [] : transferOf(facts));
  } catch (error) {
    if (error instanceof GatewayError) {
      post({ kind: "refused", number, code: error.code, message: error.message, hint: error.hint ?? "" });
    } else {
      post({ kind: "broken", number, name: error instanceof Error ? error.name : typeof error });
    }
  }
}

type Numbered = Exclude<FromWorker, { readonly kind: "ready" }>;
type Answer = Numbered extends infer Each ? (Each extends Numbered ? Omit<Each, "number"> : never) : never;

function answerTo(task: Task): Answer {
  switch (task.kind) {
    case "catalog":
      return keep(task);
    case "label":
      return { kind: "kept", facts: catalogFacts(keptOf(task.key, task.epoch).catalog, task.rules) };
    case "forget":
      kept.delete(task.key);
      return { kind: "forgotten" };
    case "analyse": {
      const { text, scope, settings } = task;
      return { kind: "analysed", analysis: analyse(parseSync, text, keptOf(task.key, task.epoch).index, scope, settings) };
    }
    case "try":
      tryToParse(task.text);
      return { kind: "tried" };
    default:
      return assertNever(task);
  }
}

/** Nothing of it is parsed as SQL here. The former one stays unless the new one is sound. */
function keep({ key, bytes, protocol, bounds, rules }: Task & { readonly kind: "catalog" }): Answer {
  const catalog = decodeCatalog(bytes, protocol, bounds);
  const former = kept.get(key);
  // Equal epochs are equal catalogs, and what the former one's views were parsed to is worth keeping.
  if (former?.catalog.epoch !== catalog.epoch) kept.set(key, { catalog, index: indexCatalog(catalog, parseSync) });
  return { kind: "kept", facts: rules === null ? null : catalogFacts(catalog, rules) };
}

function keptOf(key: string, epoch: string): Kept {
  const found = kept.get(key);
  if (found === undefined || found.index.epoch !== epoch) {
    throw new GatewayError("catalog_unavailable", "The target's catalog changed while the statement was analysed.", {
      hint: "Send the statement again.",
    });
  }
  return found;
}

function tryToParse(text: string): void {
  try {
    parseSync(text);
  } catch (error) {
    if (!isSyntaxError(error)) throw error;
  }
}
