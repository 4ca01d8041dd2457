/**
 * Which entity each base column carries, from the classifiers' column paths and names and the target's catalog. Labels follow
 * inheritance and partitions in both directions, fields into the columns that hold them, and columns into what is generated from
 * them. Must never drop a label in doubt: names that collide share their labels.
 */
import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import type { ClassifierSpec } from "@sluice/core/snapshot.ts";

export interface ColumnLabels {
  /** Entities of `schema.table.column`, sorted; empty for none or an unknown column. */
  entitiesOf(qualified: string): readonly string[];
  /** The same by what the wire reports. `columnNumber` 0 (whole row) gives the entities of all columns. */
  entitiesByOid(oid: number, columnNumber: number): readonly string[];
  /** `schema.table.column`, or undefined when the catalog does not hold it (system relations, columns made since). */
  qualifiedByOid(oid: number, columnNumber: number): string | undefined;
  /** True for relations that hold rows of their own: tables, partitioned and foreign tables. False for anything unknown. */
  isBaseTable(oid: number): boolean;
  /** The column is computed from others of its row: what is left visible of it could be any part of them. */
  isGenerated(oid: number, columnNumber: number): boolean;
  /** False only for columns whose type cannot hold a text (numbers, times, booleans …); true when the column is not known. */
  mayHoldText(qualified: string): boolean;
  readonly hasLabels: boolean;
  /** Every labelled column by its qualified name. */
  readonly labelled: ReadonlyMap<string, LabelledColumn>;
  /** `schema.table` of every relation with a labelled column. */
  readonly protectedRelations: ReadonlySet<string>;
}

export interface LabelledColumn {
  /** Sorted, unique. */
  readonly entities: readonly string[];
  /** `schema.table` that holds it. Several only where names with dots in them collide. */
  readonly relations: readonly string[];
}

/**
 * Labels the columns of one catalog. Patterns of `columns` name any relation, views too; those of `columnNames` match where data
 * is stored: tables, partitioned and foreign tables, materialised views. Case is folded in both: more labels, never fewer.
 */
export function labelColumns(classifiers: readonly ClassifierSpec[], catalog: Catalog): ColumnLabels {
  const matchers = classifiers.map(matcherOf);
  const entities = new Map<string, Set<string>>(); // by "oid.columnNumber"
  for (const relation of catalog.relations) {
    if (relation.system) continue;
    for (const column of relation.columns) {
      for (const matcher of matchers) {
        if (matcher.matches(relation, column.name)) add(entities, columnKey(relation.oid, column.number), matcher.entity);
      }
    }
  }
  spread(catalog.relations, entities, matchers);
  return new CatalogLabels(catalog.relations, entities);
}

class CatalogLabels implements ColumnLabels {
  readonly labelled: ReadonlyMap<string, LabelledColumn>;
  readonly protectedRelations: ReadonlySet<string>;
  readonly #relations = new Map<number, CatalogRelation>();
  readonly #names = new Map<string, string>();
  readonly #byOid = new Map<string, readonly string[]>();
  readonly #textless = new Set<string>();
  readonly #generated = new Set<string>();

  constructor(relations: readonly CatalogRelation[], entities: ReadonlyMap<string, ReadonlySet<string>>) {
    const labelled = new Map<string, Set<string>>();
    const holders = new Map<string, Set<string>>();
    const protectedRelations = new Set<string>();
    const maybeText = new Set<string>();
    for (const relation of relations) {
      this.#relations.set(relation.oid, relation);
      const relationName = `${relation.schema}.${relation.name}`;
      const whole = new Set<string>();
      for (const column of relation.columns) {
        const qualified = `${relationName}.${column.name}`;
        const key = columnKey(relation.oid, column.number);
        this.#names.set(key, qualified);
        if (column.generatedFrom !== undefined) this.#generated.add(key);
        (textlessTypes.has(column.typeOid) ? this.#textless : maybeText).add(qualified);
        const found = entities.get(key);
        if (found === undefined) continue;
        this.#byOid.set(key, [...found].sort());
        protectedRelations.add(relationName);
        add(holders, qualified, relationName);
        for (const entity of found) {
          add(labelled, qualified, entity);
          whole.add(entity);
        }
      }
      if (whole.size > 0) this.#byOid.set(columnKey(relation.oid, 0), [...whole].sort());
    }
    for (const qualified of maybeText) this.#textless.delete(qualified);
    this.labelled = new Map(
      [...labelled].map(([qualified, of]) => [
        qualified,
        { entities: [...of].sort(), relations: [...(holders.get(qualified) ?? [])].sort() },
      ]),
    );
    this.protectedRelations = protectedRelations;
  }

  get hasLabels(): boolean {
    return this.labelled.size > 0;
  }

  entitiesOf(qualified: string): readonly string[] {
    return this.labelled.get(qualified)?.entities ?? none;
  }

  entitiesByOid(oid: number, columnNumber: number): readonly string[] {
    return this.#byOid.get(columnKey(oid, columnNumber)) ?? none;
  }

  qualifiedByOid(oid: number, columnNumber: number): string | undefined {
    return this.#names.get(columnKey(oid, columnNumber));
  }

  isBaseTable(oid: number): boolean {
    const kind = this.#relations.get(oid)?.kind;
    return kind === "table" || kind === "partitioned" || kind === "foreign";
  }

  isGenerated(oid: number, columnNumber: number): boolean {
    return this.#generated.has(columnKey(oid, columnNumber));
  }

  mayHoldText(qualified: string): boolean {
    return !this.#textless.has(qualified);
  }
}

const none: readonly never[] = [];

/** Built-in PostgreSQL types (pg_type.dat) whose values are never free text: bool, numbers, oid, times, uuid, bytea, money. */
const textlessTypes: ReadonlySet<number> = new Set([
  16, 17, 20, 21, 23, 26, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950,
]);

function columnKey(oid: number, columnNumber: number): string {
  return `${oid}.${columnNumber}`;
}

function add(to: Map<string, Set<string>>, key: string, value: string): void {
  const known = to.get(key);
  if (known === undefined) to.set(key, new Set([value]));
  else known.add(value);
}

interface ColumnMatcher {
  readonly entity: string;
  matches(relation: CatalogRelation, column: string): boolean;
  /** The same by the name alone, for fields of composite types: they hold nothing themselves. */
  matchesName(column: string): boolean;
}

function matcherOf(classifier: ClassifierSpec): ColumnMatcher {
  const paths = classifier.columns.map((path) => path.split(".").map(wildcard));
  const names = classifier.columnNames.map(wildcard);
  return {
    entity: classifier.entity,
    matchesName: (column) => names.some((name) => name(column)),
    matches(relation, column) {
      if (holdsData(relation) && names.some((name) => name(column))) return true;
      return paths.some(([schema, table, name]) => {
        return schema?.(relation.schema) === true && table?.(relation.name) === true && name?.(column) === true;
      });
    },
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
  entities: Map<string, Set<string>>,
  matchers: readonly ColumnMatcher[],
): void {
  const fields = new Map<string, Set<string>>();
  for (const { oid, columns } of relations.filter(({ kind }) => kind === "composite")) {
    for (const { number, name } of columns) {
      for (const matcher of matchers) if (matcher.matchesName(name)) add(fields, columnKey(oid, number), matcher.entity);
    }
  }
  let before: number;
  do {
    before = sizeOf(entities) + sizeOf(fields);
    spreadIntoColumns(relations, entities, fields);
    spreadOverFamilies(relations, entities);
  } while (sizeOf(entities) + sizeOf(fields) > before);
}

function sizeOf(entities: ReadonlyMap<string, ReadonlySet<string>>): number {
  let size = 0;
  for (const of of entities.values()) size += of.size;
  return size;
}

/** A column that holds rows holds their fields; a generated column tells about the columns it is computed from. */
function spreadIntoColumns(
  relations: readonly CatalogRelation[],
  entities: Map<string, Set<string>>,
  fields: Map<string, Set<string>>,
): void {
  const byOid = new Map(relations.map((relation) => [relation.oid, relation]));
  for (const relation of relations) {
    if (relation.system || relation.kind === "view") continue;
    for (const { number, generatedFrom, rowOf } of relation.columns) {
      const sources = (generatedFrom ?? none).map((source) => columnKey(relation.oid, source));
      const row = rowOf === undefined ? undefined : byOid.get(rowOf);
      for (const field of row?.columns ?? none) sources.push(columnKey(row!.oid, field.number));
      const found = sources.flatMap((source) => [...(entities.get(source) ?? none), ...(fields.get(source) ?? none)]);
      const target = relation.kind === "composite" ? fields : entities;
      for (const entity of found) add(target, columnKey(relation.oid, number), entity);
    }
  }
}

/** A row of a child is a row of its parent: within one inheritance or partition tree, columns of one name share their labels. */
function spreadOverFamilies(relations: readonly CatalogRelation[], entities: Map<string, Set<string>>): void {
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
  for (const start of neighbours.keys()) {
    if (seen.has(start)) continue;
    const family = familyOf(start, neighbours, seen).flatMap((oid) => byOid.get(oid) ?? []);
    const shared = new Map<string, Set<string>>();
    for (const relation of family) {
      for (const column of relation.columns) {
        for (const entity of entities.get(columnKey(relation.oid, column.number)) ?? none) add(shared, column.name, entity);
      }
    }
    for (const relation of family) {
      for (const column of relation.columns) {
        for (const entity of shared.get(column.name) ?? none) add(entities, columnKey(relation.oid, column.number), entity);
      }
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
