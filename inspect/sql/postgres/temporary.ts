/**
 * The relations of a session's own temporary schema, put in front of those of the catalog: where a name may mean one, what its
 * columns hold. Must never let one hide another relation unless the server surely does the same.
 * Spec: PostgreSQL documentation, "Schemas" and "search_path": pg_temp is searched first for relations unless the path lists it.
 */
import { createHash } from "node:crypto";
import type { CatalogCast, CatalogColumn, CatalogFunction, CatalogRelation, CatalogType } from "@sluice/core/catalog.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { ParseResult } from "libpg-query";
import type { CatalogIndex, LookupNames, SearchedSchemas, UserOperator } from "../catalog-index.ts";
import type { SessionScope, TemporaryRelation } from "../model.ts";
import { type Column, type Origins, type Rows, UNKNOWN, union, unknownRows } from "./lineage.ts";

/** The schema by which a session names its own temporary relations. */
export const TEMPORARY_SCHEMA = "pg_temp";

/** A temporary relation in the shape of the catalog's. */
export interface SessionRelation extends CatalogRelation {
  readonly temporary: TemporaryRelation;
  readonly rows: Rows;
}

export function isSessionRelation(relation: CatalogRelation): relation is SessionRelation {
  return "temporary" in relation;
}

/** The catalog as this session sees it. */
export function sessionIndex(index: CatalogIndex, session: SessionScope): CatalogIndex {
  return index instanceof SessionIndex ? index : new SessionIndex(index, session);
}

/** Where the values of a relation's column come from: itself, or what was stored in a temporary one. */
export function columnOrigins(relation: CatalogRelation, column: CatalogColumn): Origins {
  if (!isSessionRelation(relation)) return new Set([`${relation.schema}.${relation.name}.${column.name}`]);
  return relation.rows.columns?.find(({ name }) => name === column.name)?.origins ?? relation.rows.all;
}

class SessionIndex implements CatalogIndex {
  readonly #index: CatalogIndex;
  readonly #session: SessionScope;
  readonly #own = new Map<string, SessionRelation>();

  constructor(index: CatalogIndex, session: SessionScope) {
    this.#index = index;
    this.#session = session;
  }

  get epoch(): CatalogEpoch {
    return this.#index.epoch;
  }

  find(schema: string | undefined, name: string, names?: LookupNames): readonly CatalogRelation[] {
    // A definition's own names never mean what the session has made.
    const hidden = names?.temporary !== undefined && !Object.hasOwn(names.temporary, name);
    const own = hidden ? undefined : this.#temporary(name);
    const lost = this.#session.lost.length > 0;
    // Other sessions' temporary relations are none of this one's, as long as its own are known.
    const others = this.#index
      .find(schema, name, names ?? this.#session)
      .filter((found) => lost || found.schema !== TEMPORARY_SCHEMA);
    if (schema === undefined ? own === undefined : schema !== TEMPORARY_SCHEMA || own === undefined) return others;
    if (schema === TEMPORARY_SCHEMA) return lost ? [own!, ...others] : [own!];
    return !lost && own!.temporary.unsure !== true && isFirst((names ?? this.#session).path) ? [own!] : [own!, ...others];
  }

  searched(names: LookupNames): SearchedSchemas | null {
    return this.#index.searched(names);
  }

  parsed(text: string): ParseResult | undefined {
    return this.#index.parsed(text);
  }

  #temporary(name: string): SessionRelation | undefined {
    const { lost } = this.#session;
    const found = temporaryOf(this.#session, name);
    if (found === undefined) return undefined;
    const known = this.#own.get(name);
    if (known !== undefined) return known;
    const made: SessionRelation = {
      oid: -1 - this.#own.size,
      schema: TEMPORARY_SCHEMA,
      name,
      kind: "table",
      system: false,
      columns: (found.columns ?? []).map((column, at) => ({ number: at + 1, name: column.name, typeOid: column.typeOid ?? 0 })),
      parents: [],
      estimatedRows: this.#estimate(found),
      hiddenFunctions: [],
      temporary: found,
      rows: lost.length > 0 ? unknownRows(UNKNOWN) : this.#rows(found),
    };
    this.#own.set(name, made);
    return made;
  }

  #rows(relation: TemporaryRelation): Rows {
    const changed = relation.reads !== undefined && relation.readAs !== storedDigest(relation.reads, this.#session);
    const behind = changed ? storedBehind(relation.reads, this.#session) : [];
    const all = union([new Set(relation.origins), ...behind]);
    if (relation.columns === null) return unknownRows(all);
    const columns = relation.columns.map((column): Column => {
      const written: Origins = new Set(column.origins);
      const origins = union([written, ...behind]);
      const exact = column.exact && origins.size === written.size;
      const type = exact && column.typeOid !== undefined ? { typeOid: column.typeOid } : {};
      return { name: column.name, origins, exact, ...type, temporary: true };
    });
    return { columns, all: union([all, ...columns.map((column) => column.origins)]) };
  }

  /** A table of the session's own is no export of a table of the target: what came from there was counted when it was stored. */
  #estimate({ kind, reads }: TemporaryRelation): number {
    if (kind === "table") return 0;
    const rows = (reads ?? []).filter((read) => temporaryName(read) === undefined).map((read) => this.#estimateOf(read));
    return rows.includes(-1) ? -1 : Math.max(0, ...rows);
  }

  #estimateOf(qualified: string): number {
    const dot = qualified.indexOf(".");
    const found = this.#index.find(qualified.slice(0, dot), qualified.slice(dot + 1));
    return found.length === 1 && dot > 0 ? this.#index.estimatedRows(found[0]!) : -1;
  }

  byOid(oid: number): CatalogRelation | undefined {
    return this.#index.byOid(oid);
  }

  family(relation: CatalogRelation): readonly CatalogRelation[] {
    return isSessionRelation(relation) ? [relation] : this.#index.family(relation);
  }

  definition(relation: CatalogRelation): ParseResult | undefined {
    return this.#index.definition(relation);
  }

  estimatedRows(relation: CatalogRelation): number {
    return isSessionRelation(relation) ? relation.estimatedRows : this.#index.estimatedRows(relation);
  }

  isBuiltin(functionName: string): boolean {
    return this.#index.isBuiltin(functionName);
  }

  functionsNamed(name: string): readonly CatalogFunction[] {
    return this.#index.functionsNamed(name);
  }

  typesNamed(name: string): readonly CatalogType[] {
    return this.#index.typesNamed(name);
  }

  typeByOid(oid: number): CatalogType | undefined {
    return this.#index.typeByOid(oid);
  }

  arrayOf(typeOid: number): number | undefined {
    return this.#index.arrayOf(typeOid);
  }

  operatorsNamed(name: string): readonly UserOperator[] {
    return this.#index.operatorsNamed(name);
  }

  get casts(): readonly CatalogCast[] | undefined {
    return this.#index.casts;
  }

  get eventFunctions(): readonly string[] {
    return this.#index.eventFunctions;
  }
}

/** Relations of the temporary schema are found before all others. */
function isFirst(path: readonly string[] | null): boolean {
  return path !== null && (!path.includes(TEMPORARY_SCHEMA) || path[0] === TEMPORARY_SCHEMA);
}

/** What the temporary relations among these hold by now, those behind views included. */
function storedBehind(reads: readonly string[], session: SessionScope, seen: Set<string> = new Set()): readonly Origins[] {
  return reads.flatMap((read): readonly Origins[] => {
    const name = temporaryName(read);
    if (name === undefined || seen.has(name)) return [];
    seen.add(name);
    const stored = temporaryOf(session, name);
    if (stored === undefined) return [UNKNOWN];
    const columns = (stored.columns ?? []).flatMap((column) => column.origins);
    return [new Set([...stored.origins, ...columns]), ...storedBehind(stored.reads ?? [], session, seen)];
  });
}

/** Equal as long as the temporary relations among these hold nothing new, under whatever names. */
export function storedDigest(reads: readonly string[], session: SessionScope): string {
  const held: unknown[] = [];
  const seen = new Set<string>();
  const add = (read: string): void => {
    const name = temporaryName(read);
    if (name === undefined || seen.has(name)) return;
    seen.add(name);
    const stored = temporaryOf(session, name);
    held.push(stored === undefined ? null : [stored.columns?.map(({ origins }) => origins) ?? null, stored.origins]);
    for (const behind of stored?.reads ?? []) add(behind);
  };
  for (const read of reads) add(read);
  return held.length === 0 ? "" : createHash("sha256").update(JSON.stringify(held)).digest("hex");
}

export function temporaryOf({ temporary }: SessionScope, name: string): TemporaryRelation | undefined {
  return Object.hasOwn(temporary, name) ? temporary[name] : undefined;
}

/** The name of a temporary relation in `RelationUse.name`; undefined for every other one. */
export function temporaryName(qualified: string): string | undefined {
  return qualified.startsWith(`${TEMPORARY_SCHEMA}.`) ? qualified.slice(TEMPORARY_SCHEMA.length + 1) : undefined;
}

const forExecution = new WeakMap<SessionScope, SessionScope>();

/**
 * The names as a statement finds them that was parsed before: a relation made since in the temporary schema does not make the
 * server look again, so that an unqualified name may mean either.
 */
export function scopeOfExecution(scope: SessionScope): SessionScope {
  const { path } = scope;
  if (path === null || Object.keys(scope.temporary).length === 0) return scope;
  const known = forExecution.get(scope);
  if (known !== undefined) return known;
  const later = [...path.filter((schema) => schema !== TEMPORARY_SCHEMA), TEMPORARY_SCHEMA];
  const made: SessionScope = { ...scope, path: later, digest: `${scope.digest}, parsed before` };
  forExecution.set(scope, made);
  return made;
}
