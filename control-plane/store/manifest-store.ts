/** Keeps declared documents with their history, and snapshots in the order in which they came into force. Nothing is overwritten. */
import type { Snapshot } from "@sluice/core/snapshot.ts";
import { type Kysely, sql, type Transaction } from "kysely";
import type { ApplyPlan, Origin, StoredDocument } from "../publish/plan.ts";
import type { Tables } from "./tables.ts";

/** One apply at a time, also with several control planes on one store. The number is ours: it must only differ from others'. */
const APPLY_LOCK = 0x51_1c_e0_01;

/** Runs `work` alone among all applies, in one transaction: it happens as a whole or not at all. */
export async function applyAlone<Result>(
  db: Kysely<Tables>,
  work: (transaction: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  return await db.transaction().execute(async (transaction) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(APPLY_LOCK)})`.execute(transaction);
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

/** Writes the plan's new revisions. */
export async function writePlan(db: Kysely<Tables>, plan: ApplyPlan, { author, origin, atMs }: Authorship): Promise<void> {
  const removed = plan.removed.map((document) => ({ ...document, text: "", change: "removed" as const }));
  for (const document of [...plan.written, ...removed]) {
    await db
      .insertInto("manifest_documents")
      .values({
        kind: document.kind,
        name: document.name,
        change: document.change,
        origin,
        author,
        applied_at: new Date(atMs),
        content: document.text,
        source_path: document.path,
        source_line: document.line,
      })
      .execute();
  }
}

/** Notes that a snapshot came into force, unless it is the one that was in force last. */
export async function writeSnapshot(db: Kysely<Tables>, snapshot: Snapshot, atMs: number): Promise<void> {
  const last = await db.selectFrom("snapshots").select("version").orderBy("id", "desc").limit(1).executeTakeFirst();
  if (last?.version === snapshot.version) return;
  await db
    .insertInto("snapshots")
    .values({ version: snapshot.version, content: JSON.stringify(snapshot), created_at: new Date(atMs) })
    .execute();
}
