/** What the admin API's methods act on, as interfaces: implemented by the control plane's parts, served by `api/`. */
import type { NodeAddresses, NodeRole } from "@sluice/rpc/nodes.ts";

/** Roles that enrol; control planes share the store instead. */
export type EnrollingRole = Exclude<NodeRole, "control-plane">;

export interface NodesAdmin {
  list(): Promise<readonly NodeSummary[]>;
  /** Withdraws the node's certificates and forgets its name. Throws `not_found`. */
  revoke(node: {
    readonly role: EnrollingRole;
    readonly name: string;
    readonly reason: string;
    readonly author: string;
  }): Promise<void>;
}

export interface NodeSummary {
  readonly role: NodeRole;
  readonly name: string;
  readonly region: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: NodeAddresses;
  /** `connected` to any replica; `away`: not heard of; `draining`; `revoked`. */
  readonly state: "connected" | "away" | "draining" | "revoked";
  readonly softwareVersion: string;
  readonly capability: number;
  readonly sessions: number;
  readonly links: readonly { readonly name: string; readonly sessions: number; readonly roundTripUs: number }[];
  /** Gateways and agents: the snapshot they enforce; null before the first. */
  readonly snapshot: { readonly sequence: number; readonly version: string } | null;
  /** Why the newest snapshot was not taken; null when it was. */
  readonly rejected: { readonly sequence: number; readonly code: string; readonly message: string } | null;
  /** RFC 3339, UTC. */
  readonly enrolledAt: string;
  readonly lastSeenAt: string | null;
  readonly certificateIssuedAt: string | null;
  readonly certificateExpiresAt: string | null;
}

export interface JoinTokensAdmin {
  /** The token itself is in the answer and nowhere else. */
  create(request: {
    readonly role: EnrollingRole;
    /** Exactly this name; null: any. */
    readonly name: string | null;
    readonly labels: Readonly<Record<string, string>>;
    readonly hosts: readonly string[];
    readonly ttlMs: number;
    readonly author: string;
  }): Promise<{ readonly id: string; readonly token: string; readonly expiresAt: string }>;
  list(): Promise<readonly JoinTokenSummary[]>;
  revoke(id: string): Promise<void>;
}

export interface JoinTokenSummary {
  readonly id: string;
  readonly role: EnrollingRole;
  readonly name: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly hosts: readonly string[];
  readonly author: string;
  readonly createdAt: string;
  readonly expiresAt: string;
  readonly state: "open" | "used" | "expired" | "revoked";
  /** The node that used it. */
  readonly usedBy: string | null;
}

export interface AuthoritiesAdmin {
  list(): Promise<readonly AuthoritySummary[]>;
  /** Makes a new authority, trusted at once, that signs from `signAfterMs` on; the former stays trusted until its certificates have ended. */
  rotate(request: { readonly signAfterMs: number; readonly author: string }): Promise<AuthoritySummary>;
}

export interface AuthoritySummary {
  /** Hex SHA-256 of the certificate. */
  readonly fingerprint: string;
  readonly state: "announced" | "signing" | "retiring" | "retired";
  readonly createdAt: string;
  readonly expiresAt: string;
}

export interface SessionsAdmin {
  /** Tells every gateway; resolves when it was handed on. Throws `not_found` for a session that nobody knows to be running. */
  kill(request: { readonly sessionId: string; readonly reason: string; readonly author: string }): Promise<void>;
}

export interface PrincipalsAdmin {
  disable(request: PrincipalRef & { readonly reason: string; readonly author: string }): Promise<void>;
  /** Throws `not_found` when it is not disabled. */
  enable(request: PrincipalRef): Promise<void>;
  list(): Promise<readonly (PrincipalRef & { readonly reason: string; readonly author: string; readonly since: string })[]>;
}

/** Either a subject (of one issuer, or of any when null) or an owner with all its workloads. */
export interface PrincipalRef {
  readonly subject: string | null;
  readonly issuer: string | null;
  readonly owner: string | null;
}

export interface BindingsAdmin {
  list(filter: {
    /** Null: of all. */
    readonly resource: string | null;
    /** Only those that are not called what they were. */
    readonly renamed: boolean;
    readonly limit: number;
    readonly skip: number;
  }): Promise<{ readonly bindings: readonly BindingSummary[]; readonly total: number }>;
  /** Everything given must match. Returns how many; throws `not_found` for none. */
  forget(which: {
    readonly resource: string;
    readonly column: string | null;
    readonly entity: string | null;
    readonly author: string;
  }): Promise<number>;
}

export interface BindingSummary {
  readonly resource: string;
  readonly database: string;
  readonly databaseOid: number;
  readonly relationOid: number;
  readonly columnNumber: number;
  readonly entity: string;
  /** `schema.table.column`. */
  readonly firstSeenAs: string;
  readonly seenAs: string;
  /** The gateway that found it first. */
  readonly author: string;
  /** RFC 3339, UTC. */
  readonly since: string;
  readonly goneSince: string | null;
}

export interface HistoryAdmin {
  /** Newest first; all documents when nothing is said. */
  list(filter: { readonly kind?: string; readonly name?: string; readonly limit: number }): Promise<readonly RevisionSummary[]>;
  /** Against the revision before it, as a unified diff. Throws `not_found`. */
  diff(revision: number): Promise<{ readonly revision: RevisionSummary; readonly diff: string }>;
}

export interface RevisionSummary {
  readonly revision: number;
  readonly kind: string;
  readonly name: string;
  readonly change: "created" | "updated" | "removed";
  readonly author: string;
  readonly at: string;
}

export interface SealingAdmin {
  /** Public keys of the agents that reach the resource or would reach a target with these labels. */
  recipients(labels: Readonly<Record<string, string>>): Promise<readonly { readonly agent: string; readonly jwk: string }[]>;
}
