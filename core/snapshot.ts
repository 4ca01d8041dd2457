/**
 * Everything a gateway needs to decide without asking, as plain data: what manifests declare, after validation.
 * Produced by `manifest`, published by the control plane, compiled by `inspect/policy`, read by every plane.
 */
export interface Snapshot {
  /** Content hash of everything below (hex, 16 characters): equal versions mean equal content. */
  readonly version: string;
  readonly resources: readonly ResourceSpec[];
  readonly classifiers: readonly ClassifierSpec[];
  readonly policies: readonly PolicySpec[];
  readonly identityProviders: readonly IdentityProviderSpec[];
  /** Whose sessions end and who may not log in, whatever their tokens say. Not part of `version`: it comes and goes without a policy change. */
  readonly disabled?: readonly DisabledPrincipal[];
  /** Columns that keep the entity they were once found to carry, whatever they are called since. Not part of `version` either. */
  readonly bindings?: readonly ColumnBindings[];
}

/** Columns of one database that carry an entity, by what survives a rename. They count only while a classifier names the entity. */
export interface ColumnBindings {
  readonly resource: string;
  readonly database: string;
  /** They say nothing of a database of another OID under the same name: it was restored or made anew. */
  readonly databaseOid: number;
  readonly entity: string;
  /** Relation's OID and column's number in turns: tens of thousands of them must fit. */
  readonly columns: readonly number[];
}

/** Exactly one of `subject` (with its issuer) and `owner` (all workloads of it, from any issuer). */
export interface DisabledPrincipal {
  readonly issuer: string | null;
  readonly subject: string | null;
  readonly owner: string | null;
  /** What the caller reads. */
  readonly reason: string;
}

export type Protocol = "postgres";
export type TlsMode = "disable" | "require" | "verify-ca" | "verify-full";

export interface ResourceSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly protocol: Protocol;
  readonly target: TargetSpec;
  /** Used for sessions that may write; for all where there is no other. */
  readonly credential: CredentialSpec;
  /** Used for sessions to which policy permits nothing but reading. */
  readonly readOnlyCredential?: CredentialSpec;
  /** Labels that an agent must carry to reach it. Absent or empty: any agent. */
  readonly agents?: Readonly<Record<string, string>>;
  readonly inspection: InspectionSpec;
}

/** Which of a resource's credentials a session uses. */
export type TargetAccount = "readOnly" | "readWrite";

export interface TargetSpec {
  readonly host: string;
  readonly port: number;
  /** The database that the bare resource name stands for. */
  readonly database: string;
  /** Further databases of the same server that `resource/database` may name. */
  readonly databases: readonly string[];
  readonly tls: { readonly mode: TlsMode; readonly caFile?: string; readonly serverName?: string };
  /** Further addresses of the same database, tried in this order when the ones before do not answer. */
  readonly failover?: readonly { readonly host: string; readonly port: number }[];
  /** `primary`: a host that is in recovery or read-only by default is passed over; `any` (also when absent): the first that answers. */
  readonly role?: "primary" | "any";
  /** Connections to the target that are used again by later sessions; absent: each session has its own. */
  readonly pool?: { readonly connectionsMax: number; readonly idleMs: number };
}

export interface CredentialSpec {
  readonly username: SecretRef;
  /** Absent only where the target trusts the agent's address. */
  readonly password?: SecretRef;
}

/** Where a credential comes from; never the secret itself. `value` is accepted for user names only. */
export type SecretRef =
  | { readonly kind: "value"; readonly value: string }
  | { readonly kind: "env"; readonly name: string }
  | { readonly kind: "file"; readonly path: string }
  /** KV version 2: one field of a secret. `vault` names a server of the agent's configuration. */
  | { readonly kind: "vaultKv"; readonly vault: string; readonly mount: string; readonly path: string; readonly field: string }
  /** Database engine: `username` or `password` of a leased pair; both of one credential come from the same lease. */
  | {
      readonly kind: "vaultDatabase";
      readonly vault: string;
      readonly mount: string;
      readonly role: string;
      readonly field: "username" | "password";
    }
  | { readonly kind: "kubernetes"; readonly namespace: string | null; readonly secret: string; readonly key: string }
  /** JWE (general JSON serialisation, base64url of it) to the keys of the agents that may open it. */
  | { readonly kind: "sealed"; readonly jwe: string };

export interface InspectionSpec {
  /** Relations estimated above this many rows count as bulk. Rows; 10,000. */
  readonly bulkRowsMin: number;
  /** A LIMIT above this is no limit. Rows; 1,000. */
  readonly bulkLimitMax: number;
  /** Functions (schema.name) declared safe: they neither return nor keep protected data. */
  readonly safeFunctions: readonly string[];
  /** `strict`: durable before released. `relaxed`: appended, made durable within a second. `auto`: strict where a classifier matches. */
  readonly recording: "auto" | "strict" | "relaxed";
}

export interface ClassifierSpec {
  readonly name: string;
  /** Upper-case entity name such as US_SSN. */
  readonly entity: string;
  /** `schema.table.column`; `*` matches within one part. */
  readonly columns: readonly string[];
  /** Patterns over base column names; `*` matches any run of characters. Case is folded. */
  readonly columnNames: readonly string[];
  readonly values?: ValueDetectorSpec;
}

export type ValueDetectorSpec =
  | { readonly kind: "builtin"; readonly detector: string }
  | { readonly kind: "pattern"; readonly pattern: string; readonly validator?: "luhn"; readonly context: readonly string[] };

export interface PolicySpec {
  readonly name: string;
  readonly principals: PrincipalSelector;
  readonly resources: ResourceSelector;
  readonly rules: readonly RuleSpec[];
}

/** All given parts must match; within a list any one is enough. An empty selector matches every authenticated principal. */
export interface PrincipalSelector {
  readonly groups?: readonly string[];
  readonly subjects?: readonly string[];
  readonly kinds?: readonly string[];
  readonly owners?: readonly string[];
  readonly issuers?: readonly string[];
  readonly claims?: Readonly<Record<string, string>>;
}

/** All given parts must match. An empty selector matches every resource. */
export interface ResourceSelector {
  readonly names?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
}

interface RuleBase {
  readonly name: string;
  /** CEL over the documented fields; absent means always. */
  readonly when?: string;
  readonly reason?: string;
}

export type RuleSpec =
  | (RuleBase & { readonly effect: "allow" })
  | (RuleBase & { readonly effect: "deny" })
  | (RuleBase & {
      readonly effect: "mask";
      readonly entities: readonly string[];
      readonly operator: MaskOperator;
      /** What a caller who sees the column masked may do with it in WHERE, ORDER BY and the like. */
      readonly influences: "equality" | "allow" | "deny";
    })
  | (RuleBase & { readonly effect: "limit"; readonly rows: number })
  | (RuleBase & {
      readonly effect: "approve";
      readonly reviewers: { readonly groups: readonly string[]; readonly count: number };
      readonly timeoutMs: number;
    });

export type MaskOperator =
  | { readonly kind: "redact" }
  | { readonly kind: "null" }
  | { readonly kind: "partial"; readonly keepFirst: number; readonly keepLast: number };

export interface IdentityProviderSpec {
  readonly name: string;
  /** Exact `iss` value. */
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** JWS algorithms accepted; never `none`, never HMAC. */
  readonly algorithms: readonly string[];
  /** Discovered from the issuer when absent. */
  readonly jwksUri?: string;
  /** PEM file of the CA that signs the issuer's certificate; the system's when absent. */
  readonly caFile?: string;
  /** The same as text, for the built-in issuer: gateways elsewhere have no such file. */
  readonly caPem?: string;
  readonly groupsClaim: string;
  /** How far its clock may be from ours; the gateway's own bound when absent. 0 for the built-in issuer: it is the same clock. */
  readonly clockToleranceMs?: number;
}
