/**
 * Second step of the schema: what an installation of several processes needs. Authorities and signing keys (wrapped, never in
 * clear), join tokens (digests alone), nodes with their certificates, and what replicas tell each other. Never edited once released.
 */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

export const nodesStep: Migration = {
  up: async (db: Kysely<unknown>) => {
    await createAuthorities(db);
    await createNodes(db);
    await createShared(db);
    await extendFirstStep(db);
  },
};

async function createAuthorities(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("authorities")
    .addColumn("fingerprint", "text", (column) => column.primaryKey())
    .addColumn("certificate", "text", (column) => column.notNull())
    .addColumn("wrapped_key", "text")
    .addColumn("state", "text", (column) => column.notNull().check(sql`state in ('announced', 'signing', 'retiring', 'retired')`))
    .addColumn("author", "text", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("sign_after", "timestamptz", (column) => column.notNull())
    .addColumn("not_after", "timestamptz", (column) => column.notNull())
    .addColumn("retiring_at", "timestamptz")
    .addColumn("retired_at", "timestamptz")
    .execute();
  for (const state of ["announced", "signing"]) {
    await db.schema
      .createIndex(`authorities_one_${state}`)
      .on("authorities")
      .column("state")
      .where(sql.ref("state"), "=", state)
      .unique()
      .execute();
  }
  await db.schema
    .createTable("signers")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("authority", "text", (column) => column.notNull().references("authorities.fingerprint"))
    .addColumn("serial", "text", (column) => column.notNull())
    .addColumn("certificate", "text", (column) => column.notNull())
    .addColumn("wrapped_key", "text", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("not_after", "timestamptz", (column) => column.notNull())
    .execute();
}

async function createNodes(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("join_tokens")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("secret_sha256", "text", (column) => column.notNull())
    .addColumn("role", "text", (column) => column.notNull().check(sql`role in ('gateway', 'agent', 'recorder')`))
    .addColumn("name", "text")
    .addColumn("labels", "jsonb", (column) => column.notNull())
    .addColumn("hosts", "jsonb", (column) => column.notNull())
    .addColumn("author", "text", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("expires_at", "timestamptz", (column) => column.notNull())
    .addColumn("used_at", "timestamptz")
    .addColumn("used_by", "text")
    .addColumn("used_key_sha256", "text")
    .addColumn("certificate_serial", "text")
    .addColumn("revoked_at", "timestamptz")
    .execute();
  await db.schema
    .createTable("nodes")
    .addColumn("role", "text", (column) => column.notNull().check(sql`role in ('control-plane', 'gateway', 'agent', 'recorder')`))
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("region", "text", (column) => column.notNull().defaultTo(""))
    .addColumn("labels", "jsonb", (column) => column.notNull())
    .addColumn("hosts", "jsonb", (column) => column.notNull())
    .addColumn("addresses", "jsonb")
    .addColumn("slot", "integer", (column) => column.unique().check(sql`slot between 1 and 4095`))
    .addColumn("capability", "integer", (column) => column.notNull())
    .addColumn("software_version", "text", (column) => column.notNull().defaultTo(""))
    .addColumn("sealing_key", "text")
    .addColumn("status", "jsonb")
    .addColumn("snapshot_sequence", "bigint")
    .addColumn("snapshot_version", "text")
    .addColumn("rejection", "jsonb")
    .addColumn("enrolled_at", "timestamptz", (column) => column.notNull())
    .addColumn("enrolled_with", "text", (column) => column.notNull())
    .addColumn("process_started_at", "timestamptz")
    .addColumn("last_seen_at", "timestamptz")
    .addColumn("connected_to", "text")
    .addColumn("certificate_serial", "text")
    .addColumn("certificate_not_after", "timestamptz")
    .addColumn("revoked_at", "timestamptz")
    .addColumn("revoked_reason", "text")
    .addPrimaryKeyConstraint("nodes_pkey", ["role", "name"])
    .execute();
  await db.schema
    .createTable("certificates")
    .addColumn("serial", "text", (column) => column.primaryKey())
    .addColumn("authority", "text", (column) => column.notNull().references("authorities.fingerprint"))
    .addColumn("role", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("certificate", "text", (column) => column.notNull())
    .addColumn("issued_at", "timestamptz", (column) => column.notNull())
    .addColumn("not_after", "timestamptz", (column) => column.notNull())
    .addColumn("revoked_at", "timestamptz")
    .addColumn("revoked_reason", "text")
    .execute();
  await db.schema.createIndex("certificates_of_node").on("certificates").columns(["role", "name"]).execute();
  await db.schema.createIndex("certificates_by_end").on("certificates").columns(["authority", "not_after"]).execute();
}

async function createShared(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("disabled_principals")
    .addColumn("id", "bigint", (column) => column.generatedAlwaysAsIdentity().primaryKey())
    .addColumn("issuer", "text")
    .addColumn("subject", "text")
    .addColumn("owner", "text")
    .addColumn("reason", "text", (column) => column.notNull())
    .addColumn("author", "text", (column) => column.notNull())
    .addColumn("since", "timestamptz", (column) => column.notNull())
    .addCheckConstraint("disabled_principals_one_kind", sql`(subject is null) <> (owner is null)`)
    .execute();
  // One row a principal; an expression, because a unique constraint takes two NULLs for different.
  await sql`create unique index disabled_principals_one on disabled_principals
    ((coalesce(issuer, '')), (coalesce(subject, '')), (coalesce(owner, '')))`.execute(db);
  await db.schema
    .createTable("commands")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("body", "jsonb", (column) => column.notNull())
    .addColumn("author", "text", (column) => column.notNull().defaultTo(""))
    .addColumn("created_at", "timestamptz", (column) => column.notNull().defaultTo(sql`now()`))
    .execute();
  await db.schema.createIndex("commands_newest").on("commands").column("created_at").execute();
  await db.schema
    .createTable("settings")
    .addColumn("key", "text", (column) => column.primaryKey())
    .addColumn("value", "jsonb", (column) => column.notNull())
    .addColumn("updated_at", "timestamptz", (column) => column.notNull().defaultTo(sql`now()`))
    .execute();
  await db.schema
    .createTable("leases")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("holder", "text", (column) => column.notNull())
    .addColumn("until", "timestamptz", (column) => column.notNull())
    .execute();
}

/** Snapshots are signed with their id as sequence; sessions are told apart by the gateway that serves them. */
async function extendFirstStep(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable("snapshots")
    .addColumn("author", "text", (column) => column.notNull().defaultTo(""))
    .addColumn("capability_min", "integer", (column) => column.notNull().defaultTo(1))
    .execute();
  await db.schema.alterTable("sessions").addColumn("gateway", "text").addColumn("spool", "text").execute();
}
