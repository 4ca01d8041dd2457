/**
 * Which entities each column carries by the classifiers' column paths and names. Labels follow inheritance and partitions in both
 * directions, fields into the columns that hold them, and columns into what is generated from them. Must never drop one in doubt.
 */
import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import type { ClassifierSpec, ColumnBindings } from "@sluice/core/snapshot.ts";

/** What columns are labelled by: plain data, so that it can be handed to whoever holds the catalog. */
export interface LabelRules {
  readonly classifiers: readonly ClassifierSpec[];
  /** Columns of this catalog's resource and database that were labelled before, whatever they are called now. */
  readonly bindings?: readonly ColumnBindings[];
}

/** Entities by `columnKey`. */
export type ColumnEntities = Map<number, Set<string>>;

/** A relation's OID and a column's number as one exact number: PostgreSQL has at most 1,600 columns, so 12 bits hold theirs. */
export function columnKey(oid: number, columnNumber: number): number {
  return oid * 4_096 + columnNumber;
}

/**
 * The entities of one catalog's columns. Patterns of `columns` name any relation, views too; those of `columnNames` match where data
 * is stored: tables, partitioned and foreign tables, materialised views. Case is folded in both: more labels, never fewer.
 */
export function entitiesOfColumns(
  { classifiers, bindings = none }: LabelRules,
  { relations, databaseOid }: Pick<Catalog, "relations" | "databaseOid">,
): ColumnEntities {
  const matchers = classifiers.map(matcherOf);
  const entitiesByName = matcherOfNames(matchers);
  const entities: ColumnEntities = new Map();
  bind(
    entities,
    bindings.filter((binding) => binding.databaseOid === databaseOid),
    classifiers,
  );
  for (const relation of relations) {
    if (relation.system || relation.columns.length === 0) continue;
    const byName = holdsData(relation);
    const byPath = matchers.flatMap((matcher) =>
      matcher.pathsIn(relation).map((matches) => ({ entity: matcher.entity, matches })),
    );
    if (!byName && byPath.length === 0) continue;
    for (const { name, number } of relation.columns) {
      if (byName) for (const entity of entitiesByName(name)) add(entities, columnKey(relation.oid, number), entity);
      for (const { entity, matches } of byPath) if (matches(name)) add(entities, columnKey(relation.oid, number), entity);
    }
  }
  spread(relations, entities, entitiesByName);
  return entities;
}

const none: readonly never[] = [];

/** An entity that no classifier names any more protects nothing. Numbers of what is gone are never given to another column. */
function bind(entities: ColumnEntities, bindings: readonly ColumnBindings[], classifiers: readonly ClassifierSpec[]): void {
  const named = new Set(classifiers.map(({ entity }) => entity));
  for (const { entity, columns } of bindings) {
    if (!named.has(entity)) continue;
    for (let at = 0; at + 1 < columns.length; at += 2) add(entities, columnKey(columns[at]!, columns[at + 1]!), entity);
  }
}

function add<Key>(to: Map<Key, Set<string>>, key: Key, value: string): void {
  const known = to.get(key);
  if (known === undefined) to.set(key, new Set([value]));
  else known.add(value);
}

interface ColumnMatcher {
  readonly entity: string;
  /** What of its patterns for whole paths may match columns of this relation. */
  pathsIn(relation: CatalogRelation): readonly ((column: string) => boolean)[];
  /** By the name alone: where data is stored, and for fields of composite types, which hold nothing themselves. */
  matchesName(column: string): boolean;
}

function matcherOf(classifier: ClassifierSpec): ColumnMatcher {
  const paths = classifier.columns.map((path) => path.split(".").map(wildcard));
  const names = classifier.columnNames.map(wildcard);
  return {
    entity: classifier.entity,
    matchesName: (column) => names.some((name) => name(column)),
    pathsIn: (relation) =>
      paths.flatMap(([schema, table, name]) =>
        schema?.(relation.schema) === true && table?.(relation.name) === true && name !== undefined ? [name] : [],
      ),
  };
}

/** Ten thousand tables share few column names: each is held against the patterns once. */
function matcherOfNames(matchers: readonly ColumnMatcher[]): (column: string) => readonly string[] {
  const known = new Map<string, readonly string[]>();
  return (column) => {
    let found = known.get(column);
    if (found === undefined) {
      found = matchers.filter((matcher) => matcher.matchesName(column)).map(({ entity }) => entity);
      known.set(column, found);
    }
    return found;
  };
}

function holdsData(relation: CatalogRelation): boolean {
  return relation.kind !== "view" && relation.kind !== "composite" && relation.kind !== "sequence";
}

/** `*` matches any run of characters, everything else itself; case is folded. Linear in the text, no regular expression. */
function wildcard(pattern: string): (text: string) => boolean {
  const parts = pattern.toLowerCase().split("*");
  const first = parts[0] ?? "";
  const last = parts.length > 1 ? (parts.at(-1) ?? "") : undefined;
  return (text) => {
    const folded = text.toLowerCase();
    if (last === undefined) return folded === first;
    if (folded.length < first.length + last.length || !folded.startsWith(first) || !folded.endsWith(last)) return false;
    let at = first.length;
    for (const part of parts.slice(1, -1)) {
      const found = folded.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return at <= folded.length - last.length;
  };
}

/** Until nothing is added: a field may be a row itself, and what is generated from a column may be inherited. */
function spread(
  relations: readonly CatalogRelation[],
  entities: ColumnEntities,
  entitiesByName: (column: string) => readonly string[],
): void {
  const fields: ColumnEntities = new Map();
  for (const { oid, columns } of relations.filter(({ kind }) => kind === "composite")) {
    for (const { number, name } of columns) {
      for (const entity of entitiesByName(name)) add(fields, columnKey(oid, number), entity);
    }
  }
  const made = madeOfOthers(relations);
  const families = familiesOf(relations);
  let before: number;
  do {
    before = sizeOf(entities) + sizeOf(fields);
    for (const column of made) {
      const target = column.isField ? fields : entities;
      for (const source of column.sources) {
        for (const from of [entities, fields]) for (const entity of from.get(source) ?? none) add(target, column.key, entity);
      }
    }
    for (const family of families) share(family, entities);
  } while (sizeOf(entities) + sizeOf(fields) > before);
}

function sizeOf(entities: ColumnEntities): number {
  let size = 0;
  for (const of of entities.values()) size += of.size;
  return size;
}

interface MadeOfOthers {
  readonly key: number;
  readonly isField: boolean;
  readonly sources: readonly number[];
}

/** A column that holds rows holds their fields; a generated column tells about the columns it is computed from. */
function madeOfOthers(relations: readonly CatalogRelation[]): readonly MadeOfOthers[] {
  const byOid = new Map(relations.map((relation) => [relation.oid, relation]));
  const made: MadeOfOthers[] = [];
  for (const relation of relations) {
    if (relation.system || relation.kind === "view") continue;
    for (const { number, generatedFrom, rowOf } of relation.columns) {
      if (generatedFrom === undefined && rowOf === undefined) continue;
      const sources = (generatedFrom ?? none).map((source) => columnKey(relation.oid, source));
      const row = rowOf === undefined ? undefined : byOid.get(rowOf);
      for (const field of row?.columns ?? none) sources.push(columnKey(row!.oid, field.number));
      made.push({ key: columnKey(relation.oid, number), isField: relation.kind === "composite", sources });
    }
  }
  return made;
}

/** A row of a child is a row of its parent: within one inheritance or partition tree, columns of one name share their labels. */
function familiesOf(relations: readonly CatalogRelation[]): readonly (readonly CatalogRelation[])[] {
  const byOid = new Map(relations.map((relation) => [relation.oid, relation]));
  const neighbours = new Map<number, Set<number>>();
  for (const relation of relations) {
    for (const parent of relation.parents) {
      if (!byOid.has(parent)) continue;
      link(neighbours, relation.oid, parent);
      link(neighbours, parent, relation.oid);
    }
  }
  const seen = new Set<number>();
  const families: (readonly CatalogRelation[])[] = [];
  for (const start of neighbours.keys()) {
    if (!seen.has(start)) families.push(familyOf(start, neighbours, seen).flatMap((oid) => byOid.get(oid) ?? []));
  }
  return families;
}

function share(family: readonly CatalogRelation[], entities: ColumnEntities): void {
  const shared = new Map<string, Set<string>>();
  for (const relation of family) {
    for (const column of relation.columns) {
      for (const entity of entities.get(columnKey(relation.oid, column.number)) ?? none) add(shared, column.name, entity);
    }
  }
  if (shared.size === 0) return;
  for (const relation of family) {
    for (const column of relation.columns) {
      for (const entity of shared.get(column.name) ?? none) add(entities, columnKey(relation.oid, column.number), entity);
    }
  }
}

function link(neighbours: Map<number, Set<number>>, from: number, to: number): void {
  const known = neighbours.get(from);
  if (known === undefined) neighbours.set(from, new Set([to]));
  else known.add(to);
}

function familyOf(start: number, neighbours: ReadonlyMap<number, ReadonlySet<number>>, seen: Set<number>): readonly number[] {
  const family: number[] = [];
  const queue = [start];
  seen.add(start);
  for (let oid = queue.pop(); oid !== undefined; oid = queue.pop()) {
    family.push(oid);
    for (const next of neighbours.get(oid) ?? []) {
      if (seen.has(next)) continue;
      seen.add(next);
      queue.push(next);
    }
  }
  return family;
}
