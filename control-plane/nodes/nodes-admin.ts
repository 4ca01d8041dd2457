/** What the admin API says and does about nodes: the list (the same at every replica), withdrawing one, and whom secrets may be sealed to. */
import type { Kysely } from "kysely";
import type { NodesAdmin, NodeSummary, SealingAdmin } from "../api/services.ts";
import type { Authority } from "../ca/authority.ts";
import { carries } from "../publish/sign.ts";
import type { Tables } from "../store/tables.ts";
import type { ConnectedNode } from "./connected-node.ts";
import { keyOf } from "./connected-node.ts";
import { type NodeRow, readNodes } from "./node-store.ts";

export interface NodesAdminOptions {
  readonly db: Kysely<Tables>;
  readonly authority: Pick<Authority, "revokeNode">;
  /** Connected to this replica: known better than the store does. */
  readonly connected: ReadonlyMap<string, ConnectedNode>;
}

export function createNodesAdmin({ db, authority, connected }: NodesAdminOptions): NodesAdmin {
  return {
    list: async () => (await readNodes(db)).map((row) => summarise(row, connected.get(keyOf(row)))),
    revoke: async ({ role, name, reason, author }) => {
      await authority.revokeNode({ role, name, reason: `${reason} (${author})` });
    },
  };
}

/** `own`: the public key of the agent in the same process, which reaches every resource; empty where there is none. */
export function createSealing(db: Kysely<Tables>, own: string): SealingAdmin {
  return {
    recipients: async (labels) => {
      const rows = await readNodes(db);
      const elsewhere = rows
        .filter((row) => row.role === "agent" && row.revokedAt === null && row.sealingKey !== "" && carries(row.labels, labels))
        .map(({ name, sealingKey }) => ({ agent: name, jwk: sealingKey }));
      return own === "" ? elsewhere : [{ agent: "co-located", jwk: own }, ...elsewhere];
    },
  };
}

function summarise(row: NodeRow, node: ConnectedNode | undefined): NodeSummary {
  const status = node?.status ?? row.status;
  return {
    role: row.role,
    name: row.name,
    region: row.region,
    labels: row.labels,
    addresses: row.addresses,
    state: stateOf(row, node),
    softwareVersion: row.softwareVersion,
    capability: row.capability,
    sessions: status.sessions,
    links: status.links,
    snapshot: row.snapshot,
    rejected: row.rejected,
    enrolledAt: row.enrolledAt.toISOString(),
    lastSeenAt: row.lastSeenAt?.toISOString() ?? null,
    certificateIssuedAt: row.certificateIssuedAt?.toISOString() ?? null,
    certificateExpiresAt: row.certificateNotAfter?.toISOString() ?? null,
  };
}

function stateOf(row: NodeRow, node: ConnectedNode | undefined): NodeSummary["state"] {
  if (row.revokedAt !== null) return "revoked";
  const isConnected = node !== undefined || (row.isFresh && !row.status.left);
  if (!isConnected) return "away";
  return (node?.status ?? row.status).draining ? "draining" : "connected";
}
