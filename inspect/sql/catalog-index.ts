/**
 * A catalog made searchable for analysis: relations by name and by OID, family trees, functions, operators, types. An unqualified
 * name is looked up along the path of its session; where that is not known, in every schema at once: several answers mean "any of
 * them". Must never run or evaluate a definition; view definitions are parsed lazily by the function given.
 */
import type {
  Catalog,
  CatalogCast,
  CatalogFunction,
  CatalogOperator,
  CatalogRelation,
  CatalogType,
} from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { ParseResult } from "libpg-query";
import type { SessionScope } from "./model.ts";

export interface CatalogIndex {
  readonly epoch: CatalogEpoch;
  /**
   * Relations a name may mean: with a schema that very one, without one those on the path of `names`, or of that name in any schema
   * where no path is known. Empty when unknown. `pg_temp` stands for every session's temporary schema.
   */
  find(schema: string | undefined, name: string, names?: LookupNames): readonly CatalogRelation[];
  /** Where unqualified names are looked up, in order; null: in every schema. */
  searched(names: LookupNames): SearchedSchemas | null;
  byOid(oid: number): CatalogRelation | undefined;
  /** The relation with all its inheritance and partition relatives, itself first. */
  family(relation: CatalogRelation): readonly CatalogRelation[];
  /** The tree of a view's definition; undefined when it has none or it does not parse. Parsed once. */
  definition(relation: CatalogRelation): ParseResult | undefined;
  /** The tree of another text of the catalog; undefined when it does not parse. Not kept. */
  parsed(text: string): ParseResult | undefined;
  /** Estimated rows of the relation with its descendants; -1 when unknown. */
  estimatedRows(relation: CatalogRelation): number;
  isBuiltin(functionName: string): boolean;
  /** Functions of that name outside the system schemas. */
  functionsNamed(name: string): readonly CatalogFunction[];
  typesNamed(name: string): readonly CatalogType[];
  typeByOid(oid: number): CatalogType | undefined;
  /** The type whose values are arrays of this one's. */
  arrayOf(typeOid: number): number | undefined;
  /** User operators of that name that may do more than compute. */
  operatorsNamed(name: string): readonly UserOperator[];
  /** Casts by such a function; undefined where it is not known which there are. */
  readonly casts: readonly CatalogCast[] | undefined;
  /** Functions that run when structure is changed. */
  readonly eventFunctions: readonly string[];
}

/** `schema` null: all that is known is that there is one of this name. */
export type UserOperator = Omit<CatalogOperator, "schema"> & { readonly schema: string | null };

/** What of a session decides where names are looked up. */
export type LookupNames = Pick<SessionScope, "path" | "role"> & Partial<Pick<SessionScope, "temporary">>;

/** In what the server prints of a definition every name is qualified that is not in pg_catalog. */
export const definitionNames: LookupNames = { path: ["pg_catalog"], role: null, temporary: {} };

export interface SearchedSchemas {
  readonly schemas: readonly string[];
  /** False: some of them may not be usable for the session's role, so that a name means its first match and all later ones. */
  readonly sure: boolean;
}

/** Indexes a catalog. `parse` must throw on text that is not SQL; it is called at most once for each view. */
export function indexCatalog(catalog: Catalog, parse: (text: string) => ParseResult): CatalogIndex {
  return new NameIndex(catalog, parse);
}

class NameIndex implements CatalogIndex {
  readonly epoch: CatalogEpoch;
  readonly #parse: (text: string) => ParseResult;
  readonly #relations = new Map<string, CatalogRelation[]>();
  readonly #byOid = new Map<number, CatalogRelation>();
  readonly #children = new Map<number, CatalogRelation[]>();
  readonly #functions: ReadonlyMap<string, readonly CatalogFunction[]>;
  readonly #types: ReadonlyMap<string, readonly CatalogType[]>;
  readonly #builtins: ReadonlySet<string>;
  readonly #readAs: string | undefined;
  readonly #usable: ReadonlySet<string>;
  readonly #operators: ReadonlyMap<string, readonly UserOperator[]>;
  readonly #typesByOid = new Map<number, CatalogType>();
  readonly #arrays = new Map<number, number>();
  readonly casts: readonly CatalogCast[] | undefined;
  readonly eventFunctions: readonly string[];
  readonly #definitions = new Map<number, ParseResult | null>();
  readonly #families = new Map<number, readonly CatalogRelation[]>();

  constructor(catalog: Catalog, parse: (text: string) => ParseResult) {
    this.epoch = catalog.epoch;
    this.#readAs = catalog.readAs?.role;
    this.#usable = new Set(catalog.readAs?.usableSchemas);
    this.#parse = parse;
    for (const relation of catalog.relations) {
      push(this.#relations, relation.name, relation);
      this.#byOid.set(relation.oid, relation);
      for (const parent of relation.parents) push(this.#children, parent, relation);
    }
    this.#functions = grouped(catalog.functions);
    this.#types = grouped(catalog.userTypes);
    this.#builtins = new Set(catalog.builtinFunctions);
    this.#operators = grouped<UserOperator>(
      catalog.operators ?? catalog.userOperators.map((name) => ({ schema: null, name, operands: [], functions: [] })),
    );
    this.casts = catalog.userCasts;
    this.eventFunctions = catalog.eventFunctions ?? [];
    for (const type of catalog.userTypes) {
      if (type.oid === undefined) continue;
      this.#typesByOid.set(type.oid, type);
      if (type.kind === "array") for (const element of type.parts ?? []) this.#arrays.set(element, type.oid);
    }
  }

  find(schema: string | undefined, name: string, names?: LookupNames): readonly CatalogRelation[] {
    const named = this.#relations.get(name) ?? none;
    if (schema === "pg_temp") return named.filter((relation) => relation.schema.startsWith("pg_temp"));
    if (schema !== undefined) return inSchema(named, schema);
    const searched = names === undefined ? null : this.searched(names);
    if (searched !== null) return onPath(named, searched);
    // Of the system schemas only pg_catalog is on every search_path; the others are meant only where nothing else has the name.
    const usual = named.filter((relation) => !relation.system || relation.schema === "pg_catalog");
    return usual.length > 0 ? usual : named;
  }

  searched({ path, role }: LookupNames): SearchedSchemas | null {
    if (path === null) return null;
    const sure = role !== null && role === this.#readAs;
    return { sure, schemas: sure ? path.filter((schema) => schema === "pg_temp" || this.#usable.has(schema)) : path };
  }

  byOid(oid: number): CatalogRelation | undefined {
    return this.#byOid.get(oid);
  }

  family(relation: CatalogRelation): readonly CatalogRelation[] {
    const known = this.#families.get(relation.oid);
    if (known !== undefined) return known;
    const seen = new Map<number, CatalogRelation>([[relation.oid, relation]]);
    const queue = [relation];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const parents = next.parents.flatMap((oid) => this.#byOid.get(oid) ?? []);
      for (const relative of [...parents, ...(this.#children.get(next.oid) ?? none)]) {
        if (seen.has(relative.oid)) continue;
        seen.set(relative.oid, relative);
        queue.push(relative);
      }
    }
    const family = [...seen.values()];
    this.#families.set(relation.oid, family);
    return family;
  }

  definition(relation: CatalogRelation): ParseResult | undefined {
    const known = this.#definitions.get(relation.oid);
    if (known !== undefined) return known ?? undefined;
    const { definition = "" } = relation;
    const parsed = definition.trim() === "" ? undefined : this.parsed(definition);
    this.#definitions.set(relation.oid, parsed ?? null);
    return parsed;
  }

  parsed(text: string): ParseResult | undefined {
    try {
      return this.#parse(text);
    } catch (error) {
      if (!isSyntaxError(error)) throw error; // a broken parser must not pass for a view without a definition
      return undefined;
    }
  }

  estimatedRows(relation: CatalogRelation): number {
    const children = this.#descendants(relation);
    // A partitioned table stores nothing itself, so its own unknown estimate does not hide its partitions' known ones.
    const own = relation.kind === "partitioned" && children.length > 0 && relation.estimatedRows < 0 ? 0 : relation.estimatedRows;
    if (own < 0) return -1;
    let sum = 0;
    for (const child of children) {
      if (child.kind === "partitioned") continue;
      if (child.estimatedRows < 0) return -1;
      sum += child.estimatedRows;
    }
    // ANALYZE counts a partitioned table's rows over all partitions: take the larger figure, not both.
    return relation.kind === "partitioned" ? Math.max(own, sum) : own + sum;
  }

  isBuiltin(functionName: string): boolean {
    return this.#builtins.has(functionName);
  }

  functionsNamed(name: string): readonly CatalogFunction[] {
    return this.#functions.get(name) ?? [];
  }

  typesNamed(name: string): readonly CatalogType[] {
    return this.#types.get(name) ?? [];
  }

  typeByOid(oid: number): CatalogType | undefined {
    return this.#typesByOid.get(oid);
  }

  arrayOf(typeOid: number): number | undefined {
    return this.#arrays.get(typeOid);
  }

  operatorsNamed(name: string): readonly UserOperator[] {
    return this.#operators.get(name) ?? [];
  }

  #descendants(relation: CatalogRelation): readonly CatalogRelation[] {
    const seen = new Set<number>([relation.oid]);
    const found: CatalogRelation[] = [];
    const queue = [relation];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      for (const child of this.#children.get(next.oid) ?? none) {
        if (seen.has(child.oid)) continue;
        seen.add(child.oid);
        found.push(child);
        queue.push(child);
      }
    }
    return found;
  }
}

const none: readonly CatalogRelation[] = [];

/** libpg-query marks grammar errors with `sqlDetails`; anything else means that the parser itself is not well. */
export function isSyntaxError(error: unknown): error is Error & { readonly sqlDetails: { readonly cursorPosition: number } } {
  return error instanceof Error && "sqlDetails" in error && typeof error.sqlDetails === "object" && error.sqlDetails !== null;
}

/** The first match ends the search, unless it may be out of the role's reach, or is some session's temporary one. */
function onPath(named: readonly CatalogRelation[], { schemas, sure }: SearchedSchemas): readonly CatalogRelation[] {
  const found: CatalogRelation[] = [];
  for (const schema of named.length === 0 ? [] : schemas) {
    const matches = inSchema(named, schema);
    found.push(...matches);
    if (sure && matches.length > 0 && schema !== "pg_temp") break;
  }
  return found;
}

const bySchema = new WeakMap<readonly CatalogRelation[], ReadonlyMap<string, readonly CatalogRelation[]>>();
/** Relations of one name beyond which they are indexed by schema: a schema a tenant means thousands. */
const SCANNED_MAX = 16;

function inSchema(named: readonly CatalogRelation[], schema: string): readonly CatalogRelation[] {
  if (named.length <= SCANNED_MAX) return named.filter((relation) => relation.schema === schema);
  let index = bySchema.get(named);
  if (index === undefined) {
    const groups = new Map<string, CatalogRelation[]>();
    for (const relation of named) push(groups, relation.schema, relation);
    index = groups;
    bySchema.set(named, index);
  }
  return index.get(schema) ?? none;
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, [value]);
  else known.push(value);
}

function grouped<T extends { readonly name: string }>(values: readonly T[]): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) push(groups, value.name, value);
  return groups;
}
