/** Keeps declared documents with their history. No revision's text is ever overwritten. */
import { type Kysely, sql, type Transaction } from "kysely";
import type { ApplyPlan, Origin, StoredDocument } from "../publish/plan.ts";
import { storeLocks } from "./locks.ts";
import type { Tables } from "./tables.ts";

/** Runs `work` alone among all applies, in one transaction: it happens as a whole or not at all. */
export async function applyAlone<Result>(
  db: Kysely<Tables>,
  work: (transaction: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  return await db.transaction().execute(async (transaction) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(storeLocks.apply)})`.execute(transaction);
    return await work(transaction);
  });
}

/** The newest revision of each document that is not removed, in the order of kind and name. */
export async function readDocuments(db: Kysely<Tables>): Promise<readonly StoredDocument[]> {
  const rows = await db
    .selectFrom("manifest_documents")
    .distinctOn(["kind", "name"])
    .selectAll()
    .orderBy("kind")
    .orderBy("name")
    .orderBy("revision", "desc")
    .execute();
  return rows
    .filter((row) => row.change !== "removed")
    .map((row) => ({
      kind: row.kind,
      name: row.name,
      origin: row.origin,
      path: row.source_path,
      line: row.source_line,
      text: row.content,
    }));
}

export interface Authorship {
  readonly author: string;
  readonly origin: Origin;
  readonly atMs: number;
}

/** Rows in one INSERT: nine parameters each, 65,535 allowed. */
const ROWS_PER_INSERT = 500;

/** Writes the plan's new revisions. */
export async function writePlan(db: Kysely<Tables>, plan: ApplyPlan, { author, origin, atMs }: Authorship): Promise<void> {
  const removed = plan.removed.map((document) => ({ ...document, text: "", change: "removed" as const }));
  const rows = [...plan.written, ...removed].map((document) => ({
    kind: document.kind,
    name: document.name,
    change: document.change,
    origin,
    author,
    applied_at: new Date(atMs),
    content: document.text,
    source_path: document.path,
    source_line: document.line,
  }));
  for (let at = 0; at < rows.length; at += ROWS_PER_INSERT) {
    await db
      .insertInto("manifest_documents")
      .values(rows.slice(at, at + ROWS_PER_INSERT))
      .execute();
  }
  for (const { kind, name, path, line } of plan.moved) await movePlace(db, { kind, name, path, line });
}

/** Columns that an administrator took the label off, as a revision of its own: nothing that is declared has such a kind. */
export async function writeForgotten(
  db: Kysely<Tables>,
  {
    resource,
    text,
    author,
    atMs,
  }: { readonly resource: string; readonly text: string; readonly author: string; readonly atMs: number },
): Promise<void> {
  await db
    .insertInto("manifest_documents")
    .values({
      kind: "ColumnBindings",
      name: resource,
      change: "removed",
      origin: "apply",
      author,
      applied_at: new Date(atMs),
      content: text,
      source_path: "",
      source_line: 1,
    })
    .execute();
}

/** The place is for messages only, so the newest revision's is corrected instead of writing one that says the same. */
async function movePlace(
  db: Kysely<Tables>,
  { kind, name, path, line }: { readonly kind: string; readonly name: string; readonly path: string; readonly line: number },
): Promise<void> {
  await db
    .updateTable("manifest_documents")
    .set({ source_path: path, source_line: line })
    .where("revision", "=", (query) =>
      query
        .selectFrom("manifest_documents")
        .select("revision")
        .where("kind", "=", kind)
        .where("name", "=", name)
        .orderBy("revision", "desc")
        .limit(1),
    )
    .execute();
}
