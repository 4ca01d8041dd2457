/**
 * A catalog's labels as flat arrays: made once where the catalog is kept, handed to the gateway's thread without a copy (every
 * buffer can be transferred), read in place. Nothing here grows but with names and columns: some twenty bytes a column.
 */
import type { Catalog, CatalogRelation } from "@sluice/core/catalog.ts";
import { columnKey, entitiesOfColumns, type LabelRules } from "./label-rules.ts";

/** Relations are in the order of their OIDs, columns in that of their relations. Names are numbers into `nameEnds`. */
export interface FlatLabels {
  /** All different names, one after the other, UTF-16LE: exactly what the strings were. */
  readonly names: Uint8Array<ArrayBuffer>;
  /** Where each name ends in `names`. Bytes. */
  readonly nameEnds: Uint32Array<ArrayBuffer>;
  readonly oids: Uint32Array<ArrayBuffer>;
  /** Into `relationKinds`. */
  readonly kinds: Uint8Array<ArrayBuffer>;
  /** Schema and name of each relation. */
  readonly relationNames: Uint32Array<ArrayBuffer>;
  /** Entities of all columns of the relation, into `entitySets`. */
  readonly rowSets: Uint32Array<ArrayBuffer>;
  /** The same of all relations of the name; at the place that `relationsByName` gives. */
  readonly namedRowSets: Uint32Array<ArrayBuffer>;
  /** Where each relation's columns begin, and where the last one's end. */
  readonly columnStarts: Uint32Array<ArrayBuffer>;
  readonly columnRelations: Uint32Array<ArrayBuffer>;
  readonly columnNumbers: Int32Array<ArrayBuffer>;
  readonly columnNames: Uint32Array<ArrayBuffer>;
  /** Entities of the column, into `entitySets`. */
  readonly columnSets: Uint32Array<ArrayBuffer>;
  /** Entities of all columns of the qualified name; at the place that `columnsByName` gives. */
  readonly namedSets: Uint32Array<ArrayBuffer>;
  /** Bits of FLAG. */
  readonly flags: Uint8Array<ArrayBuffer>;
  /** OIDs of types that take and show every text as text does, in order. Few: citext and plain domains. */
  readonly textTypes: Uint32Array<ArrayBuffer>;
  /** Open addressing by `hashOf`: place + 1, 0 for an empty slot. */
  readonly columnsByName: Uint32Array<ArrayBuffer>;
  readonly columnHashes: Uint32Array<ArrayBuffer>;
  readonly relationsByName: Uint32Array<ArrayBuffer>;
  readonly relationHashes: Uint32Array<ArrayBuffer>;
  /** 0 is the empty one. */
  readonly entitySets: readonly (readonly string[])[];
  /** Those that some qualified column name has, without the empty one. */
  readonly usedSets: readonly number[];
}

export const FLAG = {
  /** Computed from other columns of its row. */
  generated: 1,
  /** No column of this qualified name has a type that can hold a text; at the place that `columnsByName` gives. */
  textlessByName: 2,
} as const;

const kindNames = ["table", "partitioned", "view", "matview", "foreign", "sequence", "composite"] as const;

/** What `kinds` numbers. */
export const relationKinds: readonly { readonly kind: CatalogRelation["kind"]; readonly system: boolean }[] = [
  ...kindNames.map((kind) => ({ kind, system: false })),
  ...kindNames.map((kind) => ({ kind, system: true })),
];

/** Built-in PostgreSQL types (pg_type.dat) whose values are never free text: bool, numbers, oid, times, uuid, bytea, money. */
const textlessTypes: ReadonlySet<number> = new Set([
  16, 17, 20, 21, 23, 26, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950,
]);

export function flatLabels(rules: LabelRules, catalog: Pick<Catalog, "relations" | "userTypes">): FlatLabels {
  const entities = entitiesOfColumns(rules, catalog);
  const relations = [...catalog.relations].sort((a, b) => a.oid - b.oid);
  const count = relations.reduce((columns, relation) => columns + relation.columns.length, 0);
  const names = new Names();
  const sets = new EntitySets();
  const columns = columnArrays(relations, count, names, (oid, number) => sets.numberOf(entities.get(columnKey(oid, number))));
  const byName = nameColumns(relations, count, columns, sets);
  return {
    ...names.flat(),
    ...columns,
    ...byName,
    ...nameRelations(relations, columns, byName, sets),
    textTypes: Uint32Array.from(
      catalog.userTypes.flatMap(({ oid, takesText }) => (takesText === true && oid !== undefined ? [oid] : [])),
    ).sort(),
    entitySets: sets.all,
    usedSets: [...new Set(byName.namedSets)].filter((set) => set !== 0),
  };
}

/** What may be moved to another thread instead of copied. */
export function buffersOf(flat: FlatLabels): readonly ArrayBuffer[] {
  return Object.values(flat).flatMap((value: unknown) => (ArrayBuffer.isView(value) ? [value.buffer as ArrayBuffer] : [])); // all its views are of such
}

/** FNV-1a over UTF-16 units; `before` is the hash of what stands in front of `text`. */
export function hashOf(text: string, before = 0x811c9dc5): number {
  let hash = before;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

type ColumnArrays = Pick<
  FlatLabels,
  | "oids"
  | "kinds"
  | "relationNames"
  | "columnStarts"
  | "columnRelations"
  | "columnNumbers"
  | "columnNames"
  | "columnSets"
  | "flags"
>;

function columnArrays(
  relations: readonly CatalogRelation[],
  count: number,
  names: Names,
  setOf: (oid: number, columnNumber: number) => number,
): ColumnArrays {
  const arrays: ColumnArrays = {
    oids: Uint32Array.from(relations, ({ oid }) => oid),
    kinds: Uint8Array.from(relations, ({ kind, system }) => kindNames.indexOf(kind) + (system ? kindNames.length : 0)),
    relationNames: new Uint32Array(2 * relations.length),
    columnStarts: new Uint32Array(relations.length + 1),
    columnRelations: new Uint32Array(count),
    columnNumbers: new Int32Array(count),
    columnNames: new Uint32Array(count),
    columnSets: new Uint32Array(count),
    flags: new Uint8Array(count),
  };
  let at = 0;
  for (const [place, relation] of relations.entries()) {
    arrays.relationNames[2 * place] = names.numberOf(relation.schema);
    arrays.relationNames[2 * place + 1] = names.numberOf(relation.name);
    arrays.columnStarts[place] = at;
    for (const column of relation.columns) {
      arrays.columnRelations[at] = place;
      arrays.columnNumbers[at] = column.number;
      arrays.columnNames[at] = names.numberOf(column.name);
      arrays.columnSets[at] = setOf(relation.oid, column.number);
      arrays.flags[at] = column.generatedFrom === undefined ? 0 : FLAG.generated;
      at += 1;
    }
  }
  arrays.columnStarts[relations.length] = at;
  return arrays;
}

type NamedColumns = Pick<FlatLabels, "namedSets" | "columnsByName" | "columnHashes">;

/** Columns by qualified name. Those that collide, where names have dots in them, share entities, and hold texts if one of them may. */
function nameColumns(
  relations: readonly CatalogRelation[],
  count: number,
  { columnSets, flags, columnRelations, columnStarts }: ColumnArrays,
  sets: EntitySets,
): NamedColumns {
  const columnsByName = new Uint32Array(slotsFor(count));
  const columnHashes = new Uint32Array(count);
  const namedSets = new Uint32Array(count);
  const first = new NameTable(columnsByName, columnHashes, (place) => {
    const relation = columnRelations[place]!;
    return `${nameOf(relations[relation]!)}.${relations[relation]!.columns[place - columnStarts[relation]!]!.name}`;
  });
  let at = 0;
  for (const relation of relations) {
    const before = hashOf(`${nameOf(relation)}.`);
    for (const column of relation.columns) {
      const place = first.placeOf(hashOf(column.name, before), at);
      namedSets[place] = place === at ? columnSets[at]! : sets.union(namedSets[place]!, columnSets[at]!);
      const textless = textlessTypes.has(column.typeOid);
      if (place === at && textless) flags[at]! |= FLAG.textlessByName;
      if (place !== at && !textless) flags[place]! &= ~FLAG.textlessByName;
      at += 1;
    }
  }
  return { columnsByName, columnHashes, namedSets };
}

type NamedRelations = Pick<FlatLabels, "rowSets" | "namedRowSets" | "relationsByName" | "relationHashes">;

function nameRelations(
  relations: readonly CatalogRelation[],
  { columnStarts, columnSets }: ColumnArrays,
  { namedSets }: NamedColumns,
  sets: EntitySets,
): NamedRelations {
  const relationsByName = new Uint32Array(slotsFor(relations.length));
  const relationHashes = new Uint32Array(relations.length);
  const rowSets = new Uint32Array(relations.length);
  const namedRowSets = new Uint32Array(relations.length);
  const first = new NameTable(relationsByName, relationHashes, (place) => nameOf(relations[place]!));
  for (const [at, relation] of relations.entries()) {
    const place = first.placeOf(hashOf(nameOf(relation)), at);
    for (let column = columnStarts[at]!; column < columnStarts[at + 1]!; column++) {
      rowSets[at] = sets.union(rowSets[at]!, columnSets[column]!);
      // What a name has from others that collide with it counts only where a column of this relation has something.
      const named = columnSets[column] === 0 ? 0 : sets.union(columnSets[column]!, namedSets[column]!);
      namedRowSets[place] = sets.union(namedRowSets[place]!, named);
    }
  }
  return { relationsByName, relationHashes, rowSets, namedRowSets };
}

function nameOf({ schema, name }: CatalogRelation): string {
  return `${schema}.${name}`;
}

/** At most half full. */
function slotsFor(entries: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(entries, 1) * 2));
}

class NameTable {
  readonly #slots: Uint32Array;
  readonly #hashes: Uint32Array;
  /** Only where two names have one hash are the names themselves made and compared. */
  readonly #textAt: (place: number) => string;

  constructor(slots: Uint32Array, hashes: Uint32Array, textAt: (place: number) => string) {
    this.#slots = slots;
    this.#hashes = hashes;
    this.#textAt = textAt;
  }

  /** The place of the first that had this name: `at` itself when there was none. */
  placeOf(hash: number, at: number): number {
    const mask = this.#slots.length - 1;
    this.#hashes[at] = hash;
    let slot = hash & mask;
    for (; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const place = this.#slots[slot]! - 1;
      if (this.#hashes[place] === hash && this.#textAt(place) === this.#textAt(at)) return place;
    }
    this.#slots[slot] = at + 1;
    return at;
  }
}

class Names {
  readonly #numbers = new Map<string, number>();

  numberOf(name: string): number {
    let number = this.#numbers.get(name);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(name, number);
    }
    return number;
  }

  flat(): Pick<FlatLabels, "names" | "nameEnds"> {
    const nameEnds = new Uint32Array(this.#numbers.size);
    let end = 0;
    for (const [name, number] of this.#numbers) {
      end += 2 * name.length;
      nameEnds[number] = end;
    }
    const names = new Uint8Array(end);
    const into = Buffer.from(names.buffer);
    for (const [name, number] of this.#numbers) into.write(name, number === 0 ? 0 : nameEnds[number - 1]!, "utf16le");
    return { names, nameEnds };
  }
}

class EntitySets {
  readonly all: (readonly string[])[] = [[]];
  readonly #numbers = new Map<string, number>([["", 0]]);
  readonly #unions = new Map<string, number>();

  numberOf(entities: Iterable<string> | undefined): number {
    if (entities === undefined) return 0;
    const sorted = [...entities].sort();
    const key = sorted.join("\0");
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.all.length;
      this.all.push(sorted);
      this.#numbers.set(key, number);
    }
    return number;
  }

  union(a: number, b: number): number {
    if (a === b || b === 0) return a;
    if (a === 0) return b;
    const key = `${a} ${b}`;
    let number = this.#unions.get(key);
    if (number === undefined) {
      number = this.numberOf(new Set([...this.all[a]!, ...this.all[b]!]));
      this.#unions.set(key, number);
    }
    return number;
  }
}
