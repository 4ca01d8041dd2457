/**
 * What the agent reads of a target's catalog for lineage and labels: plain data, comparable by content, no behaviour.
 * It holds names and definitions, never rows and never statistics of values.
 */
import type { CatalogEpoch } from "./ids.ts";

export interface Catalog {
  readonly epoch: CatalogEpoch;
  readonly protocol: "postgres" | "mysql";
  /** Server version as a number, e.g. 150018 or 180004 for PostgreSQL. */
  readonly serverVersion: number;
  /** Relations outside the system schemas, and the system relations too (marked `system`). */
  readonly relations: readonly CatalogRelation[];
  /** Functions outside the system schemas, one entry per overload. */
  readonly functions: readonly CatalogFunction[];
  /** Names (without schema) of functions in the system schema that came with the server. */
  readonly builtinFunctions: readonly string[];
  /** Operator names (such as `=`, `@>`) that exist outside the system schema. */
  readonly userOperators: readonly string[];
  /** Types outside the system schemas. */
  readonly userTypes: readonly CatalogType[];
}

export interface CatalogRelation {
  /** Stable id within the database: PostgreSQL's OID. */
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: "table" | "partitioned" | "view" | "matview" | "foreign" | "sequence" | "composite";
  /** True for pg_catalog, information_schema and toast relations. Their columns are left out (empty) to save memory. */
  readonly system: boolean;
  readonly columns: readonly CatalogColumn[];
  /** The SELECT behind a view or materialised view, with every name schema-qualified. */
  readonly definition?: string;
  /** OIDs of direct inheritance parents or of the partitioned table. */
  readonly parents: readonly number[];
  /** Estimated rows; -1 when unknown. */
  readonly estimatedRows: number;
  /** Qualified names of functions that user triggers, column defaults, generated columns, CHECK constraints, rules or row-security run. */
  readonly hiddenFunctions: readonly string[];
}

export interface CatalogColumn {
  /** PostgreSQL's attribute number; survives a rename. */
  readonly number: number;
  readonly name: string;
  readonly typeOid: number;
  /** Numbers of the columns of the same relation that a generated column is computed from. Absent: it is not generated. */
  readonly generatedFrom?: readonly number[];
  /** OID of the relation whose columns a value holds as fields: for composite and row types, also in arrays and domains. */
  readonly rowOf?: number;
}

export interface CatalogFunction {
  readonly schema: string;
  readonly name: string;
  readonly language: string;
  readonly volatility: "immutable" | "stable" | "volatile";
  readonly kind: "function" | "procedure" | "aggregate" | "window";
}

export interface CatalogType {
  readonly schema: string;
  readonly name: string;
  readonly kind: "base" | "composite" | "domain" | "enum" | "range" | "pseudo";
}
