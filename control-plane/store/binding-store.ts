/**
 * Columns that keep their label, in the store: first seen wins, what is seen later corrects the present name alone. Bounded for each
 * resource; a row ends by `forgetBindings`, or when its column or its entity has been gone for a stated time.
 */
import type { ColumnBindings, Snapshot } from "@sluice/core/snapshot.ts";
import type { BindingsReport } from "@sluice/rpc/bindings.ts";
import { type Kysely, sql, type Transaction } from "kysely";
import { storeLocks } from "./locks.ts";
import type { Tables } from "./tables.ts";

export interface TakenBindings {
  readonly added: number;
  /** New ones for which there is no room. */
  readonly refused: number;
}

/** Takes what a gateway reports. The same again changes nothing. */
export async function takeBindings(
  db: Kysely<Tables>,
  report: BindingsReport,
  { author, perResourceMax }: { readonly author: string; readonly perResourceMax: number },
): Promise<TakenBindings> {
  const { resource, database, databaseOid } = report;
  const given = sql`json_to_recordset(${JSON.stringify(report.columns.map(rowOf))}::json)
    as g (relation_oid bigint, column_number integer, entity text, name text, gone boolean)`;
  const same = sql`b.resource = ${resource} and b.database = ${database} and b.database_oid = ${databaseOid}
    and b.relation_oid = g.relation_oid and b.column_number = g.column_number and b.entity = g.entity`;
  return await db.transaction().execute(async (transaction) => {
    // One at a time, so that the bound holds and no two reports wait for each other's rows.
    await sql`select pg_advisory_xact_lock(${sql.lit(storeLocks.bindings)})`.execute(transaction);
    await sql`update column_bindings b
      set seen_as = case when g.gone then b.seen_as else g.name end,
        gone_since = case when g.gone then clock_timestamp() end
      from ${given}
      where ${same} and (g.gone <> (b.gone_since is not null) or (not g.gone and b.seen_as <> g.name))`.execute(transaction);
    const missing = await sql<{ count: string }>`select count(*) from ${given}
      where not g.gone and not exists (select from column_bindings b where ${same})`.execute(transaction);
    const unknown = Number(missing.rows[0]?.count ?? 0);
    if (unknown === 0) return { added: 0, refused: 0 };
    const room = Math.max(0, perResourceMax - (await countBindings(transaction, resource)));
    const added = await sql`insert into column_bindings
        (resource, database, database_oid, relation_oid, column_number, entity, first_seen_as, seen_as, author)
      select ${resource}, ${database}, ${databaseOid}::bigint, g.relation_oid, g.column_number, g.entity, g.name, g.name, ${author}
      from ${given} where not g.gone and not exists (select from column_bindings b where ${same})
      order by g.relation_oid, g.column_number, g.entity limit ${room}
      on conflict do nothing`.execute(transaction);
    const count = Number(added.numAffectedRows ?? 0n);
    return { added: count, refused: unknown - count };
  });
}

/** As they are published with a snapshot: those of its resources whose entity one of its classifiers names. */
export async function readBindings(
  db: Kysely<Tables>,
  { resources, classifiers }: Pick<Snapshot, "resources" | "classifiers">,
): Promise<readonly ColumnBindings[]> {
  const { rows } = await sql<{
    resource: string;
    database: string;
    database_oid: string;
    entity: string;
    columns: readonly number[];
  }>`select resource, database, database_oid, entity,
      json_agg(v order by relation_oid, column_number, at) as columns
    from column_bindings cross join lateral (values (1, relation_oid), (2, column_number::bigint)) as pair (at, v)
    where resource = any(${resources.map(({ name }) => name)}::text[])
      and entity = any(${classifiers.map(({ entity }) => entity)}::text[])
    group by resource, database, database_oid, entity
    order by resource, database, database_oid, entity`.execute(db);
  return rows.map(({ resource, database, database_oid, entity, columns }) => {
    return { resource, database, databaseOid: Number(database_oid), entity, columns };
  });
}

export async function countBindings(db: Kysely<Tables>, resource: string | null): Promise<number> {
  const { rows } = await sql<{ count: string }>`select count(*) from column_bindings
    where ${resource}::text is null or resource = ${resource}`.execute(db);
  return Number(rows[0]?.count ?? 0);
}

export interface StoredBinding {
  readonly resource: string;
  readonly database: string;
  readonly databaseOid: number;
  readonly relationOid: number;
  readonly columnNumber: number;
  readonly entity: string;
  readonly firstSeenAs: string;
  readonly seenAs: string;
  readonly author: string;
  readonly firstSeenAt: Date;
  readonly goneSince: Date | null;
}

export async function listBindings(
  db: Kysely<Tables>,
  filter: { readonly resource: string | null; readonly renamed: boolean; readonly limit: number; readonly skip: number },
): Promise<readonly StoredBinding[]> {
  let query = db
    .selectFrom("column_bindings")
    .selectAll()
    .orderBy("resource")
    .orderBy("database")
    .orderBy("first_seen_as")
    .orderBy("entity")
    .orderBy("database_oid")
    .orderBy("relation_oid")
    .orderBy("column_number");
  if (filter.resource !== null) query = query.where("resource", "=", filter.resource);
  if (filter.renamed) query = query.whereRef("seen_as", "<>", "first_seen_as");
  const rows = await query.limit(filter.limit).offset(filter.skip).execute();
  return rows.map((row) => ({
    resource: row.resource,
    database: row.database,
    databaseOid: Number(row.database_oid),
    relationOid: Number(row.relation_oid),
    columnNumber: row.column_number,
    entity: row.entity,
    firstSeenAs: row.first_seen_as,
    seenAs: row.seen_as,
    author: row.author,
    firstSeenAt: row.first_seen_at,
    goneSince: row.gone_since,
  }));
}

/** Deletes what matches all that is given; what they were, for the history. */
export async function forgetBindings(
  transaction: Transaction<Tables>,
  { resource, column, entity }: { readonly resource: string; readonly column: string | null; readonly entity: string | null },
): Promise<readonly { readonly entity: string; readonly firstSeenAs: string; readonly seenAs: string }[]> {
  const { rows } = await sql<{ entity: string; first_seen_as: string; seen_as: string }>`delete from column_bindings
    where resource = ${resource} and (${column}::text is null or ${column} in (first_seen_as, seen_as))
      and (${entity}::text is null or entity = ${entity})
    returning entity, first_seen_as, seen_as`.execute(transaction);
  return rows.map((row) => ({ entity: row.entity, firstSeenAs: row.first_seen_as, seenAs: row.seen_as }));
}

/** Ends what has been gone, or has been named by nobody, for `goneMs`. Returns how many. */
export async function pruneBindings(
  db: Kysely<Tables>,
  { resources, classifiers }: Pick<Snapshot, "resources" | "classifiers">,
  goneMs: number,
): Promise<number> {
  const isNamed = sql`(resource = any(${resources.map(({ name }) => name)}::text[])
    and entity = any(${classifiers.map(({ entity }) => entity)}::text[]))`;
  await sql`update column_bindings set unnamed_since = case when ${isNamed} then null else clock_timestamp() end
    where ${isNamed} = (unnamed_since is not null)`.execute(db);
  const deleted = await sql`delete from column_bindings
    where least(gone_since, unnamed_since) < clock_timestamp() - make_interval(secs => ${goneMs / 1_000})`.execute(db);
  return Number(deleted.numAffectedRows ?? 0n);
}

function rowOf({
  relationOid,
  columnNumber,
  entity,
  name,
  gone,
}: BindingsReport["columns"][number]): Readonly<Record<string, unknown>> {
  return { relation_oid: relationOid, column_number: columnNumber, entity, name, gone };
}
