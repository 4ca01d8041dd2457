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
  /** Types that did not come with the server; those of rows of relations are left out, and arrays of them. */
  readonly userTypes: readonly CatalogType[];
  /** User operators that run code which may do more than compute. Absent: any of `userOperators` may. */
  readonly operators?: readonly CatalogOperator[];
  /** Casts by a function that may do more than compute. Absent: there may be any. */
  readonly userCasts?: readonly CatalogCast[];
  /** Qualified names of functions that run when structure is changed (event triggers), but for the one that tells of changes. */
  readonly eventFunctions?: readonly string[];
  /**
   * The database's OID: with it a relation's OID and a column's number name a column for as long as the database lives. Absent here
   * and below: sent by an agent that did not read it yet.
   */
  readonly databaseOid?: number;
  /** The role that the catalog was read as, and the schemas it has USAGE on (system schemas included). */
  readonly readAs?: { readonly role: string; readonly usableSchemas: readonly string[] };
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
  /**
   * Qualified names of users' functions that run unseen when rows are written: those of triggers, defaults, generated columns,
   * constraints, indexes, partition keys, row security, of what its rules and foreign-key actions reach; `rule table.name` for a rule.
   */
  readonly hiddenFunctions: readonly string[];
  /** The same for what runs already when rows are read: row security and columns computed on reading. Absent: none. */
  readonly readingFunctions?: readonly string[];
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
  /** What a call needs to be followed into the body. Absent: sent by an agent that did not read it, then it cannot be followed. */
  readonly signature?: FunctionSignature;
  /** Source of a function in language SQL; absent for every other language. */
  readonly body?: FunctionBody;
}

export interface FunctionSignature {
  readonly oid: number;
  /** All arguments in order, those of RETURNS TABLE last. */
  readonly arguments: readonly FunctionArgument[];
  /** Trailing input arguments that have a default. */
  readonly defaults: number;
  /** Those defaults as a list of expressions, names qualified. Absent: there are none, or they are not known. */
  readonly defaultValues?: string;
  readonly returnTypeOid: number;
  readonly returnsSet: boolean;
  /** OID of the relation whose row type is returned. */
  readonly returnsRowOf?: number;
  readonly strict: boolean;
  readonly securityDefiner: boolean;
}

export interface FunctionArgument {
  /** Empty for an unnamed one. */
  readonly name: string;
  readonly typeOid: number;
  readonly mode: "in" | "out" | "inout" | "variadic" | "table";
}

export interface FunctionBody {
  readonly text: string;
  /** `bound`: a standard body (BEGIN ATOMIC) printed with every name qualified. `called`: names mean what they mean where it is called. */
  readonly names: "bound" | "called";
  /** SET search_path of the function, as written. */
  readonly searchPath?: string;
}

export interface CatalogType {
  readonly schema: string;
  readonly name: string;
  readonly kind: "base" | "composite" | "domain" | "enum" | "range" | "pseudo" | "array";
  /** Absent here and in what follows: sent by an agent that did not read it yet. */
  readonly oid?: number;
  /** Types that a value is made of: a domain's base, an array's element, a composite's fields, a range's bounds and multirange. */
  readonly parts?: readonly number[];
  /** Qualified names of functions that may do more than compute and run when values are read, shown, made or compared. */
  readonly code?: readonly string[];
  /** Those that run when something becomes a value of this domain. */
  readonly checks?: readonly string[];
  /** Every text is a value of it, and is shown and sent as text is: citext, and domains without checks over a text. */
  readonly takesText?: true;
}

export interface CatalogOperator {
  readonly schema: string;
  readonly name: string;
  /** Types of its operands; one for a prefix operator. */
  readonly operands: readonly number[];
  /** Qualified names of what may do more than compute. */
  readonly functions: readonly string[];
}

export interface CatalogCast {
  readonly source: CastSide;
  readonly target: CastSide;
  readonly context: "explicit" | "assignment" | "implicit";
  /** Qualified name. */
  readonly function: string;
}

export interface CastSide {
  readonly typeOid: number;
  readonly schema: string;
  readonly name: string;
  /** OID of the relation whose row, or array of rows, it is. */
  readonly rowOf?: number;
}
