/**
 * The installation's certificate authority, shared by all replicas through the store: issues nodes, servers and the signer of
 * snapshots, withdraws certificates, and is replaced with an overlap (announced, signing, retiring, retired). Decides nothing about
 * who may have a certificate: `enrolment/` does. Must never let a key out.
 */
import { X509Certificate } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import { nodeUri } from "@sluice/rpc/identity/node-certificate.ts";
import type { TrustBundle } from "@sluice/rpc/node-identity.ts";
import { type NodeRole, serverNameOf } from "@sluice/rpc/nodes.ts";
import { SNAPSHOT_SIGNER_PREFIX } from "@sluice/rpc/signed-content.ts";
import { type Kysely, sql, type Transaction } from "kysely";
import type { Logger } from "pino";
import type { AuthoritiesAdmin, AuthoritySummary } from "../api/services.ts";
import type { KeyEncryption } from "../keys/envelope.ts";
import type { Changes } from "../store/changes.ts";
import { codeOf } from "../store/store.ts";
import type { Tables } from "../store/tables.ts";
import { forgetAuthorityFiles, readAuthorityFiles } from "./authority-import.ts";
import {
  advanceAuthorities,
  announceAuthority,
  type AuthorityRow,
  ensureAuthority,
  forgetEnded,
  holdSigning,
  openRow,
  readTrust,
  recordCertificate,
  TRUST_TOPIC,
  withdrawNode,
  withdrawSerials,
} from "./authority-rows.ts";
import { issue, makeServerCertificate, type PemPair, type SigningAuthority } from "./certificates.ts";
import { isFresh, openSigner, type SnapshotSigner } from "./snapshot-signer.ts";

export type { SnapshotSigner } from "./snapshot-signer.ts";

export interface AuthorityOptions {
  readonly db: Kysely<Tables>;
  readonly keys: KeyEncryption;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Pick<Limits, "nodeCertificateMs" | "snapshotSignerMs" | "nodeForgottenMs">;
  readonly log: Logger;
  /** Where versions before kept the authority as files: taken into an empty store, then the key's file is removed. Null: nowhere. */
  readonly importFrom: string | null;
}

export interface NodeRequest {
  readonly role: NodeRole;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Names and addresses besides the one under which nodes dial it. */
  readonly hosts: readonly string[];
  /** SubjectPublicKeyInfo, DER; `readCertificateRequest` gives it. */
  readonly publicKey: Uint8Array;
  /** `limits.nodeCertificateMs` when absent. */
  readonly lifetimeMs?: number;
}

export interface IssuedNode {
  /** DER: the node's own, then the authority's. */
  readonly chain: readonly Uint8Array[];
  /** Lower-case hex. */
  readonly serial: string;
  readonly notAfterMs: number;
}

export interface Authority extends AuthoritiesAdmin {
  /** With a transaction it is recorded there, so that it is issued when that commits and not otherwise. */
  issueNode(request: NodeRequest, transaction?: Transaction<Tables>): Promise<IssuedNode>;
  /** PEM, with a fresh key: for callers and people, who trust `caPem()`. */
  issueServer(hosts: readonly string[]): Promise<PemPair>;
  /** The signer of snapshots in force: cheap, so ask before each signature. */
  issueSigner(): Promise<SnapshotSigner>;
  /** As of the last word from the store. */
  trust(): TrustBundle;
  /** All trusted authorities, for files of clients. */
  caPem(): string;
  /** Withdraws single certificates. */
  revoke(serials: readonly string[], reason: string): Promise<void>;
  /** Withdraws a node's certificates and frees its name and slot. Throws `not_found` when there is none or it was revoked before. */
  revokeNode(node: { readonly role: NodeRole; readonly name: string; readonly reason: string }): Promise<void>;
  /** Runs what is due: moves of states, forgetting. Meant for one replica at a time (`holdLease`); harmless on several. */
  tend(signal: AbortSignal): Promise<void>;
  /** Called after authorities or revocations changed. Returns how to stop. */
  onChange(listener: () => void): () => void;
  /** Stops listening. */
  close(): Promise<void>;
}

/** Certificates are recorded to the second, states move within this time. */
const TEND_INTERVAL_MS = 5_000;
/** Read again also when no change was heard of: revocations fall out of the list when they have ended. */
const RELOAD_INTERVAL_MS = 60_000;
/** Above this the certificates' times are wrong for somebody. */
const CLOCK_DIFFERENCE_MS_MAX = 5 * 60_000;
const WARN_OF_END_MS = 365 * 24 * 3_600_000;

/**
 * Opens the store's authority, or makes the first one; with several replicas at once exactly one makes it. Rejects with
 * `config_invalid` when the store's keys do not open, or what is to be imported is damaged.
 */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const { db, keys, changes, clock, random, limits, log, importFrom } = options;
  await compareClocks(options);
  const first = await ensureAuthority(db, keys, {
    nowMs: clock.nowMs(),
    random,
    imported: async () => (importFrom === null ? null : await readAuthorityFiles(importFrom, clock.nowMs())),
  });
  if (first !== "present") log.info({ origin: first }, "certificate authority of this installation is in the store");

  const held = new HeldTrust(options);
  await held.load();
  warnOfEnd(held.current.rows[0], options);
  if (importFrom !== null) await forgetAuthorityFiles(importFrom, held.current.rows, log);
  const stopHearing = changes.onChange(TRUST_TOPIC, () => held.reload());
  const timer = setInterval(() => held.reload(), RELOAD_INTERVAL_MS).unref();
  let signer: SnapshotSigner | null = null;

  const issueNode = async (request: NodeRequest, transaction?: Transaction<Tables>): Promise<IssuedNode> => {
    if (transaction === undefined) return await db.transaction().execute((own) => issueNode(request, own));
    return await issueIn(transaction, request, held.current.signing, options);
  };
  const list = async (): Promise<readonly AuthoritySummary[]> =>
    (await db.selectFrom("authorities").selectAll().orderBy("sign_after", "desc").execute()).map(summarise);

  return {
    issueNode,
    issueServer: async (hosts) => await makeServerCertificate(held.current.signing.authority, hosts, clock.nowMs(), random),
    issueSigner: async () => {
      const { signing, trust } = held.current;
      const nowMs = clock.nowMs();
      const usable =
        signer !== null &&
        isFresh(signer, signing.fingerprint, limits.snapshotSignerMs, nowMs) &&
        !trust.revokedSerials.has(signer.serial);
      if (signer !== null && usable) return signer;
      signer = await openSigner({ db, keys, known: signing, lifetimeMs: limits.snapshotSignerMs, nowMs, random });
      return signer;
    },
    trust: () => held.current.trust,
    caPem: () => held.current.trust.authorities.join(""),
    revoke: async (serials, reason) => {
      const count = await withdrawSerials(db, serials, { reason, nowMs: clock.nowMs() });
      log.warn({ count, reason }, "certificates revoked");
      await held.load();
    },
    revokeNode: async (node) => {
      await revokeNode(options, node);
      await held.load();
    },
    list,
    rotate: async ({ signAfterMs, author }) => {
      const nowMs = clock.nowMs();
      if (!Number.isFinite(signAfterMs) || signAfterMs < 0) {
        throw new GatewayError("config_invalid", "A new authority cannot sign before it exists: give a time of 0 or more.");
      }
      const fingerprint = await announceAuthority(db, keys, { author, nowMs, signAfterMs: nowMs + signAfterMs, random });
      log.warn(
        { fingerprint, signsAt: new Date(nowMs + signAfterMs).toISOString(), author },
        "a new certificate authority is announced",
      );
      await advance(options);
      await held.load();
      const made = (await list()).find((one) => one.fingerprint === fingerprint);
      if (made === undefined) throw new Error("the new authority is not in the store");
      return made;
    },
    tend: async (signal) => {
      while (!signal.aborted) {
        await advance(options);
        await forgetEnded(db, clock.nowMs(), limits.nodeForgottenMs);
        await delay(TEND_INTERVAL_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
      }
    },
    onChange: (listener) => held.onChange(listener),
    close: async () => {
      stopHearing();
      clearInterval(timer);
      await held.settled();
    },
  };
}

interface Held {
  readonly rows: readonly AuthorityRow[];
  readonly signing: { readonly fingerprint: string; readonly authority: SigningAuthority };
  readonly trust: TrustBundle;
}

/** The store's trust in memory. One reading at a time; what is asked for meanwhile is one further reading. */
class HeldTrust {
  readonly #options: AuthorityOptions;
  readonly #listeners = new Set<() => void>();
  #current: Held | null = null;
  #last: Promise<void> = Promise.resolve();
  #waiting = false;

  constructor(options: AuthorityOptions) {
    this.#options = options;
  }

  get current(): Held {
    if (this.#current === null) throw new Error("the authority was not loaded");
    return this.#current;
  }

  onChange(listener: () => void): () => void {
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Reads what is committed now. */
  async load(): Promise<void> {
    const read = this.#last.then(() => this.#read());
    this.#last = read.catch(() => undefined); // its caller is told
    await read;
  }

  /** The same without a caller who waits. */
  reload(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#last = this.#last.then(async () => {
      this.#waiting = false;
      await this.#read().catch((error: unknown) =>
        this.#options.log.warn({ reason: codeOf(error) }, "authorities could not be read again; the ones known stay in force"),
      );
    });
  }

  async settled(): Promise<void> {
    await this.#last;
  }

  async #read(): Promise<void> {
    const { db, keys, clock } = this.#options;
    const { authorities: rows, revokedSerials } = await readTrust(db, clock.nowMs());
    const row = rows[0];
    if (row?.state !== "signing") throw new Error("the store has no authority that signs");
    const before = this.#current;
    const signing =
      before?.signing.fingerprint === row.fingerprint
        ? before.signing
        : { fingerprint: row.fingerprint, authority: await openRow(row, keys) };
    const trust: TrustBundle = {
      authorities: rows.map(({ certificate }) => certificate),
      revokedSerials: new Set(revokedSerials),
    };
    this.#current = { rows, signing, trust };
    if (before === null || isSameTrust(before.trust, trust)) return;
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch (error) {
        this.#options.log.error({ err: error }, "a listener for changes of trust threw");
      }
    }
  }
}

async function issueIn(
  transaction: Transaction<Tables>,
  request: NodeRequest,
  known: Held["signing"],
  { keys, clock, random, limits }: AuthorityOptions,
): Promise<IssuedNode> {
  const { role, name } = request;
  if (role === "control-plane" && name.startsWith(SNAPSHOT_SIGNER_PREFIX))
    throw new Error("this name is for signers of snapshots");
  const nowMs = clock.nowMs();
  const { fingerprint, authority } = await holdSigning(transaction, keys, known);
  const issued = await issue(authority, {
    subject: name,
    publicKey: request.publicKey,
    hosts: [...new Set([serverNameOf(role, name), ...request.hosts])],
    uri: nodeUri(role, name, request.labels),
    use: "node",
    lifetimeMs: request.lifetimeMs ?? limits.nodeCertificateMs,
    nowMs,
    random,
  });
  await recordCertificate(transaction, issued, { authority: fingerprint, role, name, nowMs });
  const chain = [issued.certificate, new Uint8Array(new X509Certificate(authority.certificate).raw)];
  return { chain, serial: issued.serial, notAfterMs: issued.notAfterMs };
}

async function revokeNode(
  { db, clock, changes, log }: AuthorityOptions,
  { role, name, reason }: { readonly role: NodeRole; readonly name: string; readonly reason: string },
): Promise<void> {
  const nowMs = clock.nowMs();
  await db.transaction().execute(async (transaction) => {
    // The node's row first, as enrolment and renewal do: what is being issued meanwhile is withdrawn too, or refused.
    const { numUpdatedRows } = await transaction
      .updateTable("nodes")
      .set({ revoked_at: new Date(nowMs), revoked_reason: reason, slot: null })
      .where("role", "=", role)
      .where("name", "=", name)
      .where("revoked_at", "is", null)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) throw new GatewayError("not_found", `There is no ${role} called ${name} that could be revoked.`);
    await withdrawNode(transaction, { role, name }, { reason, nowMs });
    await changes.notify(transaction, "nodes", `${role}/${name}`);
  });
  log.warn({ role, node: name, reason }, "node revoked");
}

async function advance({ db, clock, log }: AuthorityOptions): Promise<void> {
  for (const moved of await advanceAuthorities(db, clock.nowMs())) log.warn({ authority: moved }, "certificate authority");
}

/** Nothing that it issues outlives it: whoever runs the installation should hear of it long before. */
function warnOfEnd(signing: AuthorityRow | undefined, { clock, log }: AuthorityOptions): void {
  if (signing === undefined || signing.not_after.getTime() - clock.nowMs() > WARN_OF_END_MS) return;
  log.warn(
    { ends: signing.not_after.toISOString() },
    "the certificate authority ends within a year: rotate it (sluice ca rotate)",
  );
}

async function compareClocks({ db, clock, log }: AuthorityOptions): Promise<void> {
  const { rows } = await sql<{ ms: number }>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`.execute(db);
  const differenceMs = clock.nowMs() - (rows[0]?.ms ?? 0);
  if (Math.abs(differenceMs) <= CLOCK_DIFFERENCE_MS_MAX) return;
  log.error(
    { differenceMs: Math.round(differenceMs) },
    "the clocks of this machine and of the store differ: set them, or certificates are not valid when they should be",
  );
}

function isSameTrust(a: TrustBundle, b: TrustBundle): boolean {
  return (
    a.authorities.join() === b.authorities.join() &&
    a.revokedSerials.size === b.revokedSerials.size &&
    [...a.revokedSerials].every((serial) => b.revokedSerials.has(serial))
  );
}

function summarise(row: AuthorityRow): AuthoritySummary {
  const { fingerprint, state } = row;
  return { fingerprint, state, createdAt: row.created_at.toISOString(), expiresAt: row.not_after.toISOString() };
}
