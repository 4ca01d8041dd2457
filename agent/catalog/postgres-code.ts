/**
 * Ties together what runs without being named in a statement: which functions stand behind a type, an operator, a cast, and behind
 * reading or writing a relation. Must never leave one out that may do more than compute; what is left out is known by its library.
 */
import type { CatalogCast, CatalogOperator, CatalogType } from "@sluice/core/catalog.ts";
import type { QueryClient, QueryRow } from "../targets/postgres/query.ts";
import { type Cell, number, numbersIn, schemaName, text, unexpected } from "./catalog-cells.ts";
import {
  castsQuery,
  doubtfulFunctionsQuery,
  eventFunctionsQuery,
  operatorClassesQuery,
  operatorsQuery,
  relationUsesQuery,
  rulesQuery,
  typesQuery,
  typeUsesQuery,
} from "./postgres-code-queries.ts";
import { isWatchFunction } from "./watch-queries.ts";

export interface UnnamedCode {
  readonly types: readonly CatalogType[];
  /** All names. */
  readonly userOperators: readonly string[];
  readonly operators: readonly CatalogOperator[];
  readonly casts: readonly CatalogCast[];
  readonly eventFunctions: readonly string[];
  /** What runs when rows of the relation are read, and when they are written. */
  behind(relation: number): { readonly reading: readonly string[]; readonly writing: readonly string[] };
}

/** A relation as far as it matters here. */
export interface RelationShape {
  readonly oid: number;
  readonly parents: readonly number[];
  readonly columnTypes: readonly number[];
}

/** Relations that foreign keys and rules lead to from one: a bound for schemas that are one large cluster of cascades. */
const REACHED_MAX = 1_000;

/** Within the transaction of the catalog's read. */
export async function readUnnamedCode(client: QueryClient, relations: readonly RelationShape[]): Promise<UnnamedCode> {
  // The planner takes the dependencies of a schema that was just made for a single one, and loops over all of them for each object.
  await client.query("SET LOCAL enable_nestloop = off");
  const objects = new Objects({
    doubtful: await client.query(doubtfulFunctionsQuery),
    operators: await client.query(operatorsQuery),
    classes: await client.query(operatorClassesQuery),
    types: await client.query(typesQuery),
    typeUses: await client.query(typeUsesQuery),
  });
  const rules = await client.query(rulesQuery);
  const behind = new RelationCode(objects, relations, await client.query(relationUsesQuery), rules);
  await client.query("SET LOCAL enable_nestloop = on");
  const casts = await client.query(castsQuery);
  const events = await client.query(eventFunctionsQuery);
  return {
    types: objects.types,
    userOperators: [...new Set(objects.operators.map(({ name }) => name))].sort(),
    operators: sorted(objects.operators.filter(({ functions }) => functions.length > 0)),
    casts: sorted(casts.flatMap((row) => toCast(row, objects))),
    eventFunctions: unique(
      events.flatMap(([oid, schema, name, source]) =>
        isWatchFunction(text(schema), text(name), text(source))
          ? []
          : (objects.function(number(oid)) ?? `${text(schema)}.${text(name)}`),
      ),
    ),
    behind: (relation) => behind.of(relation),
  };
}

interface ObjectRows {
  readonly doubtful: readonly QueryRow[];
  readonly operators: readonly QueryRow[];
  readonly classes: readonly QueryRow[];
  readonly types: readonly QueryRow[];
  readonly typeUses: readonly QueryRow[];
}

/** Functions behind objects, by class and OID. */
class Objects {
  readonly types: readonly CatalogType[];
  readonly operators: readonly CatalogOperator[];
  readonly #doubtful: ReadonlyMap<number, string>;
  readonly #operators = new Map<number, readonly string[]>();
  readonly #classes = new Map<number, readonly string[]>();
  readonly #types = new Map<number, CatalogType>();

  constructor(rows: ObjectRows) {
    this.#doubtful = new Map(
      rows.doubtful.map(([oid, schema, name]) => [number(oid), `${schemaName(text(schema))}.${text(name)}`]),
    );
    this.operators = rows.operators.map(([oid, schema, name, operands, codes]): CatalogOperator => {
      const functions = this.#named(numbersOf(codes));
      this.#operators.set(number(oid), functions);
      const types = numbersOf(operands).filter((type) => type !== 0);
      return { schema: schemaName(text(schema)), name: text(name), operands: types, functions };
    });
    const defaults = new Map<number, string[]>();
    for (const [oid, type, isDefault, procedures, members] of rows.classes) {
      const ofMembers = numbersOf(members).flatMap((member) => this.#operators.get(member) ?? []);
      const functions = unique([...this.#named(numbersOf(procedures)), ...ofMembers]);
      this.#classes.set(number(oid), functions);
      if (isDefault === "t") defaults.set(number(type), [...(defaults.get(number(type)) ?? []), ...functions]);
    }
    this.types = this.#toTypes(rows, defaults);
  }

  function(oid: number): string | undefined {
    return this.#doubtful.get(oid);
  }

  of(kind: string, oid: number): readonly string[] {
    switch (kind) {
      case "pg_catalog.pg_proc":
        return this.#named([oid]);
      case "pg_catalog.pg_operator":
        return this.#operators.get(oid) ?? [];
      case "pg_catalog.pg_opclass":
        return this.#classes.get(oid) ?? [];
      case "pg_catalog.pg_type":
        return this.ofType(oid);
      default:
        return [];
    }
  }

  /** All that may run when values of the type, or of what it is made of, are made, read, shown or compared. */
  ofType(oid: number): readonly string[] {
    const seen = new Set<number>();
    const found: string[] = [];
    const queue = [oid];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const type = seen.has(next) ? undefined : this.#types.get(next);
      seen.add(next);
      if (type === undefined) continue;
      found.push(...(type.code ?? []), ...(type.checks ?? []));
      queue.push(...(type.parts ?? []));
    }
    return unique(found);
  }

  #named(oids: readonly number[]): readonly string[] {
    return oids.flatMap((oid) => this.#doubtful.get(oid) ?? []);
  }

  #toTypes(rows: ObjectRows, defaults: ReadonlyMap<number, readonly string[]>): readonly CatalogType[] {
    const uses = new Map<number, Use[]>();
    for (const use of rows.typeUses.map(toUse)) push(uses, use.owner, use);
    const texts = new Set([TEXT, VARCHAR]);
    // A domain over a domain has the larger OID, but for what was restored: then it is not taken for a text.
    const ordered = [...rows.types].sort((a, b) => number(a[0]) - number(b[0]));
    for (const row of ordered) {
      const [oidText, schema, name, typtype, array, partsJson, citext, checked, io] = row;
      const oid = number(oidText);
      const own = this.#named(numbersOf(io));
      const kind = array === "t" ? "array" : typeKind(text(typtype));
      const parts = numbersOf(partsJson);
      const code: string[] = [...own, ...(defaults.get(oid) ?? [])];
      const checks: string[] = [];
      for (const use of uses.get(oid) ?? []) {
        const functions = use.kind === "pg_catalog.pg_type" ? [] : this.of(use.kind, use.oid);
        // What a domain uses besides its checks is its default.
        (kind === "domain" ? checks : code).push(...functions.filter((found) => !own.includes(found)));
      }
      const takesText = citext === "t" || (kind === "domain" && checked !== "t" && texts.has(parts[0] ?? 0));
      if (takesText) texts.add(oid);
      this.#types.set(oid, {
        schema: schemaName(text(schema)),
        name: text(name),
        kind,
        oid,
        parts: [...parts].sort((a, b) => a - b),
        code: unique(code),
        ...(checks.length === 0 ? {} : { checks: unique(checks) }),
        ...(takesText ? { takesText: true } : {}),
      });
    }
    // Checks may use values of other types.
    for (const [oid, type] of this.#types) {
      const more = (uses.get(oid) ?? [])
        .filter((use) => use.access === "c" && use.oid !== oid)
        .flatMap((use) => this.of(use.kind, use.oid));
      if (more.length > 0) this.#types.set(oid, { ...type, checks: unique([...(type.checks ?? []), ...more]) });
    }
    return [...this.#types.values()].sort((a, b) => (a.oid ?? 0) - (b.oid ?? 0));
  }
}

/** Type OIDs of pg_type.dat. */
const TEXT = 25;
const VARCHAR = 1_043;

interface Use {
  readonly owner: number;
  readonly access: string;
  readonly kind: string;
  readonly oid: number;
}

class RelationCode {
  readonly #objects: Objects;
  readonly #uses = new Map<number, Use[]>();
  readonly #rules = new Map<number, string[]>();
  readonly #children = new Map<number, number[]>();
  readonly #columnTypes = new Map<number, readonly number[]>();

  constructor(objects: Objects, relations: readonly RelationShape[], uses: readonly QueryRow[], rules: readonly QueryRow[]) {
    this.#objects = objects;
    for (const use of uses.map(toUse)) push(this.#uses, use.owner, use);
    for (const [relation, schema, name, rule] of rules)
      push(this.#rules, number(relation), `rule ${schemaName(text(schema))}.${text(name)}.${text(rule)}`);
    for (const { oid, parents, columnTypes } of relations) {
      for (const parent of parents) push(this.#children, parent, oid);
      if (columnTypes.length > 0) this.#columnTypes.set(oid, columnTypes);
    }
  }

  of(relation: number): { readonly reading: readonly string[]; readonly writing: readonly string[] } {
    if (!this.#uses.has(relation) && !this.#rules.has(relation)) return nothing;
    return { reading: this.#reach(relation, "reading"), writing: this.#reach(relation, "writing") };
  }

  /** The relation's own children are found where a statement is analysed; those of relations behind it are not. */
  #reach(start: number, how: "reading" | "writing"): readonly string[] {
    const found: string[] = [];
    const seen = new Set<string>();
    const queue: (readonly [number, "reading" | "writing"])[] = [[start, how]];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const [oid, access] = next;
      if (seen.has(next.join(" "))) continue;
      seen.add(next.join(" "));
      if (seen.size > REACHED_MAX) return unique([...found, "foreign keys"]);
      if (access === "writing") found.push(...(this.#rules.get(oid) ?? []));
      for (const use of this.#uses.get(oid) ?? []) {
        if (access === "reading" && (use.access === "w" || (use.access === "v" && oid === start))) continue;
        if (use.kind === "pg_catalog.pg_class") queue.push([use.oid, use.access === "w" ? "writing" : "reading"]);
        else found.push(...this.#objects.of(use.kind, use.oid));
      }
      if (oid === start) continue;
      for (const child of this.#children.get(oid) ?? []) queue.push([child, access]);
      for (const type of this.#columnTypes.get(oid) ?? []) found.push(...this.#objects.ofType(type));
    }
    return unique(found);
  }
}

const nothing = { reading: [], writing: [] } as const;

function toUse([owner, access, kind, oid]: QueryRow): Use {
  // With an empty search_path the server writes every class with its schema, but for pg_catalog, which is always searched.
  return {
    owner: number(owner),
    access: text(access),
    kind: `pg_catalog.${text(kind).replace("pg_catalog.", "")}`,
    oid: number(oid),
  };
}

function toCast(row: QueryRow, objects: Objects): CatalogCast[] {
  const [source, sourceSchema, sourceName, sourceRow, target, targetSchema, targetName, targetRow, context, fn] = row;
  const name = objects.function(number(fn));
  if (name === undefined) return [];
  return [
    {
      source: sideOf(source, sourceSchema, sourceName, sourceRow),
      target: sideOf(target, targetSchema, targetName, targetRow),
      context: context === "i" ? "implicit" : context === "a" ? "assignment" : "explicit",
      function: name,
    },
  ];
}

function sideOf(oid: Cell, schema: Cell, name: Cell, row: Cell): CatalogCast["source"] {
  const side = { typeOid: number(oid), schema: schemaName(text(schema)), name: text(name) };
  return row === null || row === undefined ? side : { ...side, rowOf: number(row) };
}

function typeKind(typtype: string): CatalogType["kind"] {
  switch (typtype) {
    case "b":
      return "base";
    case "c":
      return "composite";
    case "d":
      return "domain";
    case "e":
      return "enum";
    case "r":
    case "m": // multirange
      return "range";
    case "p":
      return "pseudo";
    default:
      throw unexpected("type kind");
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, [value]);
  else known.push(value);
}

function unique(names: readonly string[]): readonly string[] {
  return [...new Set(names)].sort();
}

/** In an order that does not depend on the server's plan. */
function sorted<Item>(items: readonly Item[]): readonly Item[] {
  const keyed = items.map((item) => [JSON.stringify(item), item] as const);
  return keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, item]) => item);
}

function numbersOf(json: Cell): readonly number[] {
  return numbersIn(JSON.parse(text(json)));
}
