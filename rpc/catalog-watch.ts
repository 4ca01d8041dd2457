/** Between gateway and agent: whether what a catalog is read from has changed, asked of the database again and again. */
import type { ResourceSpec } from "@sluice/core/snapshot.ts";

export interface WatchCatalogRequest {
  readonly resource: ResourceSpec;
  readonly database: string;
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** Each time the database was looked at. The first word says nothing of changes before it. */
  readonly news: (news: CatalogNews) => void;
}

export interface CatalogNews {
  readonly changed: boolean;
  /** The database itself tells of DDL, within a second. */
  readonly told: boolean;
  /** When it is looked at next, told or not. */
  readonly intervalMs: number;
}
