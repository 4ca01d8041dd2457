/**
 * Nodes: the processes of an installation that is spread over several. Who a node is stands in its certificate and nowhere
 * else: `sluice://ROLE/NAME?LABEL=VALUE…` as URI, `NAME.ROLE.sluice.internal` as DNS name for whoever dials it.
 */
import type { Protocol } from "@sluice/core/snapshot.ts";

export type NodeRole = "control-plane" | "gateway" | "agent" | "recorder";

/** What a verified certificate says. */
export interface NodeCertificate {
  readonly role: NodeRole;
  /** A DNS label. */
  readonly name: string;
  /** Agents: what resources select agents by. Gateways: labels that a resource must carry to be served by it; none: all. */
  readonly labels: Readonly<Record<string, string>>;
  /** Lower-case hex. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** The name under which a node is dialled; control planes share one, so that any of them will do. */
export function serverNameOf(role: NodeRole, name: string): string {
  return role === "control-plane" ? "control-plane.sluice.internal" : `${name}.${role}.sluice.internal`;
}

/** host:port each; null: it has none of this kind. */
export interface NodeAddresses {
  /** Gateways: agents' control streams and peers. Recorders: their service. */
  readonly control: string | null;
  /** Gateways: agents' session connections. */
  readonly sessions: string | null;
  readonly callers: Readonly<Partial<Record<Protocol, string>>>;
}

/** One node as the control plane tells all others. */
export interface DirectoryNode {
  readonly role: NodeRole;
  readonly name: string;
  readonly region: string;
  readonly addresses: NodeAddresses;
  readonly labels: Readonly<Record<string, string>>;
  /** Gateways: 1 to 4,095; part of the cancel keys it issues. */
  readonly slot: number;
  readonly capability: number;
  readonly draining: boolean;
}
