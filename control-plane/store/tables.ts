/** The store's tables as Kysely sees them. Changed together with `migrations.ts`; nothing here holds rows of a target or a secret. */
import type { ColumnType, Generated } from "kysely";

export interface Tables {
  manifest_documents: ManifestDocumentTable;
  snapshots: SnapshotTable;
  sessions: SessionTable;
}

/** Every revision of every declared document, never changed afterwards: the newest of a (kind, name) is in force. */
export interface ManifestDocumentTable {
  revision: Generated<string>;
  kind: string;
  name: string;
  change: "created" | "updated" | "removed";
  /** `config`: named by the configuration, replaced at each start. `apply`: sent through the API, stays until replaced. */
  origin: "config" | "apply";
  author: string;
  applied_at: Date;
  /** The document's text; empty when removed. */
  content: string;
  /** Where it came from, for messages. */
  source_path: string;
  source_line: number;
}

/** Snapshots in the order in which they came into force. */
export interface SnapshotTable {
  id: Generated<string>;
  version: string;
  content: JsonColumn;
  created_at: Date;
}

/** One row a session; see `session-row.ts` for what the columns mean. */
export interface SessionTable {
  id: string;
  resource: string;
  subject: string;
  issuer: string;
  groups: JsonColumn<readonly string[]>;
  started_at: Date;
  ended_at: Date | null;
  state: "active" | "ended" | "lost";
  statements: number;
  denied: number;
  masked: number;
  close_code: string | null;
  last_sequence: number;
  last_seen_at: Date;
}

/** `jsonb`: read as a value, written as text, so that arrays are not taken for PostgreSQL arrays. */
type JsonColumn<Value = unknown> = ColumnType<Value, string, string>;
