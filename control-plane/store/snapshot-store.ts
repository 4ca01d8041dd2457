/**
 * Snapshots in the order in which they came into force. The id of a row is the sequence that nodes see: it only grows. What is
 * published is always what was read from here, so that every replica publishes the very same.
 */
import type { DisabledPrincipal, IdentityProviderSpec, Snapshot } from "@sluice/core/snapshot.ts";
import { type Kysely, type Selectable, sql } from "kysely";
import type { SnapshotTable, Tables } from "./tables.ts";

export interface StoredSnapshot {
  readonly sequence: bigint;
  /** Nodes below this capability must refuse it. */
  readonly capabilityMin: number;
  readonly snapshot: Snapshot;
}

/** The one in force; undefined in a new store. */
export async function readNewestSnapshot(db: Kysely<Tables>): Promise<StoredSnapshot | undefined> {
  const row = await db.selectFrom("snapshots").selectAll().orderBy("id", "desc").limit(1).executeTakeFirst();
  return row === undefined ? undefined : toStored(row);
}

/** Null in a new store. */
export async function readNewestSequence(db: Kysely<Tables>): Promise<bigint | null> {
  const row = await db.selectFrom("snapshots").select("id").orderBy("id", "desc").limit(1).executeTakeFirst();
  return row === undefined ? null : BigInt(row.id);
}

/** Puts it in force unless the one in force says the same. Returns what is in force then, and whether that is new. */
export async function writeSnapshot(
  db: Kysely<Tables>,
  snapshot: Snapshot,
  { author, atMs }: { readonly author: string; readonly atMs: number },
): Promise<{ readonly stored: StoredSnapshot; readonly isNew: boolean }> {
  const newest = await readNewestSnapshot(db);
  if (newest !== undefined && isSame(newest.snapshot, snapshot)) return { stored: newest, isNew: false };
  return { stored: await insertSnapshot(db, snapshot, { author, atMs }), isNew: true };
}

async function insertSnapshot(
  db: Kysely<Tables>,
  snapshot: Snapshot,
  { author, atMs }: { readonly author: string; readonly atMs: number },
): Promise<StoredSnapshot> {
  const row = await db
    .insertInto("snapshots")
    .values({ version: snapshot.version, content: JSON.stringify(snapshot), created_at: new Date(atMs), author })
    .returningAll()
    .executeTakeFirstOrThrow();
  return toStored(row);
}

/** The same content again, with a sequence after `past`. */
export async function renewSnapshot(
  db: Kysely<Tables>,
  { snapshot }: StoredSnapshot,
  past: bigint,
  atMs: number,
): Promise<StoredSnapshot> {
  await sql`select setval(pg_get_serial_sequence('snapshots', 'id'), ${String(past)}::bigint)`.execute(db);
  return await insertSnapshot(db, snapshot, { author: "sequence moved on", atMs });
}

/** Whom no gateway may serve, in the order in which they were disabled. */
export async function readDisabled(db: Kysely<Tables>): Promise<readonly DisabledPrincipal[]> {
  return await db.selectFrom("disabled_principals").select(["issuer", "subject", "owner", "reason"]).orderBy("id").execute();
}

const ISSUER_KEY = "development-issuer/";

/** The built-in issuers of all replicas that have one; distinct names, in the order of their addresses. */
export async function readDevelopmentIssuers(db: Kysely<Tables>): Promise<readonly IdentityProviderSpec[]> {
  const rows = await db
    .selectFrom("settings")
    .select("value")
    .where(sql<boolean>`starts_with(key, ${ISSUER_KEY})`)
    .orderBy("key")
    .execute();
  // Written below and nowhere else.
  const providers = rows.map(({ value }) => value as IdentityProviderSpec);
  return providers.map((provider, at) => (at === 0 ? provider : { ...provider, name: `${provider.name}-${at + 1}` }));
}

export async function writeDevelopmentIssuer(db: Kysely<Tables>, provider: IdentityProviderSpec): Promise<void> {
  const value = JSON.stringify(provider);
  await db
    .insertInto("settings")
    .values({ key: `${ISSUER_KEY}${provider.issuer}`, value })
    .onConflict((conflict) => conflict.column("key").doUpdateSet({ value, updated_at: sql`now()` }))
    .execute();
}

export async function forgetDevelopmentIssuer(db: Kysely<Tables>, issuer: string): Promise<void> {
  await db.deleteFrom("settings").where("key", "=", `${ISSUER_KEY}${issuer}`).execute();
}

function toStored(row: Selectable<SnapshotTable>): StoredSnapshot {
  return {
    sequence: BigInt(row.id),
    capabilityMin: row.capability_min,
    snapshot: row.content as Snapshot, // written above and nowhere else
  };
}

/** The version is a hash of everything but the disabled principals and the bindings. */
function isSame(a: Snapshot, b: Snapshot): boolean {
  return a.version === b.version && disabledKey(a) === disabledKey(b) && bindingsKey(a) === bindingsKey(b);
}

function bindingsKey({ bindings = [] }: Snapshot): string {
  return JSON.stringify(
    bindings.map(({ resource, database, databaseOid, entity, columns }) => [resource, database, databaseOid, entity, columns]),
  );
}

function disabledKey({ disabled = [] }: Snapshot): string {
  return JSON.stringify(disabled.map(({ issuer, subject, owner, reason }) => [issuer, subject, owner, reason]));
}
