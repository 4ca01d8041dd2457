/**
 * Enrolment against a real store: every way in which a token is not good enough, and what is left behind when something fails half-way.
 * Long because each way needs a token, a request and a look at the store.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import type { WorkloadEnrolment } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { systemRandom } from "@sluice/core/system.ts";
import { EnrolRequestSchema, RenewRequestSchema } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import { CAPABILITY } from "@sluice/rpc/capabilities.ts";
import type { CallContext } from "@sluice/rpc/grpc.ts";
import { encodeJoinToken, parseJoinToken } from "@sluice/rpc/identity/join-token.ts";
import { makeKeyAndRequest, readNodeCertificate } from "@sluice/rpc/identity/node-certificate.ts";
import type { NodeCertificate, NodeRole } from "@sluice/rpc/nodes.ts";
import { roleToProto } from "@sluice/rpc/trust.ts";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Authority, openAuthority } from "../ca/authority.ts";
import { localEncryption } from "../keys/key-encryption.ts";
import { type Changes, listenForChanges } from "../store/changes.ts";
import type { Store } from "../store/store.ts";
import { startTestCluster, type TestCluster } from "../store/testing.ts";
import { createEnrolment, type Enrolment } from "./enrolment.ts";
import { createRefusalLog } from "./refusal-log.ts";

const lines: string[] = [];
const log = pino({ level: "info" }, { write: (line: string) => void lines.push(line) });
const keys = localEncryption(systemRandom.bytes(32), "a test's key", systemRandom);
const minuteMs = 60_000;
let nowMs = Date.now();
const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
let cluster: TestCluster;
let store: Store;
let changes: Changes;
let authority: Authority;
let enrolment: Enrolment;
let request: Uint8Array;

const workload: WorkloadEnrolment = {
  name: "cluster-agents",
  issuer: "",
  audience: "sluice",
  jwksUri: null,
  caFile: null,
  role: "agent",
  claims: { sub: "system:serviceaccount:sluice:agent" },
  namePrefix: "agent-",
  labels: { env: "prod" },
  hosts: [],
};

async function open(
  overrides: { readonly authority?: Authority; readonly workloads?: readonly WorkloadEnrolment[] } = {},
): Promise<Enrolment> {
  return createEnrolment({
    db: store.db,
    authority,
    clock,
    random: systemRandom,
    limits: defaultLimits,
    log,
    workloads: [],
    ...overrides,
  });
}

beforeAll(async () => {
  cluster = await startTestCluster();
  store = await cluster.open();
  changes = await listenForChanges({ connection: store.connection, random: systemRandom, log });
  authority = await openAuthority({
    db: store.db,
    keys,
    changes,
    clock,
    random: systemRandom,
    limits: defaultLimits,
    log,
    importFrom: null,
  });
  enrolment = await open();
  request = (await makeKeyAndRequest()).certificateRequestDer;
}, 60_000);

beforeEach(() => {
  nowMs = Date.now();
  lines.length = 0;
});

afterAll(async () => {
  await authority.close();
  await changes.close();
  await cluster.close();
});

const nobody: CallContext = { peer: null, peerAddress: "127.0.0.1:1", signal: new AbortController().signal };

interface Wish {
  readonly role?: NodeRole;
  readonly name?: string;
  readonly hosts?: string[];
  readonly certificateRequest?: Uint8Array;
  readonly capability?: number;
  readonly workloadToken?: string;
  readonly by?: Enrolment;
}

async function enrol(token: string, wish: Wish = {}): Promise<NodeCertificate> {
  const message = create(EnrolRequestSchema, {
    credential:
      wish.workloadToken === undefined
        ? { case: "joinToken", value: token }
        : { case: "workloadToken", value: wish.workloadToken },
    role: roleToProto(wish.role ?? "gateway"),
    name: wish.name ?? "gw-1",
    hosts: wish.hosts ?? [],
    certificateRequest: wish.certificateRequest ?? request,
    capability: wish.capability ?? CAPABILITY,
  });
  const { certificates } = await (wish.by ?? enrolment).handlers.enrol(message, nobody);
  return readNodeCertificate(Buffer.from(certificates?.[0] ?? [])) ?? Promise.reject(new Error("no certificate of a node"));
}

const renew = async (peer: NodeCertificate | null): Promise<NodeCertificate | null> => {
  const { certificateRequestDer } = await makeKeyAndRequest();
  const message = create(RenewRequestSchema, { certificateRequest: certificateRequestDer, capability: CAPABILITY });
  const { certificates } = await enrolment.handlers.renew(message, { ...nobody, peer });
  return readNodeCertificate(Buffer.from(certificates?.[0] ?? []));
};

type TokenWish = Partial<Parameters<Enrolment["joinTokens"]["create"]>[0]>;
const makeToken = async (wish: TokenWish = {}): Promise<{ readonly id: string; readonly token: string }> =>
  await enrolment.joinTokens.create({
    role: "gateway",
    name: null,
    labels: {},
    hosts: [],
    ttlMs: 10 * minuteMs,
    author: "ada",
    ...wish,
  });
const stateOf = async (id: string): Promise<unknown> => (await enrolment.joinTokens.list()).find((one) => one.id === id);
const refusal = async (attempt: Promise<unknown>): Promise<string> => {
  const error: unknown = await attempt.then(
    () => new Error("was not refused"),
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code: "enrolment_refused" });
  return error instanceof Error ? error.message : "";
};

describe("a join token", () => {
  it("enrols a node of its role, labels and hosts, once, and is nowhere in store or log", async () => {
    const { id, token } = await makeToken({ labels: { env: "prod" }, hosts: ["*.db.example", "10.0.0.1"] });
    const hosts = ["eu.db.example", "10.0.0.1", "evil.example", "a.b.db.example"];
    const node = await enrol(token, { name: "gw-once", hosts });
    expect(node).toMatchObject({ role: "gateway", name: "gw-once", labels: { env: "prod" } });
    expect(await stateOf(id)).toMatchObject({ state: "used", usedBy: "gw-once", author: "ada", role: "gateway" });
    const row = await store.db.selectFrom("nodes").selectAll().where("name", "=", "gw-once").executeTakeFirstOrThrow();
    expect(row).toMatchObject({
      hosts: ["eu.db.example", "10.0.0.1"],
      slot: expect.any(Number),
      certificate_serial: node.serial,
      capability: CAPABILITY,
    });
    const secret = parseJoinToken(token)?.secret ?? "";
    const { rows } = await sql<{ text: string }>`select row_to_json(t)::text as text from join_tokens t`.execute(store.db);
    expect(rows.map(({ text }) => text).join()).not.toContain(secret);
    expect(lines.join()).not.toContain(secret);
    const { certificateRequestDer } = await makeKeyAndRequest();
    const again = await refusal(enrol(token, { name: "gw-twice", certificateRequest: certificateRequestDer }));
    expect(again).toMatch(/used already, by the gateway gw-once at 20/);
  });

  it("used twenty times at once lets exactly one in", async () => {
    const { token } = await makeToken();
    const other = await open();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, async (_unused, index) => {
        const { certificateRequestDer } = await makeKeyAndRequest();
        return await enrol(token, {
          name: `race-${index}`,
          certificateRequest: certificateRequestDer,
          by: index % 2 === 0 ? other : enrolment,
        });
      }),
    );
    expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(1);
    const { rows } = await sql<{ n: number }>`select count(*)::int as n from nodes where name like 'race-%'`.execute(store.db);
    expect(rows).toEqual([{ n: 1 }]);
    const issued = await store.db.selectFrom("certificates").select("serial").where("name", "like", "race-%").execute();
    expect(issued.length).toBe(1);
  });

  it("gives the same answer again to the same key, and to no other", async () => {
    const { token } = await makeToken();
    const first = await enrol(token, { name: "gw-retry" });
    expect(await enrol(token, { name: "gw-retry" })).toEqual(first);
    expect(await refusal(enrol(token, { name: "gw-other" }))).toContain("used already");
    await authority.revokeNode({ role: "gateway", name: "gw-retry", reason: "test" });
    expect(await refusal(enrol(token, { name: "gw-retry" }))).toContain("used already");
  });

  it.each<[string, TokenWish, Wish, RegExp]>([
    ["another role", { role: "agent" }, { role: "gateway" }, /for a node of the role agent, not gateway/],
    ["another name", { name: "gw-eu" }, { name: "gw-us" }, /for the name gw-eu, not gw-us/],
    ["a role that does not enrol", {}, { role: "control-plane" }, /not accepted here/],
    ["a name that is none", {}, { name: "Gw_1" }, /not accepted here/],
    ["a request that is none", {}, { certificateRequest: Buffer.from("x"), name: "gw-bad" }, /signed with its own P-256 key/],
    ["a request that is too large", {}, { certificateRequest: Buffer.alloc(9_000), name: "gw-bad" }, /larger than any real one/],
  ])("is refused for %s, and stays good", async (_title, token, wish, text) => {
    const made = await makeToken(token);
    expect(await refusal(enrol(made.token, wish))).toMatch(text);
    expect(await stateOf(made.id)).toMatchObject({ state: "open", usedBy: null });
  });

  it("that expired or was revoked is refused with that word, whatever this machine's clock says", async () => {
    const expired = await makeToken({ ttlMs: 1_000 });
    await sql`update join_tokens set expires_at = clock_timestamp() where id = ${expired.id}`.execute(store.db);
    nowMs = Date.now() - 10 * minuteMs;
    expect(await refusal(enrol(expired.token))).toMatch(/expired at 20/);
    nowMs = Date.now() + 10 * minuteMs;
    const fresh = await makeToken({ ttlMs: 5 * minuteMs });
    const node = await enrol(fresh.token, { name: "gw-skewed" });
    expect(node.notBeforeMs).toBeLessThan(Date.now()); // a node whose clock is ten minutes behind may use it
    expect(await stateOf(expired.id)).toMatchObject({ state: "expired" });
    const revoked = await makeToken();
    await enrolment.joinTokens.revoke(revoked.id);
    expect(await refusal(enrol(revoked.token, { name: "gw-x" }))).toContain("was revoked");
    await expect(enrolment.joinTokens.revoke("j_none")).rejects.toMatchObject({ code: "not_found" });
  });

  it("that nobody made is refused in the same words whether id or secret is wrong", async () => {
    const { token } = await makeToken();
    const parsed = parseJoinToken(token);
    if (parsed === null) throw new Error("the token does not parse");
    const wrongSecret = encodeJoinToken({ ...parsed, secret: "x".repeat(43) });
    const wrongId = encodeJoinToken({ ...parsed, id: "j_000000000000" });
    const said = await Promise.all([wrongSecret, wrongId, "garbage", ""].map((text) => refusal(enrol(text))));
    expect(new Set(said)).toEqual(new Set(["This token is not accepted here."]));
    expect(lines.join()).toContain("the secret is not the one of this join token");
    expect(lines.join()).toContain("no join token has this id");
  });

  it("does not give away the name of a living node, unless it names it: then the former is out", async () => {
    const first = await enrol((await makeToken()).token, { name: "gw-taken" });
    const other = await makeToken();
    expect(await refusal(enrol(other.token, { name: "gw-taken" }))).toContain("There is a gateway called gw-taken already");
    expect(await stateOf(other.id)).toMatchObject({ state: "open" });
    const second = await enrol((await makeToken({ name: "gw-taken" })).token, { name: "gw-taken" });
    expect(second.serial).not.toBe(first.serial);
    expect(await refusal(renew(first))).toContain("revoked");
    expect((await renew(second))?.name).toBe("gw-taken");
    nowMs += 25 * 60 * minuteMs; // its certificate has ended: the name is free
    const third = await enrol((await makeToken()).token, { name: "gw-taken" });
    expect(third.notAfterMs).toBeGreaterThan(second.notAfterMs);
  });

  it("is checked when it is made", async () => {
    const wrong: readonly TokenWish[] = [
      { name: "Not A Label" },
      { ttlMs: 0 },
      { ttlMs: Number.NaN },
      { ttlMs: defaultLimits.joinTokenTtlMsMax + 1 },
      { hosts: ["not a host"] },
      { labels: { "a b": "c" } },
      { labels: { a: "\n" } },
    ];
    for (const wish of wrong) await expect(makeToken(wish)).rejects.toMatchObject({ code: "config_invalid" });
  });
});

describe("when something fails half-way", () => {
  it("a token is as it was, and no node and no certificate are left", async () => {
    const { id, token } = await makeToken();
    for (const at of ["before", "after"] as const) {
      const failing: Authority = {
        ...authority,
        issueNode: async (wanted, transaction) => {
          if (at === "after") await authority.issueNode(wanted, transaction);
          throw new Error(`died ${at} signing`);
        },
      };
      const broken = await open({ authority: failing });
      await expect(enrol(token, { name: "gw-crash", by: broken })).rejects.toThrow("died");
    }
    // The connection dies in the middle of the transaction, as with kill -9 of this process.
    const dying: Authority = {
      ...authority,
      issueNode: async (wanted, transaction) => {
        const issued = await authority.issueNode(wanted, transaction);
        await sql`select pg_terminate_backend(pg_backend_pid())`.execute(transaction ?? store.db);
        return issued;
      },
    };
    const dead = await open({ authority: dying });
    await expect(enrol(token, { name: "gw-crash", by: dead })).rejects.toThrow();
    expect(await stateOf(id)).toMatchObject({ state: "open" });
    expect(await store.db.selectFrom("nodes").selectAll().where("name", "=", "gw-crash").execute()).toEqual([]);
    expect(await store.db.selectFrom("certificates").selectAll().where("name", "=", "gw-crash").execute()).toEqual([]);
    expect((await enrol(token, { name: "gw-crash" })).name).toBe("gw-crash");
  });
});

describe("slots", () => {
  it("differ among gateways, stay through renewal, and are free again after revocation", async () => {
    const names = ["slot-a", "slot-b", "slot-c", "slot-d"];
    await Promise.all(names.map(async (name) => await enrol((await makeToken()).token, { name })));
    const slots = async (): Promise<ReadonlyMap<string, number | null>> => {
      const rows = await store.db.selectFrom("nodes").select(["name", "slot"]).where("name", "in", names).execute();
      return new Map(rows.map(({ name, slot }) => [name, slot]));
    };
    const before = await slots();
    expect(new Set(before.values()).size).toBe(4);
    await authority.revokeNode({ role: "gateway", name: "slot-a", reason: "test" });
    expect((await slots()).get("slot-a")).toBe(null);
    await enrol((await makeToken()).token, { name: "slot-e" });
    const freed = await store.db.selectFrom("nodes").select("slot").where("name", "=", "slot-e").executeTakeFirst();
    expect(freed?.slot).toBe(before.get("slot-a"));
    await enrol((await makeToken({ role: "agent" })).token, { role: "agent", name: "slotless" });
    const agent = await store.db.selectFrom("nodes").select("slot").where("name", "=", "slotless").executeTakeFirst();
    expect(agent).toEqual({ slot: null });
  });

  it("of gateways that are gone are taken back when none is free", async () => {
    await sql`insert into nodes (role, name, labels, hosts, slot, capability, enrolled_at, enrolled_with, certificate_not_after)
      select 'gateway', 'filler-' || s, '{}', '[]', s, 1, now(), 'test', now() + interval '1 day' from generate_series(1, 4095) s
      where not exists (select from nodes where slot = s)`.execute(store.db);
    const { token, id } = await makeToken();
    expect(await refusal(enrol(token, { name: "slot-full" }))).toContain("4095 gateways already");
    expect(await stateOf(id)).toMatchObject({ state: "open" });
    await sql`update nodes set certificate_not_after = now() - interval '1 hour' where name = 'filler-4000'`.execute(store.db);
    await enrol(token, { name: "slot-full" });
    const row = await store.db.selectFrom("nodes").select("slot").where("name", "=", "slot-full").executeTakeFirst();
    expect(row).toEqual({ slot: 4000 });
    await sql`delete from nodes where name like 'filler-%'`.execute(store.db);
  });
});

describe("renewal", () => {
  it("is for known, unrevoked nodes and certificates, keeps what they are, and refuses others", async () => {
    const node = await enrol((await makeToken({ labels: { zone: "a" } })).token, { name: "gw-renew" });
    const renewed = await renew(node);
    expect(renewed).toMatchObject({ role: "gateway", name: "gw-renew", labels: { zone: "a" } });
    expect(renewed?.serial).not.toBe(node.serial);
    await expect(renew(null)).rejects.toMatchObject({ code: "unauthorized" });
    expect(await refusal(renew({ ...node, role: "agent" }))).toContain("not known");
    expect(await refusal(renew({ ...node, serial: "00" }))).toContain("not known here");
    expect(await refusal(renew({ ...node, role: "control-plane" }))).toContain("Control planes");
    await authority.revokeNode({ role: "gateway", name: "gw-renew", reason: "stolen" });
    expect(await refusal(renew(renewed))).toContain("was revoked");
    expect([node.serial, renewed?.serial].every((serial) => authority.trust().revokedSerials.has(serial ?? ""))).toBe(true);
    await expect(authority.revokeNode({ role: "gateway", name: "gw-renew", reason: "again" })).rejects.toMatchObject({
      code: "not_found",
    });
  });

  it("under way while the node is revoked ends revoked or refused, never alive", async () => {
    for (let round = 0; round < 10; round += 1) {
      const name = `gw-race-${round}`;
      const node = await enrol((await makeToken()).token, { name });
      const [renewed] = await Promise.allSettled([renew(node), authority.revokeNode({ role: "gateway", name, reason: "race" })]);
      if (renewed.status === "fulfilled") expect(authority.trust().revokedSerials.has(renewed.value?.serial ?? "")).toBe(true);
      else expect(renewed.reason).toMatchObject({ code: "enrolment_refused" });
    }
  });
});

it("speaks with nodes of its own and the former version, and says so to others", async () => {
  const { token } = await makeToken();
  await expect(enrol(token, { capability: 0 })).rejects.toMatchObject({ code: "incompatible" });
  expect((await enrol(token, { name: "gw-former", capability: CAPABILITY - 1 })).name).toBe("gw-former");
});

describe("a workload token", () => {
  let issuer: Server;
  let address: string;
  let pair: Awaited<ReturnType<typeof generateKeyPair>>;
  let by: Enrolment;
  let fetches = 0;

  beforeAll(async () => {
    pair = await generateKeyPair("ES256");
    const jwk = { ...(await exportJWK(pair.publicKey)), alg: "ES256", kid: "k1", use: "sig" };
    issuer = createServer((incoming, response) => {
      fetches += 1;
      const isKeys = incoming.url === "/keys";
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(isKeys ? { keys: [jwk] } : { issuer: address, jwks_uri: `${address}/keys` }));
    });
    await new Promise<void>((resolve) => issuer.listen(0, "127.0.0.1", resolve));
    address = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`; // TCP, so not a pipe name
    by = await open({ workloads: [{ ...workload, issuer: address }] });
  });

  afterAll(() => new Promise((resolve) => issuer.close(resolve)));

  const sign = async (claims: Record<string, unknown> = {}, key = pair.privateKey): Promise<string> => {
    const issuedAt = Math.floor(nowMs / 1_000);
    const payload = {
      iss: address,
      aud: "sluice",
      sub: "system:serviceaccount:sluice:agent",
      iat: issuedAt,
      exp: issuedAt + 600,
      ...claims,
    };
    return await new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid: "k1" }).sign(key);
  };
  const attempt = async (token: string, wish: Wish = {}): Promise<NodeCertificate> =>
    await enrol("", { role: "agent", name: "agent-1", by, workloadToken: token, ...wish });

  it("enrols a node of the configured role, labels and names, also again after a restart, with keys fetched once", async () => {
    const first = await attempt(await sign());
    expect(first).toMatchObject({ role: "agent", name: "agent-1", labels: { env: "prod" } });
    const { certificateRequestDer } = await makeKeyAndRequest();
    const second = await attempt(await sign(), { certificateRequest: certificateRequestDer });
    expect(second.serial).not.toBe(first.serial);
    expect(authority.trust().revokedSerials.has(first.serial)).toBe(false); // the former may still be draining
    expect(fetches).toBe(2);
  });

  it("is refused when it is not genuine, in the same words for everything", async () => {
    const stranger = await generateKeyPair("ES256");
    const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify({ iss: address })).toString("base64url")}.`;
    const tokens = [
      await sign({}, stranger.privateKey),
      await sign({ aud: "other" }),
      await sign({ iss: "https://other.example" }),
      await sign({ exp: Math.floor(nowMs / 1_000) - 3_600 }),
      await sign({ nbf: Math.floor(nowMs / 1_000) + 600 }),
      await sign({ exp: undefined }),
      unsigned,
      "garbage",
      "x".repeat(defaultLimits.tokenBytesMax + 1),
    ];
    for (const token of tokens) expect(await refusal(attempt(token))).toBe("This token is not accepted here.");
    expect(lines.join()).not.toContain(tokens[0]?.split(".")[2] ?? "");
  });

  it("is told what it may not, once it is genuine", async () => {
    expect(await refusal(attempt(await sign({ sub: "system:serviceaccount:default:default" })))).toContain(
      "claims are not those",
    );
    expect(await refusal(attempt(await sign(), { role: "gateway" }))).toContain("role agent, not gateway");
    expect(await refusal(attempt(await sign(), { name: "other-1" }))).toContain("names begin with agent-");
  });

  it("enrols nobody where no claim tells this workload from others", async () => {
    const open = { ...workload, issuer: address, claims: {} };
    const anybody = createEnrolment({
      db: store.db,
      authority,
      clock,
      random: systemRandom,
      limits: defaultLimits,
      log,
      workloads: [open],
    });
    expect(await refusal(attempt(await sign(), { by: anybody }))).toContain("claims are not those");
  });

  it("neither takes a name that a join token enrolled, nor undoes a revocation", async () => {
    await enrol((await makeToken({ role: "agent" })).token, { role: "agent", name: "agent-joined" });
    expect(await refusal(attempt(await sign(), { name: "agent-joined" }))).toContain("called agent-joined already");
    await attempt(await sign(), { name: "agent-out" });
    await authority.revokeNode({ role: "agent", name: "agent-out", reason: "stolen" });
    expect(await refusal(attempt(await sign(), { name: "agent-out" }))).toContain("was revoked");
    const { token } = await makeToken({ role: "agent", name: "agent-out" });
    expect((await enrol(token, { role: "agent", name: "agent-out" })).name).toBe("agent-out");
  });
});

it("says refusals in the log a bounded number of times a second, and how many it left out", () => {
  let atMs = 0;
  const said: string[] = [];
  const logged = pino({ level: "warn" }, { write: (line: string) => void said.push(line) });
  const refusals = createRefusalLog({ nowMs: () => atMs, monotonicMs: () => atMs }, logged);
  for (let count = 0; count < 100; count += 1) refusals.note({ reason: "x" });
  expect(said.length).toBe(20);
  atMs += 1_000;
  refusals.note({ reason: "y" });
  expect(JSON.parse(said[20] ?? "")).toMatchObject({ reason: "y", leftOut: 80 });
});

it("takes a bounded number at a time, and turns away those above", async () => {
  const small = createEnrolment({
    db: store.db,
    authority,
    clock,
    random: systemRandom,
    limits: { ...defaultLimits, enrolmentsInFlightMax: 1, enrolmentsWaitingMax: 2 },
    log,
    workloads: [],
  });
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => enrol("garbage", { by: small })));
  const codes = outcomes.map((outcome) =>
    outcome.status === "rejected" && outcome.reason instanceof GatewayError ? outcome.reason.code : "none",
  );
  expect(codes.sort()).toEqual([
    ...Array.from({ length: 3 }, () => "enrolment_refused"),
    ...Array.from({ length: 2 }, () => "too_many_connections"),
  ]);
});
