/** The store's tables as Kysely sees them. Changed together with `migrations.ts`; nothing here holds rows of a target or a secret. */
import type { NodeAddresses, NodeRole } from "@sluice/rpc/nodes.ts";
import type { ColumnType, Generated } from "kysely";

export interface Tables {
  manifest_documents: ManifestDocumentTable;
  snapshots: SnapshotTable;
  sessions: SessionTable;
  authorities: AuthorityTable;
  signers: SignerTable;
  join_tokens: JoinTokenTable;
  nodes: NodeTable;
  certificates: CertificateTable;
  disabled_principals: DisabledPrincipalTable;
  commands: CommandTable;
  settings: SettingTable;
  leases: LeaseTable;
  column_bindings: ColumnBindingTable;
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

/** Snapshots in the order in which they came into force. The id is the sequence that nodes see; it never goes back. */
export interface SnapshotTable {
  id: Generated<string>;
  version: string;
  content: JsonColumn;
  created_at: Date;
  author: Generated<string>;
  /** Nodes below this capability must refuse it. */
  capability_min: Generated<number>;
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
  /** Name of the gateway that serves it, and the spool it writes to; null where neither is known. */
  gateway: string | null;
  spool: string | null;
}

/** The installation's certificate authorities. The key is wrapped by `keys/`, and forgotten when the authority has retired. */
export interface AuthorityTable {
  /** Hex SHA-256 of the certificate's DER. */
  fingerprint: string;
  /** PEM. */
  certificate: string;
  wrapped_key: string | null;
  state: "announced" | "signing" | "retiring" | "retired";
  author: string;
  created_at: Date;
  /** Trusted from the start, signs from here on. */
  sign_after: Date;
  not_after: Date;
  retiring_at: Date | null;
  retired_at: Date | null;
}

/** Keys that sign snapshots (Ed25519, wrapped), each with its certificate. */
export interface SignerTable {
  id: string;
  authority: string;
  serial: string;
  /** PEM. */
  certificate: string;
  wrapped_key: string;
  created_at: Date;
  not_after: Date;
}

export type EnrollingRoleColumn = Exclude<NodeRole, "control-plane">;

/** What may enrol a node, once. Holds a digest of the secret, never the secret. Its times are the database's. */
export interface JoinTokenTable {
  id: string;
  /** Hex. */
  secret_sha256: string;
  role: EnrollingRoleColumn;
  /** Exactly this name; null: any. */
  name: string | null;
  labels: JsonColumn<Readonly<Record<string, string>>>;
  hosts: JsonColumn<readonly string[]>;
  author: string;
  created_at: Date;
  expires_at: Date;
  used_at: Date | null;
  /** The node that used it, the digest of its key, and the certificate it got: who asks again with the same key gets the same answer. */
  used_by: string | null;
  used_key_sha256: string | null;
  certificate_serial: string | null;
  revoked_at: Date | null;
}

/** Every node that was enrolled and not forgotten. What it reports itself is written by the replica it is connected to. */
export interface NodeTable {
  role: NodeRole;
  name: string;
  region: Generated<string>;
  labels: JsonColumn<Readonly<Record<string, string>>>;
  /** Names and addresses in its certificate besides its own. */
  hosts: JsonColumn<readonly string[]>;
  addresses: NullableJsonColumn<NodeAddresses>;
  /** Gateways: 1 to 4,095. */
  slot: number | null;
  capability: number;
  software_version: Generated<string>;
  /** Agents: JWK (public) as JSON. */
  sealing_key: string | null;
  /** rpc/control-link.ts NodeStatus, as last reported. */
  status: NullableJsonColumn;
  snapshot_sequence: ColumnType<string | null, string | number | bigint | null | undefined, string | number | bigint | null>;
  snapshot_version: string | null;
  /** Why the newest snapshot was not taken. */
  rejection: NullableJsonColumn<{ readonly sequence: number; readonly code: string; readonly message: string }>;
  enrolled_at: Date;
  /** `join-token ID` or `workload NAME`. */
  enrolled_with: string;
  /** When its process began, by its own clock; null: unknown. */
  process_started_at: Date | null;
  last_seen_at: Date | null;
  /** Name of the control plane's replica that holds its stream; null: none. */
  connected_to: string | null;
  certificate_serial: string | null;
  certificate_not_after: Date | null;
  revoked_at: Date | null;
  revoked_reason: string | null;
}

/** Every certificate of a node that has not ended. */
export interface CertificateTable {
  /** Lower-case hex. */
  serial: string;
  authority: string;
  role: NodeRole;
  name: string;
  /** PEM. */
  certificate: string;
  issued_at: Date;
  not_after: Date;
  revoked_at: Date | null;
  revoked_reason: string | null;
}

/** Exactly one of subject and owner. */
export interface DisabledPrincipalTable {
  id: Generated<string>;
  issuer: string | null;
  subject: string | null;
  owner: string | null;
  reason: string;
  author: string;
  since: Date;
}

/** What every gateway must be told once, kept for those that come back. */
export interface CommandTable {
  id: string;
  kind: string;
  body: JsonColumn;
  author: Generated<string>;
  /** The database's time unless given. */
  created_at: Generated<Date>;
}

/** Single values that replicas share, by name. */
export interface SettingTable {
  key: string;
  value: JsonColumn;
  updated_at: Generated<Date>;
}

/** Jobs that one replica runs at a time; see `leases.ts`. */
export interface LeaseTable {
  name: string;
  holder: string;
  until: Date;
}

/** A column that keeps its label whatever it is called. */
export interface ColumnBindingTable {
  resource: string;
  database: string;
  database_oid: string;
  relation_oid: string;
  column_number: number;
  entity: string;
  /** `schema.table.column`. */
  first_seen_as: string;
  seen_as: string;
  /** The gateway that found it first. */
  author: string;
  first_seen_at: Generated<Date>;
  /** Not in the catalog since then. */
  gone_since: Date | null;
  /** No classifier names its entity, or its resource is not declared, since then. */
  unnamed_since: Date | null;
}

/** `jsonb`: read as a value, written as text, so that arrays are not taken for PostgreSQL arrays. */
type JsonColumn<Value = unknown> = ColumnType<Value, string, string>;
type NullableJsonColumn<Value = unknown> = ColumnType<Value | null, string | null | undefined, string | null>;
