/**
 * Which entities a column carries, answered from a few flat arrays: ten thousand tables cost a gateway's thread a few megabytes and
 * nothing to receive. Made where the catalog is (`flatLabels`), read where decisions are made. Must never drop a label in doubt:
 * names that collide share their labels.
 */
import type { Catalog } from "@sluice/core/catalog.ts";
import type { ClassifierSpec } from "@sluice/core/snapshot.ts";
import { FLAG, type FlatLabels, flatLabels, hashOf, relationKinds } from "./flat-labels.ts";

export interface ColumnLabels {
  /** Entities of `schema.table.column`, sorted; empty for none or an unknown column. The same object for the same set of entities. */
  entitiesOf(qualified: string): readonly string[];
  /** The same by what the wire reports. `columnNumber` 0 (whole row) gives the entities of all columns. */
  entitiesByOid(oid: number, columnNumber: number): readonly string[];
  /** `schema.table.column`, or undefined when the catalog does not hold it (system relations, columns made since). */
  qualifiedByOid(oid: number, columnNumber: number): string | undefined;
  /** What the relation is; undefined when the catalog does not hold it. */
  relationKind(oid: number): RelationKind | undefined;
  /** True for relations that hold rows of their own: tables, partitioned and foreign tables. False for anything unknown. */
  isBaseTable(oid: number): boolean;
  /** The column is computed from others of its row: what is left visible of it could be any part of them. */
  isGenerated(oid: number, columnNumber: number): boolean;
  /** False only for columns whose type cannot hold a text (numbers, times, booleans …); true when the column is not known. */
  mayHoldText(qualified: string): boolean;
  /** A type of a user's of which every text is a value, shown and sent as text is: citext, and plain domains over a text. */
  takesText(typeOid: number): boolean;
  readonly hasLabels: boolean;
  /** Every set of entities that some column carries by its name. Few, however many columns there are. */
  readonly entitySets: readonly (readonly string[])[];
  /** Entities of all columns of `schema.table`, sorted. */
  entitiesOfRelation(qualified: string): readonly string[];
  /** `schema.table` of every relation with a labelled column. */
  readonly protectedRelations: { has(qualified: string): boolean };
  /** Every labelled column. As long as there are such columns: for reports and tests, not for decisions. */
  labelledColumns(): Iterable<LabelledColumn>;
}

export interface LabelledColumn {
  readonly relationOid: number;
  readonly columnNumber: number;
  /** `schema.table.column` */
  readonly qualified: string;
  /** Sorted, unique. */
  readonly entities: readonly string[];
  readonly relationKind: RelationKind;
}

export interface RelationKind {
  readonly kind: Catalog["relations"][number]["kind"];
  readonly system: boolean;
}

/** Labels the columns of one catalog, here and now. A big one is labelled where it is kept. */
export function labelColumns(classifiers: readonly ClassifierSpec[], catalog: Catalog): ColumnLabels {
  return columnLabels(flatLabels({ classifiers }, catalog));
}

/** `flat` is not looked through. */
export function columnLabels(flat: FlatLabels): ColumnLabels {
  return new FlatColumnLabels(flat);
}

class FlatColumnLabels implements ColumnLabels {
  readonly protectedRelations: { has(qualified: string): boolean };
  readonly #flat: FlatLabels;
  readonly #names: Buffer;

  constructor(flat: FlatLabels) {
    this.#flat = flat;
    this.#names = Buffer.from(flat.names.buffer, flat.names.byteOffset, flat.names.byteLength);
    this.protectedRelations = { has: (qualified) => this.entitiesOfRelation(qualified).length > 0 };
  }

  get hasLabels(): boolean {
    return this.#flat.usedSets.length > 0;
  }

  get entitySets(): readonly (readonly string[])[] {
    return this.#flat.usedSets.map((set) => this.#set(set));
  }

  entitiesOf(qualified: string): readonly string[] {
    const column = this.#columnNamed(qualified);
    return column < 0 ? none : this.#set(this.#flat.namedSets[column]!);
  }

  entitiesByOid(oid: number, columnNumber: number): readonly string[] {
    if (columnNumber === 0) {
      const relation = this.#relation(oid);
      return relation < 0 ? none : this.#set(this.#flat.rowSets[relation]!);
    }
    const column = this.#column(oid, columnNumber);
    return column < 0 ? none : this.#set(this.#flat.columnSets[column]!);
  }

  entitiesOfRelation(qualified: string): readonly string[] {
    const { relationsByName, relationHashes, namedRowSets } = this.#flat;
    const relation = this.#find(qualified, relationsByName, relationHashes, (at) => this.#relationIs(at, qualified));
    return relation < 0 ? none : this.#set(namedRowSets[relation]!);
  }

  qualifiedByOid(oid: number, columnNumber: number): string | undefined {
    const column = this.#column(oid, columnNumber);
    return column < 0 ? undefined : this.#qualified(this.#relation(oid), column);
  }

  relationKind(oid: number): RelationKind | undefined {
    const relation = this.#relation(oid);
    return relation < 0 ? undefined : relationKinds[this.#flat.kinds[relation]!];
  }

  isBaseTable(oid: number): boolean {
    const kind = this.relationKind(oid)?.kind;
    return kind === "table" || kind === "partitioned" || kind === "foreign";
  }

  isGenerated(oid: number, columnNumber: number): boolean {
    const column = this.#column(oid, columnNumber);
    return column >= 0 && (this.#flat.flags[column]! & FLAG.generated) !== 0;
  }

  takesText(typeOid: number): boolean {
    return this.#flat.textTypes.includes(typeOid);
  }

  mayHoldText(qualified: string): boolean {
    const column = this.#columnNamed(qualified);
    return column < 0 || (this.#flat.flags[column]! & FLAG.textlessByName) === 0;
  }

  *labelledColumns(): Iterable<LabelledColumn> {
    const { oids, columnStarts, columnNumbers, columnSets, kinds } = this.#flat;
    for (let relation = 0; relation < oids.length; relation++) {
      for (let column = columnStarts[relation]!; column < columnStarts[relation + 1]!; column++) {
        if (columnSets[column] === 0) continue;
        yield {
          relationOid: oids[relation]!,
          columnNumber: columnNumbers[column]!,
          qualified: this.#qualified(relation, column),
          entities: this.#set(columnSets[column]!),
          relationKind: relationKinds[kinds[relation]!]!,
        };
      }
    }
  }

  #set(number: number): readonly string[] {
    return this.#flat.entitySets[number] ?? none;
  }

  /** Place of a relation; -1: there is none. */
  #relation(oid: number): number {
    const { oids } = this.#flat;
    let low = 0;
    let high = oids.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = oids[middle]!;
      if (found === oid) return middle;
      if (found < oid) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  #column(oid: number, columnNumber: number): number {
    const relation = this.#relation(oid);
    if (relation < 0 || columnNumber < 1) return -1;
    const { columnStarts, columnNumbers } = this.#flat;
    const start = columnStarts[relation]!;
    const end = columnStarts[relation + 1]!;
    const likely = start + columnNumber - 1; // no column was dropped
    if (likely < end && columnNumbers[likely] === columnNumber) return likely;
    for (let column = start; column < end; column++) if (columnNumbers[column] === columnNumber) return column;
    return -1;
  }

  #columnNamed(qualified: string): number {
    const { columnsByName, columnHashes, columnRelations } = this.#flat;
    return this.#find(qualified, columnsByName, columnHashes, (column) => {
      const after = this.#relationStart(columnRelations[column]!, qualified);
      if (after < 0 || qualified.charCodeAt(after) !== DOT) return false;
      return this.#nameAt(this.#flat.columnNames[column]!, qualified, after + 1) === qualified.length;
    });
  }

  #find(name: string, table: Uint32Array, hashes: Uint32Array, is: (at: number) => boolean): number {
    const mask = table.length - 1;
    if (mask < 0) return -1;
    const hash = hashOf(name);
    for (let slot = hash & mask; table[slot] !== 0; slot = (slot + 1) & mask) {
      const at = table[slot]! - 1;
      if (hashes[at] === hash && is(at)) return at;
    }
    return -1;
  }

  #relationIs(relation: number, qualified: string): boolean {
    return this.#relationStart(relation, qualified) === qualified.length;
  }

  /** Where `qualified` goes on after this relation's name; -1: it begins otherwise. */
  #relationStart(relation: number, qualified: string): number {
    const { relationNames } = this.#flat;
    const after = this.#nameAt(relationNames[2 * relation]!, qualified, 0);
    if (after < 0 || qualified.charCodeAt(after) !== DOT) return -1;
    return this.#nameAt(relationNames[2 * relation + 1]!, qualified, after + 1);
  }

  /** Where `text` goes on after the name that stands at `from`; -1: it does not stand there. Makes no string. */
  #nameAt(name: number, text: string, from: number): number {
    const { nameEnds } = this.#flat;
    const start = name === 0 ? 0 : nameEnds[name - 1]!;
    const units = (nameEnds[name]! - start) >> 1;
    if (from + units > text.length) return -1;
    for (let at = 0; at < units; at++) {
      if (this.#names.readUInt16LE(start + 2 * at) !== text.charCodeAt(from + at)) return -1;
    }
    return from + units;
  }

  #qualified(relation: number, column: number): string {
    const { relationNames, columnNames } = this.#flat;
    const names = [relationNames[2 * relation]!, relationNames[2 * relation + 1]!, columnNames[column]!];
    return names.map((name) => this.#name(name)).join(".");
  }

  #name(name: number): string {
    const { nameEnds } = this.#flat;
    return this.#names.toString("utf16le", name === 0 ? 0 : nameEnds[name - 1]!, nameEnds[name]);
  }
}

const DOT = 0x2e;
const none: readonly never[] = [];
