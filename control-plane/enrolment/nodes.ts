/**
 * The row of a node as enrolment and renewal write it, always locked first: name, labels, slot, certificate. One name is one node: it
 * is given away only when nobody holds it, or by who may say so. What a node reports itself is not written here.
 */
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { type Selectable, sql, type Transaction } from "kysely";
import type { EnrollingRole } from "../api/services.ts";
import { withdrawNode } from "../ca/authority-rows.ts";
import { notifyChange } from "../store/changes.ts";
import { storeLocks } from "../store/locks.ts";
import type { NodeTable, Tables } from "../store/tables.ts";
import { refuse } from "./refusal.ts";

export interface Registration {
  readonly role: EnrollingRole;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly hosts: readonly string[];
  readonly capability: number;
  /** `join-token ID` or `workload NAME`. */
  readonly enrolledWith: string;
  /**
   * May it have a name that a living node has? `named`: yes, the token names it exactly, and the former's certificates are withdrawn.
   * `again`: only from the same workload, whose earlier run may still be draining. `free`: no.
   */
  readonly taking: "named" | "again" | "free";
  readonly nowMs: number;
}

export type NodeRecord = Selectable<NodeTable>;

/** Gateways: 1 to 4,095, part of the cancel keys that they give out. */
const SLOT_MAX = 4_095;

/** Writes the row, without a certificate yet. Throws a Refusal. */
export async function registerNode(transaction: Transaction<Tables>, node: Registration): Promise<void> {
  const values = {
    role: node.role,
    name: node.name,
    labels: JSON.stringify(node.labels),
    hosts: JSON.stringify(node.hosts),
    capability: node.capability,
    enrolled_at: new Date(node.nowMs),
    enrolled_with: node.enrolledWith,
  };
  // A row that is there is locked by the attempt, so that of two enrolments of one name the second sees the first.
  const inserted = await transaction
    .insertInto("nodes")
    .values(values)
    .onConflict((conflict) => conflict.columns(["role", "name"]).doNothing())
    .returning("name")
    .executeTakeFirst();
  if (inserted === undefined) {
    const present = await lockNode(transaction, node);
    if (present === undefined) throw refuse(`The name ${node.name} is being given up at this moment. Try again.`);
    await requireFree(transaction, node, present);
    await transaction
      .updateTable("nodes")
      .set({ ...values, revoked_at: null, revoked_reason: null, sealing_key: null })
      .where("role", "=", node.role)
      .where("name", "=", node.name)
      .execute();
  }
  if (node.role === "gateway") await giveSlot(transaction, node);
  await notifyChange(transaction, "nodes", `${node.role}/${node.name}`);
}

export async function lockNode(
  transaction: Transaction<Tables>,
  { role, name }: { readonly role: NodeRole; readonly name: string },
): Promise<NodeRecord | undefined> {
  return await transaction
    .selectFrom("nodes")
    .selectAll()
    .where("role", "=", role)
    .where("name", "=", name)
    .forUpdate()
    .executeTakeFirst();
}

export async function writeCertificate(
  transaction: Transaction<Tables>,
  { role, name }: { readonly role: NodeRole; readonly name: string },
  certificate: { readonly serial: string; readonly notAfterMs: number },
): Promise<void> {
  await transaction
    .updateTable("nodes")
    .set({ certificate_serial: certificate.serial, certificate_not_after: new Date(certificate.notAfterMs) })
    .where("role", "=", role)
    .where("name", "=", name)
    .execute();
}

async function requireFree(transaction: Transaction<Tables>, node: Registration, present: NodeRecord): Promise<void> {
  const { role, name, taking, nowMs } = node;
  if (present.revoked_at !== null) {
    // Its platform would give it the next token at once: revoked would mean nothing.
    if (taking === "again") {
      throw refuse(
        `The ${role} ${name} was revoked, and a workload token does not undo that.`,
        `A join token that names ${name} does.`,
      );
    }
    return;
  }
  const isLive = present.certificate_not_after !== null && present.certificate_not_after.getTime() > nowMs;
  if (taking === "again" && present.enrolled_with === node.enrolledWith) return;
  if (taking === "named") {
    await withdrawNode(transaction, { role, name }, { reason: "replaced by a new enrolment of its name", nowMs });
    return;
  }
  if (!isLive) return;
  throw refuse(
    `There is ${role === "agent" ? "an" : "a"} ${role} called ${name} already.`,
    `Choose another name, revoke that node, or make a join token that names ${name}: sluice nodes join-token create`,
  );
}

/** The lowest that is free; slots of gateways that are gone are taken back when none is. */
async function giveSlot(transaction: Transaction<Tables>, { role, name, nowMs }: Registration): Promise<void> {
  await sql`select pg_advisory_xact_lock(${sql.lit(storeLocks.slots)})`.execute(transaction);
  const slot = (await freeSlot(transaction)) ?? (await reclaimSlots(transaction, nowMs));
  if (slot === null) {
    throw refuse(`There are ${SLOT_MAX} gateways already, and no more can be told apart.`, "Revoke gateways that are gone.");
  }
  await transaction
    .updateTable("nodes")
    .set({ slot })
    .where("role", "=", role)
    .where("name", "=", name)
    .where("slot", "is", null)
    .execute();
}

async function freeSlot(transaction: Transaction<Tables>): Promise<number | null> {
  const { rows } = await sql<{ slot: number | null }>`
    select min(slot) as slot from generate_series(1, ${sql.lit(SLOT_MAX)}) as slot
    where not exists (select from nodes where nodes.slot = slot.slot)`.execute(transaction);
  return rows[0]?.slot ?? null;
}

async function reclaimSlots(transaction: Transaction<Tables>, nowMs: number): Promise<number | null> {
  await transaction
    .updateTable("nodes")
    .set({ slot: null })
    .where("slot", "is not", null)
    .where((eb) => eb.or([eb("revoked_at", "is not", null), eb("certificate_not_after", "<", new Date(nowMs))]))
    .execute();
  return await freeSlot(transaction);
}
