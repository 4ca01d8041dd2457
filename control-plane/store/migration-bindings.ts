/** Third step of the schema: columns that keep their label whatever they are called. Never edited once released. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

export const bindingsStep: Migration = {
  up: async (db: Kysely<unknown>) => {
    await db.schema
      .createTable("column_bindings")
      .addColumn("resource", "text", (column) => column.notNull())
      .addColumn("database", "text", (column) => column.notNull())
      .addColumn("database_oid", "bigint", (column) => column.notNull())
      .addColumn("relation_oid", "bigint", (column) => column.notNull())
      .addColumn("column_number", "integer", (column) => column.notNull())
      .addColumn("entity", "text", (column) => column.notNull())
      .addColumn("first_seen_as", "text", (column) => column.notNull())
      .addColumn("seen_as", "text", (column) => column.notNull())
      .addColumn("author", "text", (column) => column.notNull())
      .addColumn("first_seen_at", "timestamptz", (column) => column.notNull().defaultTo(sql`clock_timestamp()`))
      .addColumn("gone_since", "timestamptz")
      .addColumn("unnamed_since", "timestamptz")
      .addPrimaryKeyConstraint("column_bindings_pkey", [
        "resource",
        "database",
        "database_oid",
        "relation_oid",
        "column_number",
        "entity",
      ])
      .execute();
  },
};
