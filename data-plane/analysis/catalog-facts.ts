/**
 * What the gateway's thread knows of a catalog: which one it is, and its labels. Everything else stays with the worker that keeps
 * it. Plain data that crosses threads without being copied.
 */
import type { Catalog } from "@sluice/core/catalog.ts";
import { buffersOf, type FlatLabels, flatLabels } from "@sluice/inspect/policy/flat-labels.ts";
import type { LabelRules } from "@sluice/inspect/policy/label-rules.ts";

/** A catalog without what grows with the database. */
export type CatalogHead = Pick<Catalog, "epoch" | "protocol" | "serverVersion" | "databaseOid" | "readAs">;

export interface CatalogFacts {
  readonly head: CatalogHead;
  readonly labels: FlatLabels;
}

export function catalogFacts(catalog: Catalog, rules: LabelRules): CatalogFacts {
  return { head: headOf(catalog), labels: flatLabels(rules, catalog) };
}

export function headOf({ epoch, protocol, serverVersion, databaseOid, readAs }: Catalog): CatalogHead {
  return {
    epoch,
    protocol,
    serverVersion,
    ...(databaseOid === undefined ? {} : { databaseOid }),
    ...(readAs === undefined ? {} : { readAs }),
  };
}

/** What may be moved instead of copied. */
export function transferOf(facts: CatalogFacts): readonly ArrayBuffer[] {
  return buffersOf(facts.labels);
}
