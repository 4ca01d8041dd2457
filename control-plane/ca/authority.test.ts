/** The authority in a real store: two replicas race, certificates verify under each of two authorities, and not after it has retired. */
import { createPublicKey, verify, X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import { makeKeyAndRequest, readNodeCertificate } from "@sluice/rpc/identity/node-certificate.ts";
import { fingerprintOf, verifyNode } from "@sluice/rpc/identity/verify.ts";
import { snapshotSignatureInput } from "@sluice/rpc/signed-content.ts";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { localEncryption } from "../keys/key-encryption.ts";
import { rewrapKeys } from "../keys/rewrap.ts";
import { type Changes, listenForChanges } from "../store/changes.ts";
import type { Store } from "../store/store.ts";
import { startTestCluster, type TestCluster } from "../store/testing.ts";
import { type Authority, type AuthorityOptions, openAuthority } from "./authority.ts";
import { openAuthorityFiles } from "./authority-files.ts";
import { makeAuthority, readCertificateRequest } from "./certificates.ts";

const log = pino({ level: "silent" });
const hourMs = 3_600_000;
const keys = localEncryption(systemRandom.bytes(32), "a test's key", systemRandom);
const directory = mkdtempSync(join(tmpdir(), "sluice-authority-"));
let cluster: TestCluster;
let nowMs: number;
const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
const open: (Authority | Changes)[] = [];

beforeAll(async () => {
  cluster = await startTestCluster();
}, 60_000);

beforeEach(() => {
  nowMs = Date.now();
});

afterAll(async () => {
  await Promise.all(open.map((one) => one.close()));
  await cluster.close();
  rmSync(directory, { recursive: true, force: true });
});

async function replica(store: Store, options: Partial<AuthorityOptions> = {}): Promise<Authority> {
  const changes = await listenForChanges({ connection: store.connection, random: systemRandom, log });
  open.push(changes);
  const authority = await openAuthority({
    db: store.db,
    keys,
    changes,
    clock,
    random: systemRandom,
    limits: defaultLimits,
    log,
    importFrom: null,
    ...options,
  });
  open.push(authority);
  return authority;
}

async function issueGateway(authority: Authority, name = "gw-1"): Promise<Uint8Array> {
  const { certificateRequestDer } = await makeKeyAndRequest();
  const issued = await authority.issueNode({
    role: "gateway",
    name,
    labels: { env: "prod" },
    hosts: ["db.example", "10.0.0.1"],
    publicKey: await readCertificateRequest(certificateRequestDer),
  });
  const [own, issuer] = issued.chain;
  expect(own && readNodeCertificate(own)).toMatchObject({ serial: issued.serial, notAfterMs: issued.notAfterMs });
  expect(issuer && fingerprintOf(issuer)).toBe(fingerprintOf(new X509Certificate(authority.trust().authorities[0] ?? "")));
  if (own === undefined) throw new Error("no certificate");
  return own;
}

function verdict(certificate: Uint8Array, authority: Authority): string {
  const trust = authority.trust();
  const identity = {
    material: { certificateChain: "", privateKey: "", authorities: trust.authorities.join("") },
    isRevoked: (serial: string) => trust.revokedSerials.has(serial),
  };
  const found = verifyNode(certificate, identity, nowMs);
  return found.kind === "node" ? "ok" : found.reason;
}

const changed = (authority: Authority): Promise<void> =>
  new Promise((resolve) => {
    const stop = authority.onChange(() => {
      stop();
      resolve();
    });
  });

it("is one for replicas that start at once, and what it issues says who the node is", async () => {
  const url = await cluster.freshDatabase();
  const stores = await Promise.all([cluster.open(url), cluster.open(url), cluster.open(url)]);
  const authorities = await Promise.all(stores.map((store) => replica(store)));
  expect(new Set(authorities.map((authority) => authority.caPem())).size).toBe(1);
  const [one, two] = authorities as [Authority, Authority]; // three were made above
  const certificate = await issueGateway(one);
  expect(verdict(certificate, two)).toBe("ok");
  expect(readNodeCertificate(certificate)).toMatchObject({ role: "gateway", name: "gw-1", labels: { env: "prod" } });
  const parsed = new X509Certificate(Buffer.from(certificate));
  expect(parsed.checkHost("gw-1.gateway.sluice.internal")).toBeDefined();
  expect(parsed.checkHost("db.example")).toBeDefined();
  expect(parsed.checkIP("10.0.0.1")).toBeDefined();
  expect(parsed.validToDate.getTime() - nowMs).toBeGreaterThan(23 * hourMs);
  const stored = await stores[0]?.db.selectFrom("authorities").select("wrapped_key").executeTakeFirstOrThrow();
  expect(stored?.wrapped_key).toMatch(/^v1\.local\./);
  expect(stored?.wrapped_key).not.toContain("PRIVATE");
});

it("tells every replica of a revocation, and forgets it when the certificate has ended", async () => {
  const url = await cluster.freshDatabase();
  const [store, other] = [await cluster.open(url), await cluster.open(url)];
  const [one, two] = [await replica(store), await replica(other)];
  const certificate = await issueGateway(one);
  const heard = changed(two);
  await one.revoke([readNodeCertificate(certificate)?.serial ?? ""], "lost");
  await heard;
  expect([verdict(certificate, one), verdict(certificate, two)]).toEqual(["revoked", "revoked"]);
  nowMs += 26 * hourMs;
  await one.revoke([], "nothing");
  expect(one.trust().revokedSerials.size).toBe(0);
  expect(verdict(certificate, one)).toBe("expired");
});

describe("rotation", () => {
  it("is announced, signs after the delay, and retires the former when its last certificate has ended", async () => {
    const url = await cluster.freshDatabase();
    const [store, other] = [await cluster.open(url), await cluster.open(url)];
    const [one, two] = [await replica(store), await replica(other)];
    const before = await issueGateway(one, "old");
    const oldSigner = await one.issueSigner();
    const heard = changed(two);
    const made = await one.rotate({ signAfterMs: 2 * hourMs, author: "ada" });
    await heard;
    expect(made.state).toBe("announced");
    expect(two.trust().authorities.length).toBe(2);
    await expect(two.rotate({ signAfterMs: 0, author: "eve" })).rejects.toMatchObject({ code: "config_invalid" });
    expect(verdict(await issueGateway(two, "still-old"), one)).toBe("ok");

    nowMs += 3 * hourMs;
    const signs = changed(two);
    const stop = new AbortController();
    const tending = one.tend(stop.signal);
    await signs;
    stop.abort();
    await tending;
    expect((await two.list()).map(({ state }) => state)).toEqual(["signing", "retiring"]);
    const after = await issueGateway(two, "new");
    expect(new X509Certificate(Buffer.from(after)).checkIssued(new X509Certificate(two.trust().authorities[0] ?? ""))).toBe(true);
    expect([verdict(before, two), verdict(after, one)]).toEqual(["ok", "ok"]);
    expect((await two.issueSigner()).id).not.toBe(oldSigner.id);

    nowMs += 25 * hourMs;
    const late = await issueGateway(one, "late");
    const retires = changed(two);
    const again = new AbortController();
    const tendingAgain = one.tend(again.signal);
    await retires;
    again.abort();
    await tendingAgain;
    expect((await one.list()).map(({ state }) => state)).toEqual(["signing", "retired"]);
    expect([verdict(before, two), verdict(late, two)]).toEqual(["untrusted", "ok"]);
    const kept = await store.db.selectFrom("authorities").select("wrapped_key").where("state", "=", "retired").executeTakeFirst();
    expect(kept).toEqual({ wrapped_key: null });
  });
});

describe("signers of snapshots", () => {
  it("are one for all replicas, verify, are replaced at half life, and are no TLS peers", async () => {
    const url = await cluster.freshDatabase();
    const [one, two] = [await replica(await cluster.open(url)), await replica(await cluster.open(url))];
    const [mine, theirs] = await Promise.all([one.issueSigner(), two.issueSigner()]);
    expect(mine.id).toBe(theirs.id);
    const content = Buffer.from("content");
    const certificate = new X509Certificate(Buffer.from(theirs.certificate));
    expect(verify(null, snapshotSignatureInput(content), certificate.publicKey, mine.sign(content))).toBe(true);
    expect(readNodeCertificate(certificate)).toMatchObject({ role: "control-plane", name: `snapshot-signer-${mine.id}` });
    expect(certificate.publicKey.asymmetricKeyType).toBe("ed25519");
    expect(certificate.keyUsage).toEqual(["1.3.6.1.5.5.7.3.36"]);
    expect(await one.issueSigner()).toBe(mine);
    nowMs += defaultLimits.snapshotSignerMs / 2 + 1_000;
    const next = await one.issueSigner();
    expect(next.id).not.toBe(mine.id);
    await one.revoke([next.serial], "stolen");
    expect((await one.issueSigner()).id).not.toBe(next.id);
    const { certificateRequestDer } = await makeKeyAndRequest();
    const publicKey = await readCertificateRequest(certificateRequestDer);
    const posing = { role: "control-plane", name: "snapshot-signer-1", labels: {}, hosts: [], publicKey } as const;
    await expect(one.issueNode(posing)).rejects.toThrow("signers of snapshots");
  });
});

it("forgets what ended: certificates at once, nodes and tokens after a week, living ones never", async () => {
  const store = await cluster.open();
  const authority = await replica(store);
  await issueGateway(authority, "short");
  await sql`insert into nodes (role, name, labels, hosts, capability, enrolled_at, enrolled_with, certificate_not_after, revoked_at)
    select 'gateway', name, '{}', '[]', 2, now() - interval '30 days', 'test', now() + ends, revoked
    from (values ('gone', interval '-8 days', null::timestamptz), ('away', interval '-6 days', null), ('alive', interval '1 day', null),
      ('revoked', interval '-8 days', now() - interval '1 day')) as n(name, ends, revoked)`.execute(store.db);
  await sql`insert into join_tokens (id, secret_sha256, role, labels, hosts, author, created_at, expires_at)
    values ('old', '', 'agent', '{}', '[]', 'ada', now(), now() - interval '8 days'), ('new', '', 'agent', '{}', '[]', 'ada', now(), now())`.execute(
    store.db,
  );
  const tendOnce = async (): Promise<void> => {
    const stop = new AbortController();
    const tending = authority.tend(stop.signal);
    await expect.poll(async () => (await store.db.selectFrom("join_tokens").select("id").execute()).length).toBe(1);
    stop.abort();
    await tending;
  };
  await tendOnce();
  const names = await store.db.selectFrom("nodes").select("name").orderBy("name").execute();
  expect(names.map(({ name }) => name)).toEqual(["alive", "away", "revoked"]);
  expect((await store.db.selectFrom("certificates").select("name").execute()).map(({ name }) => name)).toEqual(["short"]);
  nowMs += 27 * hourMs;
  await tendOnce();
  await expect.poll(async () => (await store.db.selectFrom("certificates").select("name").execute()).length).toBe(0);
});

describe("keys", () => {
  it("of another encryption key are said in a sentence; changing the key keeps the authority", async () => {
    const store = await cluster.open(await cluster.freshDatabase());
    const first = await replica(store);
    await first.issueSigner();
    const other = localEncryption(systemRandom.bytes(32), "another key", systemRandom);
    await expect(replica(store, { keys: other })).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringMatching(/encrypted under another key \([0-9a-f]{16}\) than another key/),
    });
    await expect(rewrapKeys(store.db, other, keys)).rejects.toMatchObject({ code: "config_invalid" });
    expect(await rewrapKeys(store.db, keys, other)).toBe(2);
    const second = await replica(store, { keys: other });
    expect(second.caPem()).toBe(first.caPem());
    expect((await second.issueSigner()).id).toBe((await first.issueSigner()).id);
    await expect(replica(store)).rejects.toMatchObject({ code: "config_invalid" });
    // Wrapped keys cannot change places.
    const [authority] = await store.db.selectFrom("authorities").selectAll().execute();
    await store.db
      .updateTable("signers")
      .set({ wrapped_key: authority?.wrapped_key ?? "" })
      .execute();
    await expect((await replica(store, { keys: other })).issueSigner()).rejects.toMatchObject({ code: "config_invalid" });
  });
});

describe("files", () => {
  it("of an earlier version are imported once, the key's file goes, clients keep their CA, servers verify and are renewed", async () => {
    const made = await makeAuthority(nowMs, systemRandom);
    writeFileSync(join(directory, "ca.pem"), made.certificate);
    writeFileSync(join(directory, "ca-key.pem"), "garbage");
    const store = await cluster.open(await cluster.freshDatabase());
    await expect(replica(store, { importFrom: directory })).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringContaining("damaged"),
    });
    writeFileSync(join(directory, "ca-key.pem"), made.privateKey);
    const authority = await replica(store, { importFrom: directory });
    expect(existsSync(join(directory, "ca-key.pem"))).toBe(false);
    expect(authority.trust().authorities.map((pem) => pem.trim())).toEqual([made.certificate.trim()]);

    // A crash after the import and before the removal.
    writeFileSync(join(directory, "ca-key.pem"), made.privateKey);
    await replica(store, { importFrom: directory });
    expect(existsSync(join(directory, "ca-key.pem"))).toBe(false);

    const files = await openAuthorityFiles({ directory, authority, clock, log });
    expect(files.caFile).toBe(join(directory, "ca.pem"));
    const hosts = ["localhost", "127.0.0.1"];
    const first = await files.issueServerCertificate({ name: "gateway", hosts });
    expect(first.renewed).toBe(true);
    expect((await files.issueServerCertificate({ name: "gateway", hosts })).renewed).toBe(false);
    const server = new X509Certificate(readFileSync(first.certFile));
    expect(server.verify(createPublicKey(readFileSync(files.caFile)))).toBe(true);

    await authority.rotate({ signAfterMs: 0, author: "ada" });
    await files.settled();
    expect(readFileSync(files.caFile, "utf8")).toBe(authority.caPem());
    expect(readFileSync(files.caFile, "utf8").match(/BEGIN CERTIFICATE/g)?.length).toBe(2);
    expect((await files.issueServerCertificate({ name: "gateway", hosts })).renewed).toBe(true);
    files.close();
  });
});
