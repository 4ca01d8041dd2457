/**
 * What a statement does, as flat data that may cross threads. One model for all dialects; the first block of
 * `StatementModel` is the public shape (CEL fields, decision JSON), the second is for the gateway itself.
 */
import type { CopyForm } from "@sluice/core/copy-form.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";

/** Gravest first: the order in which a statement with several effects gets its class. */
export const statementClasses = [
  "unknown",
  "export",
  "privilege",
  "ddl",
  "write",
  "call",
  "admin",
  "session",
  "read",
  "transaction",
] as const;
export type StatementClass = (typeof statementClasses)[number];

/** One effect found anywhere in the tree, e.g. `select`, `insert`, `delete`, `copy_to`, `create_table_as`, `lock`, `set`. */
export interface StatementEffect {
  readonly name: string;
  readonly class: StatementClass;
}

export interface RelationUse {
  /** schema.name as in the catalog; an unknown relation keeps the name as written. */
  readonly name: string;
  readonly access: "read" | "write" | "ddl";
}

export interface OutputColumn {
  readonly name: string;
  /** Qualified base columns (`public.customers.ssn`), or `*` for "cannot be known". Sorted, unique. */
  readonly origins: readonly string[];
  /** The unmodified base column: exactly one origin, no expression around it. */
  readonly exact: boolean;
  /** With `exact`: the base column's type. Absent where it is not known. */
  readonly typeOid?: number;
  /** A temporary relation's column as it is stored: on the wire it names a relation that no catalog holds. */
  readonly temporary?: true;
}

/** A base column used outside the output (WHERE, JOIN, ORDER BY, GROUP BY, DISTINCT, HAVING, set operations). */
export interface Influence {
  readonly column: string;
  /** `equality`: every use is `column = constant or parameter`, whole value. */
  readonly form: "equality" | "other";
}

export interface StatementModel {
  readonly class: StatementClass;
  readonly effects: readonly StatementEffect[];
  readonly relations: readonly RelationUse[];
  readonly influences: readonly Influence[];
  readonly bulkExport: boolean;
  /**
   * True when the statement has the shape of a bulk export over a relation whose size does not make it one by itself:
   * the policy layer turns it into bulkExport where one of `bulkRelations` has protected columns.
   */
  readonly bulkShape: boolean;
  readonly bulkRelations: readonly string[];
  readonly hasWhere: boolean;
  readonly limit: number | null;
  readonly undecided: readonly string[];
  /** Null when the statement returns no rows. */
  readonly columns: readonly OutputColumn[] | null;
  /**
   * False when the number of output columns is not known (a `*` over an unknown or a system relation): `columns` then has one
   * entry whose origins stand for every output; [`*`] unless something is known of all of them.
   */
  readonly columnsKnown: boolean;

  // for the gateway
  /** Base columns (or `*`) whose values may flow into a relation, setting, channel or new object. */
  readonly writeFlows: readonly string[];
  /**
   * Base columns (or `*`) that an expression of the output is computed from which tells about them otherwise: it may fail for some
   * values, return several rows, or is evaluated only for some and can be noticed. Absent: none.
   */
  readonly tells?: readonly string[];
  /** Every base column of every relation reached, views resolved (`schema.table`): what error texts may speak of. */
  readonly reaches: readonly string[];
  /** System relations that hold samples of data or other sessions' statements. */
  readonly sensitiveCatalogs: readonly string[];
  /** Functions and forms that carry values past the result (dblink, pg_read_file, query_to_xml, lo_export …). */
  readonly escapes: readonly string[];
  /** Qualified names of users' functions that were followed into their bodies. Absent: none. */
  readonly followed?: readonly string[];
  readonly settings: readonly { readonly name: string; readonly value: string | null; readonly local: boolean }[];
  /** What it changes in the session's names once it has succeeded, in order. */
  readonly scopeChanges: readonly ScopeChange[];
  readonly copy: "none" | "in" | "out";
  /** How COPY TO STDOUT writes its rows; absent where that cannot be known, and for everything else. */
  readonly copyForm?: CopyForm;
  /** DDL or anything else after which the catalog may differ. */
  readonly changesCatalog: boolean;
  /** Why it cannot be known what names mean in the session that sent it. Absent: it is known. */
  readonly lost?: readonly string[];
}

/** What a successful statement changes in the session's names. */
export type ScopeChange =
  | { readonly kind: "prepare"; readonly name: string; readonly model: StatementModel }
  | { readonly kind: "deallocate"; readonly name: string | null }
  | { readonly kind: "declare"; readonly name: string; readonly model: StatementModel }
  | { readonly kind: "close"; readonly name: string | null }
  /** DISCARD: `all` also ends settings, prepared statements and cursors; `temp` the temporary relations alone; `other` nothing named here. */
  | { readonly kind: "discard"; readonly what: "all" | "temp" | "other" }
  /** search_path, role or session_authorization. Null: back to what it was when the session began. `local`: until the transaction ends. */
  | { readonly kind: "setting"; readonly name: string; readonly value: string | null; readonly local: boolean }
  /** A relation in pg_temp was made, changed or (null) dropped. */
  | { readonly kind: "temporary"; readonly name: string; readonly relation: TemporaryRelation | null }
  | { readonly kind: "transaction"; readonly verb: TransactionVerb; readonly name: string }
  /** From here on it cannot be known what names mean: protected resources are refused. */
  | { readonly kind: "lost"; readonly why: string };

export type TransactionVerb = "begin" | "commit" | "rollback" | "savepoint" | "release" | "rollback_to";

/** A table or view in the session's own temporary schema. Its columns keep the labels of what was written into them. */
export interface TemporaryRelation {
  readonly kind: "table" | "view";
  /** Null: not known; then `origins` stands for each. */
  readonly columns: readonly OutputColumn[] | null;
  readonly origins: readonly string[];
  /** Columns that take every value (`all`), and those where storing fails for some (`none`). Others take an unmodified column. */
  readonly takes?: Readonly<Record<string, "all" | "none">>;
  /** A view's relations, by the names of `RelationUse`: what is in temporary ones now shows in it. */
  readonly reads?: readonly string[];
  /** A view: what the temporary relations that it reads held when it was made. */
  readonly readAs?: string;
  /** It may be gone, or not be what a statement made before it means: its name means what is behind it as well. */
  readonly unsure?: true;
}

/** What a session has named and set: flat data, part of the analysis' cache key through `digest`. */
export interface SessionScope {
  readonly prepared: Readonly<Record<string, StatementModel>>;
  readonly cursors: Readonly<Record<string, StatementModel>>;
  /**
   * Schemas in which unqualified names are looked up, in the server's order, the implicit pg_temp and pg_catalog included.
   * Null: not known, then a name means the relations of that name in every schema.
   */
  readonly path: readonly string[] | null;
  /** The role that statements run as; null: not known. */
  readonly role: string | null;
  /** By name; they are found first, and under `pg_temp`. */
  readonly temporary: Readonly<Record<string, TemporaryRelation>>;
  /** Why the session can no longer be followed; empty as long as it can. */
  readonly lost: readonly string[];
  /** What path and role follow from, and what an end of the transaction brings back; absent: not known. */
  readonly followed?: FollowedNames;
  readonly digest: string;
}

/** Settings that decide what names mean, as the server holds them; null: not known. */
export interface NameSettings {
  /** search_path as its text. */
  readonly path: string | null;
  /** `none`, or the role that was set. */
  readonly role: string | null;
  /** session_authorization. */
  readonly user: string | null;
}

/** What an end of a transaction or a return to a savepoint undoes. */
export interface UndoableNames {
  /** As they are when the transaction is committed. */
  readonly kept: NameSettings;
  /** SET LOCAL: these hold instead until the transaction ends. */
  readonly local: Partial<NameSettings>;
  readonly temporary: Readonly<Record<string, TemporaryRelation>>;
}

export interface FollowedNames {
  /** What RESET brings back. */
  readonly start: NameSettings;
  readonly kept: NameSettings;
  readonly local: Partial<NameSettings>;
  /**
   * Empty as long as the open transaction has changed nothing. Then the names before its first change, and behind them those at
   * each savepoint made since.
   */
  readonly frames: readonly (UndoableNames & { readonly savepoint: string | null })[];
  /** Prepared while names meant something else: the server reads their texts anew with what names mean at EXECUTE. */
  readonly hidden: readonly { readonly name: string; readonly under: string; readonly model: StatementModel }[];
}

export type Analysis =
  | { readonly kind: "ok"; readonly statements: readonly StatementModel[]; readonly epoch: CatalogEpoch }
  /** The grammar does not accept the text. `position` counts characters from 1, 0 when unknown. */
  | { readonly kind: "unparsed"; readonly message: string; readonly position: number };

/** Bounds and declarations of the resource that the analysis needs. Part of the cache key. */
export interface AnalysisSettings {
  readonly bulkRowsMin: number;
  readonly bulkLimitMax: number;
  readonly safeFunctions: readonly string[];
}
