/**
 * Vault as a source: what is read and leased, what is said when it is not, and how tokens and leases live.
 * Long because one Vault and one PostgreSQL serve all of it.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { VaultConfig } from "@sluice/core/config.ts";
import type { CredentialSpec, SecretRef } from "@sluice/core/snapshot.ts";
import { systemRandom } from "@sluice/core/system.ts";
import fc from "fast-check";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { makeAuthority, makeServerCertificate, readAuthority } from "../../control-plane/ca/certificates.ts";
import { type Cluster, startCluster } from "../../control-plane/store/embedded-postgres.ts";
import { type VaultRole, VaultServer } from "../../test/support/vault-server.ts";
import { createTestSources, target, type TestSources } from "./testing-sources.ts";

const SECRET = "kv-s3cret-0a1b2c3d";
const ROTATED = "kv-rotated-4e5f6a7b";
const everywhere = [{ source: { kind: "vault", path: "*" }, targets: ["*"] }] as const;
const kv = (path = "orders", field = "password", vault = "default"): SecretRef => ({
  kind: "vaultKv",
  vault,
  mount: "secret",
  path,
  field,
});
const spec = (password: SecretRef): CredentialSpec => ({ username: { kind: "value", value: "app" }, password });
const leased = (role = "reader"): CredentialSpec => {
  const part = { kind: "vaultDatabase", vault: "default", mount: "database", role } as const;
  return { username: { ...part, field: "username" }, password: { ...part, field: "password" } };
};

let directory: string;
let cluster: Cluster;
let admin: pg.Client;
let pem: { readonly certificate: string; readonly privateKey: string };
let vault: VaultServer;
let address: string;
let approle: { newSecretId(): string };
/** Everything that was said by anybody, and what must not be in it. */
const told: string[] = [];
const hidden: string[] = [SECRET, ROTATED];
const opened: TestSources[] = [];
const role: VaultRole = { policies: ["default", "agent"], ttlSeconds: 600, maxTtlSeconds: 3_600 };

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-vault-test-"));
  const log = { debug: () => {}, info: () => {}, warn: () => {} };
  cluster = await startCluster({ directory: join(directory, "target"), name: "target", parameters: { fsync: "off" }, log });
  admin = new pg.Client({
    host: cluster.host,
    port: cluster.port,
    user: "postgres",
    password: cluster.password,
    database: "postgres",
  });
  await admin.connect();
  const authority = await makeAuthority(Date.now(), systemRandom);
  const other = await makeAuthority(Date.now(), systemRandom);
  pem = await makeServerCertificate(await readAuthority(authority), ["127.0.0.1"], Date.now(), systemRandom);
  await writeFile(join(directory, "ca.pem"), authority.certificate);
  await writeFile(join(directory, "other-ca.pem"), other.certificate);
});
afterAll(async () => {
  await admin.end();
  await cluster.stop();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  vault = new VaultServer({ ...pem, runSql: async (statement) => void (await admin.query(statement)) });
  address = await vault.listen();
  vault.policies.set("agent", [
    { path: "secret/data/*", capabilities: ["read"] },
    { path: "database/creds/*", capabilities: ["read"] },
    { path: "sys/leases/revoke", capabilities: ["update"] },
  ]);
  vault.writeKv("secret/orders", { password: SECRET });
  vault.leases.roles.set("database/reader", {
    ttlSeconds: 600,
    maxTtlSeconds: 3_600,
    creationStatements: [
      `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`,
      `GRANT pg_read_all_data TO "{{name}}"`,
    ],
  });
  approle = vault.addAppRole("agent-role", role);
  await giveSecretId();
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ sources }) => sources.close()));
  await vault.close();
});

/** The property of all of them: nothing that was said, by errors, their causes or the log, holds a secret. */
afterEach(() => {
  const everything = told.join("\n");
  for (const secret of hidden) expect(everything).not.toContain(secret);
});

async function giveSecretId(): Promise<void> {
  const id = approle.newSecretId();
  hidden.push(id);
  await writeFile(join(directory, "secret-id"), `${id}\n`);
}

type Options = Parameters<typeof createTestSources>[2] & { readonly vault?: Partial<VaultConfig> };

function open(options: Options = {}): TestSources {
  const config: VaultConfig = {
    name: "default",
    address,
    caFile: join(directory, "ca.pem"),
    namespace: null,
    auth: { kind: "appRole", mount: "approle", roleId: "agent-role", secretIdFile: join(directory, "secret-id") },
    ...options.vault,
  };
  const made = createTestSources({ secrets: everywhere, vaults: [config] }, told, options);
  opened.push(made);
  return made;
}

const count = (pattern: RegExp): number => vault.requests.filter((request) => pattern.test(request)).length;
const logins = (): number => count(/\/login$/);
const reads = (): number => count(/\/data\//);
const leases = (): number => count(/\/creds\//);

async function logIn(credential: { readonly user: string; readonly password: string | undefined }): Promise<string> {
  const client = new pg.Client({ host: cluster.host, port: cluster.port, database: "postgres", ...credential });
  await client.connect();
  try {
    const { rows } = await client.query<{ current_user: string }>("SELECT current_user");
    return rows[0]?.current_user ?? "";
  } finally {
    await client.end();
  }
}

describe("the KV engine", () => {
  test("a storm of logins is one request, and a rotation is seen after a short while", async () => {
    const { resolve, advance } = open();
    const all = await Promise.all(Array.from({ length: 50 }, () => resolve(spec(kv()))));
    expect(new Set(all.map(({ password }) => password))).toEqual(new Set([SECRET]));
    expect([logins(), reads()]).toEqual([1, 1]);
    vault.writeKv("secret/orders", { password: ROTATED });
    expect(await resolve(spec(kv()))).toEqual({ user: "app", password: SECRET });
    advance(5_000);
    expect(await resolve(spec(kv()))).toEqual({ user: "app", password: ROTATED });
    expect([logins(), reads()]).toEqual([1, 2]);
  });

  test("one that the target refused is fetched afresh, but not in a storm", async () => {
    const { resolve, advance, sources } = open();
    await resolve(spec(kv()));
    vault.writeKv("secret/orders", { password: ROTATED });
    sources.invalidate(spec(kv()));
    expect(await resolve(spec(kv()))).toMatchObject({ password: SECRET });
    advance(1_000);
    sources.invalidate(spec(kv()));
    expect(await resolve(spec(kv()))).toMatchObject({ password: ROTATED });
    expect(reads()).toBe(2);
  });

  test("user name and password of one secret are one request", async () => {
    vault.writeKv("secret/orders", { username: "ada", password: ROTATED });
    expect(await open().resolve({ username: kv("orders", "username"), password: kv() })).toEqual({
      user: "ada",
      password: ROTATED,
    });
    expect(reads()).toBe(1);
  });

  test("several parts of a mount, characters that mean something in URLs, a namespace, a server with a name", async () => {
    vault.policies.set("agent", [{ path: "team/kv/data/*", capabilities: ["read"] }]);
    vault.writeKv("team/kv/a?b#c%2e/ü", { password: SECRET });
    vault.namespace = "shop";
    const ref: SecretRef = { kind: "vaultKv", vault: "eu", mount: "team/kv", path: "a?b#c%2e/ü", field: "password" };
    expect(await open({ vault: { name: "eu", namespace: "shop" } }).resolve(spec(ref))).toMatchObject({ password: SECRET });
    expect(await open({ vault: { name: "eu" } }).failure(spec(ref))).toContain("Vault server eu refuses its login");
  });

  test.each([
    ["no such field", kv("orders", "pass"), "Vault secret secret/orders (field pass) is missing or empty"],
    ["no own field of an object", kv("orders", "constructor"), "is missing or empty"],
    ["no such secret", kv("absent"), "has nothing at the secret secret/absent"],
    ["a number", kv("odd", "number"), "holds is not text"],
    ["an empty one", kv("odd", "empty"), "is missing or empty"],
    ["one with a NUL", kv("odd", "nul"), "cannot be a secret"],
    [
      "a deleted version",
      kv("deleted"),
      "The newest version of the secret secret/deleted in the agent's Vault server is deleted",
    ],
    ["a path upwards", kv("../auth/token/lookup-self"), "goes up or has empty parts"],
    ["a server that is not configured", kv("orders", "password", "us"), "no server for its Vault secret us:secret/orders"],
  ])("%s", async (_name, ref, text) => {
    vault.writeKv("secret/odd", { number: 12_345, empty: "", nul: "a\0b" });
    vault.writeKv("secret/deleted", { password: SECRET });
    vault.deleteNewestKv("secret/deleted");
    expect(await open().failure(spec(ref))).toContain(text);
  });

  test("without a binding to the target nothing is asked", async () => {
    const bound = createTestSources({ secrets: [{ source: { kind: "vault", path: "secret/other/*" }, targets: ["*"] }] }, told);
    expect(await bound.failure(spec(kv()))).toContain(
      "is not bound to this resource's target. In the agent's configuration add to agent.secrets: { vault: \"secret/orders\"",
    );
    expect(vault.requests).toEqual([]);
  });
});

describe("what is bound", () => {
  test.each([
    ["secret/orders", kv(), true],
    ["default:secret/orders", kv(), true],
    ["secret/*", kv("a/b"), true],
    ["secret/orders", kv("orders2"), false],
    ["secret/orders", kv("orders", "password", "eu"), false],
    ["eu:secret/orders", kv("orders", "password", "eu"), true],
    ["eu:secret/orders", kv(), false],
    ["secret", kv(), false],
    ["Secret/orders", kv(), false],
  ])("%s", async (path, ref, isBound) => {
    const { failure } = createTestSources({ secrets: [{ source: { kind: "vault", path }, targets: ["db.example:5432"] }] }, told);
    expect(await failure(spec(ref))).toContain(isBound ? "has no server for its" : "is not bound to this resource's target");
  });
});

describe("what Vault answers instead", () => {
  test.each([
    [400, "refuses the request"],
    [403, "does not let it read the secret secret/orders"],
    [429, "limits how often it may ask"],
    [307, "is a standby that does not forward requests"],
    [472, "is a standby that does not forward requests"],
    [473, "is a standby that does not forward requests"],
    [500, "answered with status 500"],
    [503, "is sealed or under maintenance"],
    [200, "has nothing at the secret secret/orders"],
  ])("%i", async (status, text) => {
    const token = vault.createToken(role);
    const made = open({ vault: { auth: { kind: "tokenEnv", name: "T" } }, environment: { T: token } });
    await made.resolve(spec(kv("orders", "password")));
    made.advance(10_000);
    vault.override = { status, text: JSON.stringify({ errors: [`it was ${SECRET} and ${token}`] }) };
    hidden.push(token);
    expect(await made.failure(spec(kv()))).toContain(text);
  });

  test("whatever it answers, no word of it is told", async () => {
    const token = vault.createToken(role);
    const made = open({ vault: { auth: { kind: "tokenEnv", name: "T" } }, environment: { T: token } });
    await made.resolve(spec(kv()));
    const places = fc.constantFrom<(secret: string) => unknown>(
      (secret) => secret,
      (secret) => `{"data": {"data": {"password": "${secret}`,
      (secret) => ({ errors: [secret] }),
      (secret) => ({ data: secret }),
      (secret) => ({ data: { data: [secret] } }),
      (secret) => ({ data: { data: { [secret]: secret } } }),
      (secret) => ({ data: { data: { password: { secret } } } }),
      (secret) => ({ data: { data: { password: [secret] }, metadata: { version: secret } } }),
      (secret) => ({ data: { data: { password: `${secret}\0` } } }),
      (secret) => ({ lease_id: secret, lease_duration: secret, data: { username: [secret], password: secret } }),
      (secret) => [secret],
    );
    const statuses = fc.constantFrom(200, 204, 301, 400, 403, 404, 418, 500, 502);
    await fc.assert(
      fc.asyncProperty(places, statuses, fc.boolean(), async (place, status, isLease) => {
        const body = place(SECRET);
        vault.override = { status, text: typeof body === "string" ? body : JSON.stringify(body) };
        made.advance(60_000);
        await made.failure(isLease ? leased() : spec(kv()));
      }),
      { numRuns: 120 },
    );
  });

  test("nothing in time", async () => {
    vault.override = "hang";
    const made = open({ limits: { secretRequestTimeoutMs: 200 } });
    expect(await made.failure(spec(kv()))).toContain("did not answer within 200 ms");
  });

  test("more than it may", async () => {
    vault.override = { status: 200, text: JSON.stringify({ data: "x".repeat(5_000) }) };
    expect(await open({ limits: { secretAnswerBytesMax: 4_096 } }).failure(spec(kv()))).toContain(
      "cannot reach its Vault server",
    );
  });

  test("nobody there", async () => {
    const made = open();
    await vault.close();
    expect(await made.failure(spec(kv()))).toContain(`Check that ${address} is its address`);
    await vault.listen(Number(new URL(address).port));
    expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
  });

  test("a certificate of somebody else", async () => {
    expect(await open({ vault: { caFile: join(directory, "other-ca.pem") } }).failure(spec(kv()))).toContain(
      "cannot reach its Vault server",
    );
    expect(await open({ vault: { caFile: join(directory, "absent.pem") } }).failure(spec(kv()))).toContain(
      "absent.pem, the CA of its",
    );
    expect(vault.requests).toEqual([]);
  });

  test("that it is sealed, and later that it is not", async () => {
    const made = open();
    vault.isSealed = true;
    expect(await made.failure(spec(kv()))).toContain("is sealed or under maintenance");
    vault.isSealed = false;
    expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
  });

  test("that the policy does not allow it: no login more for that", async () => {
    vault.policies.set("agent", []);
    const made = open();
    expect(await made.failure(spec(kv()))).toContain("does not let it read the secret secret/orders");
    made.advance(10_000);
    expect(await made.failure(spec(kv()))).toContain("does not let it read the secret secret/orders");
    expect(logins()).toBe(1);
  });
});

describe("the agent's token", () => {
  test("of a file is read again at each request", async () => {
    const path = join(directory, "token");
    const made = open({ vault: { auth: { kind: "tokenFile", path } } });
    expect(await made.failure(spec(kv()))).toContain(`cannot read ${path}`);
    const first = vault.createToken(role);
    await writeFile(path, `${first}\n`);
    expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
    await vault.revokeTokens();
    made.advance(10_000);
    expect(await made.failure(spec(kv()))).toContain("Check that its token is valid");
    const second = vault.createToken(role);
    hidden.push(first, second);
    await writeFile(path, second);
    expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
  });

  test("of a variable that is not set", async () => {
    expect(await open({ vault: { auth: { kind: "tokenEnv", name: "T" } } }).failure(spec(kv()))).toContain(
      "The variable T with the token",
    );
  });

  test("of a variable is renewed, and left alone at the end", async () => {
    const token = vault.createToken({ ...role, ttlSeconds: 2 });
    hidden.push(token);
    const made = open({ vault: { auth: { kind: "tokenEnv", name: "T" } }, environment: { T: token } });
    await made.resolve(spec(kv()));
    await vi.waitFor(() => expect(count(/renew-self/)).toBeGreaterThan(2), { timeout: 8_000 });
    made.advance(10_000);
    expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
    await made.sources.close();
    expect(vault.tokensAlive).toBe(1);
  });

  test("of AppRole is got once, renewed, replaced towards its longest life, and given back", async () => {
    approle = vault.addAppRole("agent-role", { ...role, ttlSeconds: 2, maxTtlSeconds: 4 });
    await giveSecretId();
    const made = open({ limits: { secretCacheMs: 1 } });
    const giveUp = Date.now() + 15_000;
    let until = giveUp;
    while (Date.now() < until) {
      // Once it was replaced, go on until the former one has ended for sure.
      if (until === giveUp && logins() > 1) until = Date.now() + 2_000;
      expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(count(/renew-self/)).toBeGreaterThan(1);
    expect(logins()).toBeGreaterThan(1);
    expect(logins()).toBeLessThan(6);
    await made.sources.close();
    expect(count(/revoke-self/)).toBe(1);
  });

  test("that was revoked is replaced by a login", async () => {
    const made = open();
    await made.resolve(spec(kv()));
    await vault.revokeTokens();
    made.advance(10_000);
    expect(await made.resolve(spec(kv()))).toMatchObject({ password: SECRET });
    expect(logins()).toBe(2);
  });

  test.each(["agent-role", "nobody"])("AppRole %s refused", async (roleId) => {
    await writeFile(join(directory, "secret-id"), "0000");
    const auth = { kind: "appRole", mount: "approle", roleId, secretIdFile: join(directory, "secret-id") } as const;
    expect(await open({ vault: { auth } }).failure(spec(kv()))).toContain(
      "refuses its login at approle. Check roleId and the secret id",
    );
  });

  test("of Kubernetes", async () => {
    const jwt = "eyJhbGciOi.service-account.9a8b";
    hidden.push(jwt);
    const tokenFile = join(directory, "jwt");
    await writeFile(tokenFile, jwt);
    vault.addKubernetesRole("agent", { ...role, jwt });
    const auth = { kind: "kubernetes", mount: "clusters/eu", role: "agent", tokenFile } as const;
    expect(await open({ vault: { auth } }).resolve(spec(kv()))).toMatchObject({ password: SECRET });
    expect(count(/^POST \/v1\/auth\/clusters\/eu\/login$/)).toBe(1);
    await writeFile(tokenFile, "another");
    expect(await open({ vault: { auth } }).failure(spec(kv()))).toContain("bound to the agent's service account");
  });
});

describe("the database engine", () => {
  const setRole = (ttlSeconds: number, maxTtlSeconds: number, isRenewable = true): void => {
    const { creationStatements = [] } = vault.leases.roles.get("database/reader") ?? {};
    vault.leases.roles.set("database/reader", { ttlSeconds, maxTtlSeconds, isRenewable, creationStatements });
  };

  test("one account for all, which works, and is gone when the agent is", async () => {
    const { resolve, sources } = open();
    const all = await Promise.all(Array.from({ length: 30 }, () => resolve(leased())));
    const [first] = all;
    expect(new Set(all.map(({ user, password }) => `${user} ${password ?? ""}`)).size).toBe(1);
    expect(leases()).toBe(1);
    expect(await logIn(first!)).toBe(first?.user);
    hidden.push(first?.password ?? "");
    await sources.close();
    expect(vault.leases.usernames).toEqual([]);
    await expect(logIn(first!)).rejects.toThrow("password authentication failed");
  });

  test("is renewed for as long as it may live, then replaced before it ends", async () => {
    setRole(2, 5);
    const { resolve } = open();
    const users = new Set<string>();
    const giveUp = Date.now() + 15_000;
    let until = giveUp;
    while (Date.now() < until) {
      // Once it was replaced, go on until the former one has ended for sure.
      if (until === giveUp && users.size > 1) until = Date.now() + 2_000;
      const credential = await resolve(leased());
      hidden.push(credential.password ?? "");
      users.add(credential.user);
      expect(await logIn(credential)).toBe(credential.user);
      await new Promise((done) => setTimeout(done, 50));
    }
    expect(count(/leases\/renew/)).toBeGreaterThan(1);
    expect(users.size).toBeGreaterThan(1);
    expect(users.size).toBeLessThan(6);
  });

  test("is replaced before the token ends that it was leased with", async () => {
    approle = vault.addAppRole("agent-role", { ...role, ttlSeconds: 2, maxTtlSeconds: 4 });
    await giveSecretId();
    const { resolve } = open();
    const users = new Set<string>();
    const giveUp = Date.now() + 15_000;
    let until = giveUp;
    while (Date.now() < until) {
      if (until === giveUp && users.size > 1) until = Date.now() + 2_500;
      const credential = await resolve(leased());
      users.add(credential.user);
      expect(await logIn(credential)).toBe(credential.user);
      await new Promise((done) => setTimeout(done, 50));
    }
    expect(users.size).toBeGreaterThan(1);
    expect(logins()).toBeGreaterThan(1);
  });

  test("that cannot be renewed is replaced half way", async () => {
    setRole(2, 60, false);
    const { resolve } = open();
    const first = await resolve(leased());
    await vi.waitFor(async () => expect((await resolve(leased())).user).not.toBe(first.user), { timeout: 1_900 });
    expect(await logIn(first)).toBe(first.user);
    expect(count(/leases\/renew/)).toBe(0);
  });

  test("that nobody uses is not made again", async () => {
    setRole(1, 60, false);
    const { resolve } = open();
    await resolve(leased());
    await vi.waitFor(() => expect(leases()).toBe(2), { timeout: 3_000 });
    await vi.waitFor(() => expect(vault.leases.usernames).toEqual([]), { timeout: 5_000 });
    expect(leases()).toBe(2);
    expect(await logIn(await resolve(leased()))).toContain("v-reader-");
  });

  test("that Vault has withdrawn is replaced at the next upkeep", async () => {
    setRole(2, 60);
    const { resolve } = open();
    const first = await resolve(leased());
    await vault.leases.revokeAll();
    await vi.waitFor(async () => expect((await resolve(leased())).user).not.toBe(first.user), { timeout: 3_000 });
  });

  test("that the target refused is replaced, but not in a storm", async () => {
    const { resolve, sources, advance } = open();
    const first = await resolve(leased());
    sources.invalidate(leased());
    expect(await resolve(leased())).toEqual(first);
    advance(30_000);
    sources.invalidate(leased());
    const second = await resolve(leased());
    expect(second.user).not.toBe(first.user);
    expect(await logIn(first)).toBe(first.user); // sessions run on it
    await sources.close();
    expect(vault.leases.usernames).toEqual([]);
  });

  test("outlives neither its token nor an outage that is longer than its life", async () => {
    const made = open();
    const first = await made.resolve(leased());
    vault.isSealed = true;
    made.advance(599_000);
    expect(await made.resolve(leased())).toEqual(first);
    made.advance(2_000);
    expect(await made.failure(leased())).toContain("is sealed or under maintenance");
    vault.isSealed = false;
    expect((await made.resolve(leased())).user).not.toBe(first.user);
  });

  test.each([
    ["no such role", leased("nobody"), "refuses the request for the database account database/nobody"],
    ["a role of two parts", leased("a/b"), "has nothing at the database account database/a/b"],
    [
      "half of it",
      spec({ kind: "vaultDatabase", vault: "default", mount: "database", role: "reader", field: "password" }),
      "takes half of a database account",
    ],
    [
      "halves of two",
      { username: leased().username, password: leased("other").password! },
      "mixes parts of different database accounts",
    ],
  ])("%s", async (_name, credential, text) => {
    expect(await open().failure(credential)).toContain(text);
  });

  test("after the end nothing is leased", async () => {
    const made = open();
    await made.sources.close();
    expect(await made.failure(leased())).toContain("shutting down");
    expect(vault.requests).toEqual([]);
    expect(target.port).toBe(5_432);
  });
});
