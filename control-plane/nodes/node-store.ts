/**
 * What all replicas know of nodes: rows that enrolment makes and that the replica holding a node's stream keeps up to date. Times are
 * the database's, so that replicas whose clocks differ agree on who is away.
 */
import type { GatewayError } from "@sluice/core/errors.ts";
import type { NodeStatus } from "@sluice/rpc/control-link.ts";
import type { NodeAddresses, NodeRole } from "@sluice/rpc/nodes.ts";
import { type Kysely, sql } from "kysely";
import type { Tables } from "../store/tables.ts";

export interface NodeKey {
  readonly role: NodeRole;
  readonly name: string;
}

/** What the row's `status` holds. */
export interface StoredStatus extends NodeStatus {
  /** When the node's process began, by the node's clock; 0: unknown. */
  readonly startedAtMs: number;
  /** The stream ended; false while some replica holds one. */
  readonly left: boolean;
}

export interface NodeRow extends NodeKey {
  readonly region: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: NodeAddresses;
  readonly slot: number;
  readonly capability: number;
  readonly softwareVersion: string;
  readonly sealingKey: string;
  readonly status: StoredStatus;
  readonly snapshot: { readonly sequence: number; readonly version: string } | null;
  readonly rejected: { readonly sequence: number; readonly code: string; readonly message: string } | null;
  readonly enrolledAt: Date;
  readonly lastSeenAt: Date | null;
  /** Some replica has heard of it a moment ago. */
  readonly isFresh: boolean;
  /** Counts as part of the installation: it may be back in a moment. */
  readonly isKnown: boolean;
  readonly certificateSerial: string | null;
  readonly certificateIssuedAt: Date | null;
  readonly certificateNotAfter: Date | null;
  readonly revokedAt: Date | null;
}

export interface NodeReport extends NodeKey {
  readonly status: StoredStatus;
  readonly certificateSerial: string;
  readonly certificateNotAfterMs: number;
}

export interface NodeRegistration extends NodeReport {
  readonly region: string;
  readonly addresses: NodeAddresses;
  readonly capability: number;
  readonly softwareVersion: string;
  readonly sealingKey: string;
}

/** Replicas write each node every few seconds; after this much silence of all of them it is away. Seconds. */
const FRESH_S = 15;
/** Another replica's row is left alone while that one keeps it up to date. Seconds. */
const OWNED_S = 8;

export const noStatus: StoredStatus = { sessions: 0, draining: false, links: [], spoolBytes: 0, startedAtMs: 0, left: true };
const noAddresses: NodeAddresses = { control: null, sessions: null, callers: {} };

/**
 * Returns the gateway's slot (0 for others), or null when the installation knows no such node (any more). Labels are enrolment's alone: a
 * certificate from before they changed must not bring the former ones back, since renewal goes by the row.
 */
export async function registerNode(db: Kysely<Tables>, replica: string, node: NodeRegistration): Promise<number | null> {
  const row = await db
    .updateTable("nodes")
    .set({
      region: node.region,
      addresses: JSON.stringify(node.addresses),
      capability: node.capability,
      software_version: node.softwareVersion,
      sealing_key: node.sealingKey === "" ? null : node.sealingKey,
      status: JSON.stringify(node.status),
      certificate_serial: node.certificateSerial,
      certificate_not_after: new Date(node.certificateNotAfterMs),
      last_seen_at: sql<Date>`clock_timestamp()`,
      connected_to: replica,
    })
    .where("role", "=", node.role)
    .where("name", "=", node.name)
    .where("revoked_at", "is", null)
    .returning("slot")
    .executeTakeFirst();
  return row === undefined ? null : (row.slot ?? 0);
}

/** One statement for all. Rows that another replica keeps up to date stay as they are, unless `isNews`. */
export async function writeReports(
  db: Kysely<Tables>,
  replica: string,
  reports: readonly NodeReport[],
  isNews: boolean,
): Promise<void> {
  if (reports.length === 0) return;
  const seen = JSON.stringify(
    reports.map(({ role, name, status, certificateSerial, certificateNotAfterMs }) => {
      return { role, name, status, serial: certificateSerial, until: new Date(certificateNotAfterMs).toISOString() };
    }),
  );
  await sql`
    update nodes set last_seen_at = clock_timestamp(), connected_to = ${replica}, status = seen.status,
      certificate_serial = seen.serial, certificate_not_after = seen.until
    from jsonb_to_recordset(${seen}::jsonb) as seen(role text, name text, status jsonb, serial text, until timestamptz)
    where nodes.role = seen.role and nodes.name = seen.name and nodes.revoked_at is null
      and (${isNews} or nodes.connected_to is null or nodes.connected_to = ${replica} or nodes.status is null
        or (nodes.status->>'left')::boolean
        or nodes.last_seen_at < clock_timestamp() - ${OWNED_S} * interval '1 second')`.execute(db);
}

/** Only when no other replica has taken over. `orderly`: it drained first, so it is not coming back as it was. */
export async function writeLeft(db: Kysely<Tables>, replica: string, { role, name }: NodeKey, orderly: boolean): Promise<void> {
  await sql`
    update nodes set status = coalesce(status, '{}'::jsonb) || '{"left": true}'::jsonb,
      connected_to = ${orderly ? null : sql`connected_to`}
    where role = ${role} and name = ${name} and connected_to = ${replica}`.execute(db);
}

export interface StoredVerdict {
  readonly sequence: bigint;
  readonly version: string;
  readonly fault: GatewayError | null;
}

export async function writeVerdict(db: Kysely<Tables>, { role, name }: NodeKey, verdict: StoredVerdict): Promise<void> {
  const { sequence, version, fault } = verdict;
  const taken = { snapshot_sequence: sequence, snapshot_version: version, rejection: null };
  const rejection =
    fault === null ? null : JSON.stringify({ sequence: Number(sequence), code: fault.code, message: fault.message });
  await db
    .updateTable("nodes")
    .set(fault === null ? taken : { rejection })
    .where("role", "=", role)
    .where("name", "=", name)
    .execute();
}

/** Those that have been away for `goneMs` are no part of the installation until they come back. True when there was one. */
export async function forgetGone(db: Kysely<Tables>, goneMs: number): Promise<boolean> {
  const result = await db
    .updateTable("nodes")
    .set({ connected_to: null })
    .where("connected_to", "is not", null)
    .where("last_seen_at", "<", sql<Date>`clock_timestamp() - ${goneMs} * interval '1 millisecond'`)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

export async function readNodes(db: Kysely<Tables>): Promise<readonly NodeRow[]> {
  const rows = await db
    .selectFrom("nodes")
    .leftJoin("certificates", "certificates.serial", "nodes.certificate_serial")
    .selectAll("nodes")
    .select("certificates.issued_at as certificate_issued_at")
    .select(sql<boolean>`coalesce(last_seen_at > clock_timestamp() - ${FRESH_S} * interval '1 second', false)`.as("is_fresh"))
    .where("nodes.role", "!=", "control-plane")
    .orderBy("nodes.role")
    .orderBy("nodes.name")
    .execute();
  return rows.map((row) => ({
    role: row.role,
    name: row.name,
    region: row.region,
    labels: row.labels,
    addresses: row.addresses ?? noAddresses,
    slot: row.slot ?? 0,
    capability: row.capability,
    softwareVersion: row.software_version,
    sealingKey: row.sealing_key ?? "",
    status: { ...noStatus, ...(row.status as Partial<StoredStatus> | null) }, // written above and nowhere else
    snapshot:
      row.snapshot_sequence === null ? null : { sequence: Number(row.snapshot_sequence), version: row.snapshot_version ?? "" },
    rejected: row.rejection,
    enrolledAt: row.enrolled_at,
    lastSeenAt: row.last_seen_at,
    isFresh: row.is_fresh,
    isKnown: row.connected_to !== null && row.revoked_at === null,
    certificateSerial: row.certificate_serial,
    certificateIssuedAt: row.certificate_issued_at,
    certificateNotAfter: row.certificate_not_after,
    revokedAt: row.revoked_at,
  }));
}
