/** The store's schema, step by step. A step that was released is never edited: a new one follows it. */
import { type Kysely, sql } from "kysely";
import type { Migration, MigrationProvider } from "kysely/migration";
import { bindingsStep } from "./migration-bindings.ts";
import { nodesStep } from "./migration-nodes.ts";

const steps: Readonly<Record<string, Migration>> = {
  "0001_documents_snapshots_sessions": {
    up: async (db: Kysely<unknown>) => {
      await db.schema
        .createTable("manifest_documents")
        .addColumn("revision", "bigint", (column) => column.generatedAlwaysAsIdentity().primaryKey())
        .addColumn("kind", "text", (column) => column.notNull())
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("change", "text", (column) => column.notNull().check(sql`change in ('created', 'updated', 'removed')`))
        .addColumn("origin", "text", (column) => column.notNull().check(sql`origin in ('config', 'apply')`))
        .addColumn("author", "text", (column) => column.notNull())
        .addColumn("applied_at", "timestamptz", (column) => column.notNull())
        .addColumn("content", "text", (column) => column.notNull())
        .addColumn("source_path", "text", (column) => column.notNull())
        .addColumn("source_line", "integer", (column) => column.notNull())
        .execute();
      await db.schema
        .createIndex("manifest_documents_newest")
        .on("manifest_documents")
        .columns(["kind", "name", "revision desc"])
        .execute();
      await db.schema
        .createTable("snapshots")
        .addColumn("id", "bigint", (column) => column.generatedAlwaysAsIdentity().primaryKey())
        .addColumn("version", "text", (column) => column.notNull())
        .addColumn("content", "jsonb", (column) => column.notNull())
        .addColumn("created_at", "timestamptz", (column) => column.notNull())
        .execute();
      await db.schema
        .createTable("sessions")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("resource", "text", (column) => column.notNull())
        .addColumn("subject", "text", (column) => column.notNull())
        .addColumn("issuer", "text", (column) => column.notNull())
        .addColumn("groups", "jsonb", (column) => column.notNull())
        .addColumn("started_at", "timestamptz", (column) => column.notNull())
        .addColumn("ended_at", "timestamptz")
        .addColumn("state", "text", (column) => column.notNull().check(sql`state in ('active', 'ended', 'lost')`))
        .addColumn("statements", "integer", (column) => column.notNull())
        .addColumn("denied", "integer", (column) => column.notNull())
        .addColumn("masked", "integer", (column) => column.notNull())
        .addColumn("close_code", "text")
        .addColumn("last_sequence", "integer", (column) => column.notNull())
        .addColumn("last_seen_at", "timestamptz", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("sessions_newest").on("sessions").columns(["started_at desc", "id desc"]).execute();
      await db.schema
        .createIndex("sessions_active")
        .on("sessions")
        .column("state")
        .where(sql.ref("state"), "=", "active")
        .execute();
    },
  },
  "0002_authorities_nodes_changes": nodesStep,
  "0003_column_bindings": bindingsStep,
};

export const migrations: MigrationProvider = { getMigrations: async () => steps };

/** The steps in their order, for who loads a backup of an older schema. */
export const migrationSteps: readonly (readonly [name: string, step: Migration])[] = Object.entries(steps).sort(([a], [b]) =>
  a < b ? -1 : 1,
);
