/**
 * Authorities, certificates and signers in the store. Changes of state are made under one lock, each in one transaction, so that
 * any number of replicas may try them at once: a step that was made already is not made again.
 */
import { X509Certificate } from "node:crypto";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import { fingerprintOf } from "@sluice/rpc/identity/verify.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { SNAPSHOT_SIGNER_PREFIX } from "@sluice/rpc/signed-content.ts";
import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import type { KeyEncryption } from "../keys/envelope.ts";
import { authorityKeyPurpose } from "../keys/purposes.ts";
import { notifyChange } from "../store/changes.ts";
import { storeLocks } from "../store/locks.ts";
import type { AuthorityTable, Tables } from "../store/tables.ts";
import { type Issued, makeAuthority, type PemPair, readAuthority, type SigningAuthority } from "./certificates.ts";

export type AuthorityRow = Selectable<AuthorityTable>;

/** Its payload says nothing: whoever hears it reads again. */
export const TRUST_TOPIC = "trust";
/** A certificate that ended this long ago may still be presented by a machine whose clock is behind. */
const CLOCK_MARGIN_MS = 3_600_000;
/** Servers of callers are not recorded here: this long they have for taking a certificate of the new authority. */
const RETIRING_MS_MIN = 3_600_000;

export async function lockAuthorities(transaction: Transaction<Tables>): Promise<void> {
  await sql`select pg_advisory_xact_lock(${sql.lit(storeLocks.authorities)})`.execute(transaction);
}

/** What is trusted, the one that signs first; and the serials that are withdrawn and have not ended. */
export async function readTrust(
  db: Kysely<Tables>,
  nowMs: number,
): Promise<{ readonly authorities: readonly AuthorityRow[]; readonly revokedSerials: readonly string[] }> {
  const authorities = await db
    .selectFrom("authorities")
    .selectAll()
    .where("state", "!=", "retired")
    .orderBy(sql`case state when 'signing' then 0 when 'announced' then 1 else 2 end`)
    .orderBy("created_at", "desc")
    .execute();
  const revoked = await db
    .selectFrom("certificates")
    .select("serial")
    .where("revoked_at", "is not", null)
    .where("not_after", ">", new Date(nowMs - CLOCK_MARGIN_MS))
    .orderBy("serial")
    .execute();
  return { authorities, revokedSerials: revoked.map(({ serial }) => serial) };
}

export interface NewAuthority {
  readonly pair: PemPair;
  readonly state: "announced" | "signing";
  readonly author: string;
  readonly nowMs: number;
  readonly signAfterMs: number;
}

/** Returns its fingerprint. */
export async function insertAuthority(db: Kysely<Tables>, keys: KeyEncryption, made: NewAuthority): Promise<string> {
  const certificate = new X509Certificate(made.pair.certificate);
  const fingerprint = fingerprintOf(certificate);
  await db
    .insertInto("authorities")
    .values({
      fingerprint,
      certificate: certificate.toString(),
      wrapped_key: await keys.wrap(Buffer.from(made.pair.privateKey), authorityKeyPurpose(fingerprint)),
      state: made.state,
      author: made.author,
      created_at: new Date(made.nowMs),
      sign_after: new Date(made.signAfterMs),
      not_after: certificate.validToDate,
    })
    .execute();
  return fingerprint;
}

/** Announces a new authority. Throws `config_invalid` while another one is announced. */
export async function announceAuthority(
  db: Kysely<Tables>,
  keys: KeyEncryption,
  request: { readonly author: string; readonly nowMs: number; readonly signAfterMs: number; readonly random: Random },
): Promise<string> {
  const pair = await makeAuthority(request.nowMs, request.random);
  return await db.transaction().execute(async (transaction) => {
    await lockAuthorities(transaction);
    const pending = await transaction
      .selectFrom("authorities")
      .select("sign_after")
      .where("state", "=", "announced")
      .executeTakeFirst();
    if (pending !== undefined) {
      throw new GatewayError("config_invalid", "A new authority is announced already, so no other can be made now.", {
        hint: `It signs from ${pending.sign_after.toISOString()} on; rotate again after that.`,
      });
    }
    const fingerprint = await insertAuthority(transaction, keys, { ...request, pair, state: "announced" });
    await notifyChange(transaction, TRUST_TOPIC, "");
    return fingerprint;
  });
}

/**
 * Moves states that are due: an announced authority signs and the one before retires; a retiring one whose last certificate of a
 * node has ended is trusted no more and its key is forgotten. Returns what moved, for the log.
 */
export async function advanceAuthorities(db: Kysely<Tables>, nowMs: number): Promise<readonly string[]> {
  return await db.transaction().execute(async (transaction) => {
    await lockAuthorities(transaction);
    const moved: string[] = [];
    const now = new Date(nowMs);
    const due = await transaction
      .selectFrom("authorities")
      .select("fingerprint")
      .where("state", "=", "announced")
      .where("sign_after", "<=", now)
      .executeTakeFirst();
    if (due !== undefined) {
      await transaction
        .updateTable("authorities")
        .set({ state: "retiring", retiring_at: now })
        .where("state", "=", "signing")
        .execute();
      await transaction.updateTable("authorities").set({ state: "signing" }).where("fingerprint", "=", due.fingerprint).execute();
      moved.push(`${due.fingerprint} signs`);
    }
    const retired = await transaction
      .updateTable("authorities")
      .set({ state: "retired", retired_at: now, wrapped_key: null })
      .where("state", "=", "retiring")
      .where("retiring_at", "<=", new Date(nowMs - RETIRING_MS_MIN))
      .where((eb) =>
        eb.not(
          eb.exists(
            eb
              .selectFrom("certificates")
              .select("serial")
              .whereRef("certificates.authority", "=", "authorities.fingerprint")
              .where("revoked_at", "is", null)
              .where("not_after", ">", now)
              // Signers are replaced as soon as another authority signs.
              .where("name", "not like", `${SNAPSHOT_SIGNER_PREFIX}%`),
          ),
        ),
      )
      .returning("fingerprint")
      .execute();
    for (const { fingerprint } of retired) moved.push(`${fingerprint} has retired`);
    if (moved.length > 0) await notifyChange(transaction, TRUST_TOPIC, "");
    return moved;
  });
}

/**
 * Forgets what ended: certificates and signers as soon as nobody can present them any more; nodes and join tokens after
 * `keptMs`, so that people still see what became of them.
 */
export async function forgetEnded(db: Kysely<Tables>, nowMs: number, keptMs: number): Promise<void> {
  const ended = new Date(nowMs - 2 * CLOCK_MARGIN_MS);
  await db.deleteFrom("certificates").where("not_after", "<", ended).execute();
  await db.deleteFrom("signers").where("not_after", "<", ended).execute();
  const gone = new Date(nowMs - keptMs);
  await db.deleteFrom("join_tokens").where("expires_at", "<", gone).execute();
  await db
    .deleteFrom("nodes")
    .where("role", "!=", "control-plane")
    .where("enrolled_at", "<", gone)
    .where((eb) => eb.or([eb("certificate_not_after", "is", null), eb("certificate_not_after", "<", gone)]))
    .where((eb) => eb.or([eb("revoked_at", "is", null), eb("revoked_at", "<", gone)]))
    .execute();
}

/**
 * The authority that signs now, which stays so until the transaction ends. `known` is used when it is still the one, so that its
 * key is opened once.
 */
export async function holdSigning(
  transaction: Transaction<Tables>,
  keys: KeyEncryption,
  known: { readonly fingerprint: string; readonly authority: SigningAuthority } | null,
): Promise<{ readonly fingerprint: string; readonly authority: SigningAuthority }> {
  const row = await transaction
    .selectFrom("authorities")
    .selectAll()
    .where("state", "=", "signing")
    .forShare()
    .executeTakeFirst();
  if (row === undefined) throw new Error("the store has no authority that signs");
  if (row.fingerprint === known?.fingerprint) return known;
  return { fingerprint: row.fingerprint, authority: await openRow(row, keys) };
}

export async function openRow(row: AuthorityRow, keys: KeyEncryption): Promise<SigningAuthority> {
  if (row.wrapped_key === null) throw new Error("this authority has retired");
  const privateKey = await keys.unwrap(row.wrapped_key, authorityKeyPurpose(row.fingerprint));
  return await readAuthority({ certificate: row.certificate, privateKey: Buffer.from(privateKey).toString("utf8") });
}

export async function recordCertificate(
  db: Kysely<Tables>,
  issued: Issued,
  about: { readonly authority: string; readonly role: NodeRole; readonly name: string; readonly nowMs: number },
): Promise<void> {
  await db
    .insertInto("certificates")
    .values({
      serial: issued.serial,
      authority: about.authority,
      role: about.role,
      name: about.name,
      certificate: new X509Certificate(Buffer.from(issued.certificate)).toString(),
      issued_at: new Date(about.nowMs),
      not_after: new Date(issued.notAfterMs),
    })
    .execute();
}

export interface Withdrawal {
  readonly reason: string;
  readonly nowMs: number;
}

/** Returns how many were not withdrawn before. */
export async function withdrawSerials(
  db: Kysely<Tables>,
  serials: readonly string[],
  { reason, nowMs }: Withdrawal,
): Promise<number> {
  if (serials.length === 0) return 0;
  const result = await db
    .updateTable("certificates")
    .set({ revoked_at: new Date(nowMs), revoked_reason: reason })
    .where("serial", "in", [...serials])
    .where("revoked_at", "is", null)
    .executeTakeFirst();
  await notifyChange(db, TRUST_TOPIC, "");
  return Number(result.numUpdatedRows);
}

/** All certificates of a node. */
export async function withdrawNode(
  db: Kysely<Tables>,
  node: { readonly role: NodeRole; readonly name: string },
  { reason, nowMs }: Withdrawal,
): Promise<void> {
  await db
    .updateTable("certificates")
    .set({ revoked_at: new Date(nowMs), revoked_reason: reason })
    .where("role", "=", node.role)
    .where("name", "=", node.name)
    .where("revoked_at", "is", null)
    .execute();
  await notifyChange(db, TRUST_TOPIC, "");
}

/** Where a first authority comes from when the store has none. */
export async function ensureAuthority(
  db: Kysely<Tables>,
  keys: KeyEncryption,
  first: { readonly nowMs: number; readonly random: Random; readonly imported: () => Promise<PemPair | null> },
): Promise<"present" | "made" | "imported"> {
  return await db.transaction().execute(async (transaction) => {
    await lockAuthorities(transaction);
    const present = await transaction
      .selectFrom("authorities")
      .select("fingerprint")
      .where("state", "=", "signing")
      .executeTakeFirst();
    if (present !== undefined) return "present";
    const imported = await first.imported();
    const pair = imported ?? (await makeAuthority(first.nowMs, first.random));
    await insertAuthority(transaction, keys, {
      ...first,
      pair,
      state: "signing",
      author: "first start",
      signAfterMs: first.nowMs,
    });
    const installation = Buffer.from(first.random.bytes(16)).toString("hex");
    await transaction
      .insertInto("settings")
      .values({ key: "installation", value: JSON.stringify({ id: installation }) })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    await notifyChange(transaction, TRUST_TOPIC, "");
    return imported === null ? "made" : "imported";
  });
}
