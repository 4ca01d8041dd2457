/**
 * Join tokens: made for people, used once by a node. The store has a digest of the secret. Times are the database's, so that replicas
 * whose clocks differ agree on when one ends. A secret must never reach a log, an error or the store.
 */
import { createHash, timingSafeEqual, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { encodeJoinToken, type JoinToken } from "@sluice/rpc/identity/join-token.ts";
import { dnsLabelPattern } from "@sluice/rpc/identity/node-certificate.ts";
import { fingerprintOf } from "@sluice/rpc/identity/verify.ts";
import { type Kysely, type Selectable, type SelectQueryBuilder, sql, type Transaction } from "kysely";
import type { Logger } from "pino";
import type { EnrollingRole, JoinTokensAdmin, JoinTokenSummary } from "../api/services.ts";
import type { Authority } from "../ca/authority.ts";
import type { JoinTokenTable, Tables } from "../store/tables.ts";
import { refuse, refuseStranger } from "./refusal.ts";

export interface JoinTokensOptions {
  readonly db: Kysely<Tables>;
  readonly authority: Pick<Authority, "trust">;
  readonly random: Random;
  readonly limits: Pick<Limits, "joinTokenTtlMsMax">;
  readonly log: Logger;
}

export type JoinTokenRow = Selectable<JoinTokenTable> & { readonly is_expired: boolean };

const TTL_MS_MIN = 1_000;
/** Labels and hosts of one token; more is a mistake. */
const ENTRIES_MAX = 64;

export function createJoinTokens(options: JoinTokensOptions): JoinTokensAdmin {
  const { db, authority, random, limits, log } = options;
  return {
    create: async (request) => {
      checkRequest(request, limits);
      const { role, name, labels, hosts, ttlMs, author } = request;
      const signing = authority.trust().authorities[0];
      if (signing === undefined) throw new Error("there is no authority");
      const id = `j_${Buffer.from(random.bytes(9)).toString("base64url")}`;
      const secret = Buffer.from(random.bytes(32)).toString("base64url");
      const row = await db
        .insertInto("join_tokens")
        .values({
          id,
          secret_sha256: digestOf(secret).toString("hex"),
          role,
          name,
          labels: JSON.stringify(labels),
          hosts: JSON.stringify(hosts),
          author,
          created_at: sql<Date>`clock_timestamp()`,
          expires_at: sql<Date>`clock_timestamp() + ${ttlMs} * interval '1 millisecond'`,
        })
        .returning("expires_at")
        .executeTakeFirstOrThrow();
      log.info({ joinToken: id, role, name, labels, hosts, author }, "join token made");
      const token = encodeJoinToken({ id, secret, authority: fingerprintOf(new X509Certificate(signing)) });
      return { id, token, expiresAt: row.expires_at.toISOString() };
    },
    list: async () => (await selectTokens(db).orderBy("created_at", "desc").execute()).map(summarise),
    revoke: async (id) => {
      const { numUpdatedRows } = await db
        .updateTable("join_tokens")
        .set({ revoked_at: sql<Date>`clock_timestamp()` })
        .where("id", "=", id)
        .where("revoked_at", "is", null)
        .executeTakeFirst();
      if (numUpdatedRows === 0n) throw new GatewayError("not_found", "There is no join token of this id that could be revoked.");
      log.warn({ joinToken: id }, "join token revoked");
    },
  };
}

/** The row whose secret this is. Throws a Refusal of the same words for an unknown id and a wrong secret. */
export async function findToken(db: Kysely<Tables>, { id, secret }: JoinToken): Promise<JoinTokenRow> {
  const row = await selectTokens(db).where("id", "=", id).executeTakeFirst();
  const matches = timingSafeEqual(digestOf(secret), row === undefined ? digestOf("") : Buffer.from(row.secret_sha256, "hex"));
  if (row === undefined) throw refuseStranger("no join token has this id");
  if (!matches) throw refuseStranger("the secret is not the one of this join token");
  return row;
}

/** Uses the token up, in the caller's transaction. False: it cannot be used now; `whyUnusable` says why. */
export async function claimToken(
  transaction: Transaction<Tables>,
  id: string,
  by: { readonly name: string; readonly keySha256: string },
): Promise<boolean> {
  const claimed = await transaction
    .updateTable("join_tokens")
    .set({ used_at: sql<Date>`clock_timestamp()`, used_by: by.name, used_key_sha256: by.keySha256 })
    .where("id", "=", id)
    .where("used_at", "is", null)
    .where("revoked_at", "is", null)
    .where("expires_at", ">", sql<Date>`clock_timestamp()`)
    .returning("id")
    .executeTakeFirst();
  return claimed !== undefined;
}

/** What its holder reads. */
export function whyUnusable(row: JoinTokenRow): Error {
  if (row.revoked_at !== null) return refuse("This join token was revoked.");
  if (row.used_at !== null) {
    return refuse(
      `This join token was used already, by the ${row.role} ${row.used_by} at ${row.used_at.toISOString()}: each enrols one node.`,
    );
  }
  return refuse(`This join token expired at ${row.expires_at.toISOString()}.`);
}

export function selectTokens(db: Kysely<Tables>): SelectQueryBuilder<Tables, "join_tokens", JoinTokenRow> {
  return db.selectFrom("join_tokens").selectAll().select(sql<boolean>`expires_at <= clock_timestamp()`.as("is_expired"));
}

function digestOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}

function summarise(row: JoinTokenRow): JoinTokenSummary {
  return {
    id: row.id,
    role: row.role,
    name: row.name,
    labels: row.labels,
    hosts: row.hosts,
    author: row.author,
    createdAt: row.created_at.toISOString(),
    expiresAt: row.expires_at.toISOString(),
    state: stateOf(row),
    usedBy: row.used_by,
  };
}

function stateOf(row: JoinTokenRow): JoinTokenSummary["state"] {
  if (row.used_at !== null) return "used";
  if (row.revoked_at !== null) return "revoked";
  return row.is_expired ? "expired" : "open";
}

type CreateRequest = Parameters<JoinTokensAdmin["create"]>[0];

function checkRequest({ role, name, labels, hosts, ttlMs }: CreateRequest, limits: Pick<Limits, "joinTokenTtlMsMax">): void {
  const wrong = (text: string): GatewayError => new GatewayError("config_invalid", text);
  const roles: readonly EnrollingRole[] = ["gateway", "agent", "recorder"];
  if (!roles.includes(role)) throw wrong("A join token is for a gateway, an agent or a recorder.");
  if (name !== null && !dnsLabelPattern.test(name)) {
    throw wrong("A node's name is a DNS label: up to 63 lower-case letters, digits and hyphens.");
  }
  const pairs = Object.entries(labels);
  if (pairs.length > ENTRIES_MAX || hosts.length > ENTRIES_MAX)
    throw wrong(`A join token has ${ENTRIES_MAX} labels and hosts at most.`);
  for (const [label, value] of pairs) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/.test(label))
      throw wrong(`The label "${label}" is not a word of letters, digits, dots and hyphens.`);
    if (!/^[\x20-\x7e]{0,255}$/.test(value)) throw wrong(`The value of the label "${label}" is not short, plain text.`);
  }
  for (const host of hosts) if (!isHost(host)) throw wrong(`"${host}" is neither a host name nor an address.`);
  if (!Number.isFinite(ttlMs) || ttlMs < TTL_MS_MIN || ttlMs > limits.joinTokenTtlMsMax) {
    throw wrong(`A join token lives between one second and ${limits.joinTokenTtlMsMax / 86_400_000} days.`);
  }
}

/** A name (the first label may be `*`) or an IP address, as a certificate may hold it. */
export function isHost(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const [first = "", ...labels] = text.split(".");
  return (
    text.length <= 253 &&
    (first === "*" ? labels.length > 0 : dnsLabelPattern.test(first)) &&
    labels.every((one) => dnsLabelPattern.test(one))
  );
}
