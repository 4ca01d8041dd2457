/** The history of declared documents: who changed what, and how it read before. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Kysely, Selectable } from "kysely";
import type { HistoryAdmin, RevisionSummary } from "../api/services.ts";
import type { ManifestDocumentTable, Tables } from "../store/tables.ts";
import { unifiedDiff } from "./line-diff.ts";

/** More is asked for in pieces: by kind and name. */
const LIMIT_MAX = 10_000;

export function createHistory(db: Kysely<Tables>): HistoryAdmin {
  return {
    list: async ({ kind, name, limit }) => {
      let query = db.selectFrom("manifest_documents").select(summaryColumns).orderBy("revision", "desc");
      if (kind !== undefined) query = query.where("kind", "=", kind);
      if (name !== undefined) query = query.where("name", "=", name);
      const rows = await query.limit(Math.min(Math.max(limit, 1), LIMIT_MAX)).execute();
      return rows.map((row) => summarise(row));
    },
    diff: async (revision) => {
      const isNumber = Number.isSafeInteger(revision) && revision > 0;
      const row = isNumber
        ? await db.selectFrom("manifest_documents").selectAll().where("revision", "=", String(revision)).executeTakeFirst()
        : undefined;
      if (row === undefined) {
        throw new GatewayError("not_found", `There is no revision ${revision}.`, {
          hint: "`sluice manifests history` lists them.",
        });
      }
      const former = await db
        .selectFrom("manifest_documents")
        .select(["revision", "content"])
        .where("kind", "=", row.kind)
        .where("name", "=", row.name)
        .where("revision", "<", row.revision)
        .orderBy("revision", "desc")
        .limit(1)
        .executeTakeFirst();
      const names = {
        before: former === undefined ? "/dev/null" : `${row.kind}/${row.name}@${former.revision}`,
        after: row.change === "removed" ? "/dev/null" : `${row.kind}/${row.name}@${row.revision}`,
      };
      return { revision: summarise(row), diff: unifiedDiff(former?.content ?? "", row.content, names) };
    },
  };
}

const summaryColumns = ["revision", "kind", "name", "change", "author", "applied_at"] as const;

function summarise(row: Pick<Selectable<ManifestDocumentTable>, (typeof summaryColumns)[number]>): RevisionSummary {
  const { kind, name, change, author } = row;
  return { revision: Number(row.revision), kind, name, change, author, at: row.applied_at.toISOString() };
}
