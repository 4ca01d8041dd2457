/**
 * Reads a PostgreSQL catalog in one read-only transaction and makes it plain data. Calls nothing that a user made.
 * What cannot be read (a view that somebody is replacing right now) is left out, so that it counts as unknown; nothing is guessed.
 */
import { createHash } from "node:crypto";
import type { Catalog, CatalogColumn, CatalogRelation } from "@sluice/core/catalog.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { CatalogEpoch } from "@sluice/core/ids.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { PostgresConnection } from "../targets/postgres/open.ts";
import { QueryClient, QueryRefused, type QueryRow } from "../targets/postgres/query.ts";
import { number, numbersIn, schemaName, text, unexpected } from "./catalog-cells.ts";
import { readUnnamedCode, type RelationShape, type UnnamedCode } from "./postgres-code.ts";
import { readFunctions } from "./postgres-functions.ts";
import {
  beginQuery,
  builtinFunctionsQuery,
  definitionQuery,
  definitionsQuery,
  databaseQuery,
  FIRST_USER_OID,
  relationsQuery,
  usableSchemasQuery,
  viewOidsQuery,
} from "./postgres-queries.ts";

type Content = Omit<Catalog, "epoch">;

/**
 * Takes a fresh connection and ends it. Throws GatewayError `catalog_unavailable` with what happened as its cause.
 * The epoch is a hash of everything but the estimated rows.
 */
export async function readPostgresCatalog(connection: PostgresConnection, limits: Limits, signal: AbortSignal): Promise<Catalog> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.catalogReadTimeoutMs)]);
  const client = new QueryClient(
    connection,
    { rowsMax: limits.catalogRowsMax, bytesMax: limits.catalogBytesMax, frameBytesMax: limits.targetFrameBytesMax },
    deadline,
  );
  try {
    const content = await readContent(client, limits);
    return { epoch: epochOf(content), ...content };
  } catch (cause) {
    throw new GatewayError("catalog_unavailable", "The database's catalog could not be read.", {
      hint: "Try again in a moment; if it stays so, ask the platform team to look at the agent's log.",
      cause,
    });
  } finally {
    client.close();
  }
}

async function readContent(client: QueryClient, limits: Limits): Promise<Content> {
  const [version] = await client.query(beginQuery(limits.catalogLockTimeoutMs, limits.catalogReadTimeoutMs));
  const relationRows = await client.query(relationsQuery);
  const definitions = await readDefinitions(client);
  const functions = await readFunctions(client);
  const builtinFunctions = (await client.query(builtinFunctionsQuery)).map(([name]) => text(name));
  const bare = relationRows.map((row) => toRelation(row, definitions));
  const code = await readUnnamedCode(client, bare.map(shapeOf));
  const [database] = await client.query(databaseQuery);
  const usable = await client.query(usableSchemasQuery);
  await client.query("COMMIT");
  const relations = bare.map((relation) => withCode(relation, code)).sort((a, b) => a.oid - b.oid);
  return {
    protocol: "postgres",
    serverVersion: number(version?.[0]),
    relations: addDescendants(relations),
    functions: [...functions].sort(
      byText(({ schema, name, language, volatility, kind, signature }) => {
        return [schema, name, language, volatility, kind, String(signature?.oid)];
      }),
    ),
    builtinFunctions: builtinFunctions.sort(),
    userOperators: code.userOperators,
    userTypes: code.types,
    operators: code.operators,
    userCasts: code.casts,
    eventFunctions: code.eventFunctions,
    databaseOid: number(database?.[0]),
    // pg_catalog is always among them.
    readAs: { role: text(usable[0]?.[0]), usableSchemas: usable.map(([, schema]) => text(schema)).sort() },
  };
}

/** All at once; where one view is locked or just dropped, one by one, leaving out what cannot be had. */
async function readDefinitions(client: QueryClient): Promise<ReadonlyMap<number, string>> {
  const definitions = new Map<number, string>();
  const add = (oid: number, definition: string | null | undefined): void => {
    if (definition !== null && definition !== undefined) definitions.set(oid, definition);
  };
  await client.query("SAVEPOINT definitions");
  try {
    for (const [oid, definition] of await client.query(definitionsQuery)) add(number(oid), definition);
    return definitions;
  } catch (error) {
    if (!(error instanceof QueryRefused)) throw error;
    // Whoever holds a lock was waited for once; many views over one locked table must not add up.
    await client.query("ROLLBACK TO SAVEPOINT definitions; SET LOCAL lock_timeout = 5; SAVEPOINT definitions");
  }
  for (const [oid] of await client.query(viewOidsQuery)) {
    try {
      const [row] = await client.query(definitionQuery(number(oid)));
      add(number(oid), row?.[0]);
      await client.query("RELEASE SAVEPOINT definitions; SAVEPOINT definitions");
    } catch (error) {
      if (!(error instanceof QueryRefused)) throw error;
      await client.query("ROLLBACK TO SAVEPOINT definitions");
    }
  }
  return definitions;
}

function shapeOf({ oid, parents, columns }: CatalogRelation): RelationShape {
  return { oid, parents, columnTypes: columns.map(({ typeOid }) => typeOid).filter((type) => type >= FIRST_USER_OID) };
}

function withCode(relation: CatalogRelation, code: UnnamedCode): CatalogRelation {
  const { reading, writing } = code.behind(relation.oid);
  if (writing.length === 0) return relation;
  return { ...relation, hiddenFunctions: writing, ...(reading.length === 0 ? {} : { readingFunctions: reading }) };
}

function toRelation(row: QueryRow, definitions: ReadonlyMap<number, string>): CatalogRelation {
  const [oidText, schema, name, relkind, system, rows, parents, columns] = row;
  const oid = number(oidText);
  const kind = relationKind(text(relkind));
  const definition = definitions.get(oid);
  return {
    oid,
    schema: schemaName(text(schema)),
    name: text(name),
    kind,
    system: system === "t",
    columns: columnsOf(columns),
    ...(definition === undefined ? {} : { definition }),
    parents: numbersOf(parents),
    estimatedRows: kind === "view" || kind === "composite" ? -1 : number(rows),
    hiddenFunctions: [],
  };
}

/** A relation with children is as large as all of them together, and of unknown size when one of them is. */
function addDescendants(relations: readonly CatalogRelation[]): readonly CatalogRelation[] {
  const children = new Map<number, CatalogRelation[]>();
  for (const relation of relations) {
    for (const parent of relation.parents) {
      const siblings = children.get(parent);
      if (siblings === undefined) children.set(parent, [relation]);
      else siblings.push(relation);
    }
  }
  const sizes = new Map<number, number>();
  const sizeOf = (relation: CatalogRelation): number => {
    const known = sizes.get(relation.oid);
    if (known !== undefined) return known;
    sizes.set(relation.oid, -1); // the server allows no cycle; a lying one must not make us recurse for ever
    const below = (children.get(relation.oid) ?? []).map(sizeOf);
    // A partitioned table has no rows of its own.
    const own = relation.kind === "partitioned" && below.length > 0 ? 0 : relation.estimatedRows;
    const size = [own, ...below].includes(-1) ? -1 : below.reduce((sum, rows) => sum + rows, own);
    sizes.set(relation.oid, size);
    return size;
  };
  return relations.map((relation) => (children.has(relation.oid) ? { ...relation, estimatedRows: sizeOf(relation) } : relation));
}

function relationKind(relkind: string): CatalogRelation["kind"] {
  switch (relkind) {
    case "r":
    case "t": // the out-of-line values of a table: a table in pg_toast
      return "table";
    case "p":
      return "partitioned";
    case "v":
      return "view";
    case "m":
      return "matview";
    case "f":
      return "foreign";
    case "S":
      return "sequence";
    case "c":
      return "composite";
    default:
      throw unexpected("relation kind");
  }
}

function columnsOf(json: string | null | undefined): readonly CatalogColumn[] {
  if (json === null || json === undefined) return [];
  return (JSON.parse(json) as unknown[]).map((entry) => {
    if (!Array.isArray(entry)) throw unexpected("column");
    const [attribute, name, typeOid, generatedFrom, rowOf] = entry as unknown[]; // what an array holds is checked right below
    if (typeof attribute !== "number" || typeof name !== "string" || typeof typeOid !== "number") throw unexpected("column");
    return {
      number: attribute,
      name,
      typeOid,
      ...(generatedFrom === null || generatedFrom === undefined ? {} : { generatedFrom: numbersIn(generatedFrom) }),
      ...(typeof rowOf === "number" ? { rowOf } : {}),
    };
  });
}

function numbersOf(json: string | null | undefined): readonly number[] {
  if (json === null || json === undefined) return [];
  return numbersIn(JSON.parse(json));
}

/** By code units, so that no server's or machine's collation changes the epoch. */
function byText<Item>(keyOf: (item: Item) => readonly string[]): (a: Item, b: Item) => number {
  return (a, b) => {
    const [left, right] = [keyOf(a).join("\0"), keyOf(b).join("\0")];
    return left < right ? -1 : left > right ? 1 : 0;
  };
}

function epochOf(content: Content): CatalogEpoch {
  const hash = createHash("sha256");
  const { relations, ...others } = content;
  hash.update(JSON.stringify(others));
  for (const { estimatedRows: _, ...relation } of relations) hash.update(`\n${JSON.stringify(relation)}`);
  return hash.digest("hex") as CatalogEpoch; // made here and nowhere else
}
