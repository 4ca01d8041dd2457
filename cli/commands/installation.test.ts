/** Commands about the installation itself: nodes, join tokens, authorities, principals, history, kills, the nearest gateway. */
import { type AddressInfo, createServer, type Server } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type FakeAdmin, failure, startFakeAdmin } from "../testing-admin.ts";

let fake: FakeAdmin;

beforeAll(async () => {
  fake = await startFakeAdmin();
});
afterAll(() => fake.close());
beforeEach(() => fake.reset());

const gateway = {
  role: "gateway",
  name: "g1",
  region: "eu",
  labels: { tier: "a" },
  addresses: { control: "10.0.0.1:7443", callers: { postgres: "10.0.0.1:5432" } },
  state: "connected",
  softwareVersion: "0.1.0",
  capability: 2,
  sessions: 3,
  links: [{ name: "a1", sessions: 3, roundTripUs: 400 }],
  snapshot: { sequence: "1000007", version: "0011223344556677" },
  enrolledAt: "2026-01-01T00:00:00Z",
  lastSeenAt: "2026-01-02T00:00:00.5Z",
};

describe("nodes", () => {
  it("are listed as a table, and as JSON with the same fields in each", async () => {
    const away = { role: "agent", name: "a1", state: "away", enrolledAt: "2026-01-01T00:00:00Z" };
    fake.answers = { "NodeService/List": { body: { nodes: [gateway, away] } } };
    const table = (await fake.run(["nodes", "list"])).written.out;
    expect(table).toContain("g1");
    expect(table).toContain("a1 3 (0.4 ms)");
    expect(table).toContain("1000007 0011223344556677");
    const [first, second] = JSON.parse((await fake.run(["nodes", "list", "--json"])).written.out) as Record<string, unknown>[]; // a list
    expect(first).toMatchObject({ snapshot: { sequence: 1_000_007 }, rejected: null, lastSeenAt: "2026-01-02T00:00:00.500Z" });
    expect(first).toMatchObject({ addresses: { control: "10.0.0.1:7443", sessions: null }, certificateExpiresAt: null });
    expect(second).toMatchObject({ sessions: 0, labels: {}, links: [], snapshot: null, lastSeenAt: null });
    expect(Object.keys(second ?? {})).toEqual(Object.keys(first ?? {}));
  });

  it("are revoked by role and name", async () => {
    fake.answers = { "NodeService/Revoke": { body: {} } };
    const { written } = await fake.run(["nodes", "revoke", "agent", "a1", "--reason", "stolen"]);
    expect(written.out).toBe("agent a1 is revoked\n");
    expect(fake.calls[0]?.body).toEqual({ role: "agent", name: "a1", reason: "stolen" });
    expect((await fake.run(["nodes", "revoke", "control-plane", "c1"])).status).toBe(2);
    fake.answers = {
      "NodeService/Revoke": failure(404, "not_found", { code: "not_found", message: "There is no agent a2." }),
    };
    const unknown = await fake.run(["nodes", "revoke", "agent", "a2"]);
    expect([unknown.status, unknown.written.err]).toEqual([1, "sluice: There is no agent a2.\n"]);
  });
});

describe("join tokens", () => {
  const token = "sluice-join.v1.eyJ";

  it("are printed alone, so that they can go straight into a secret store", async () => {
    fake.answers = { "NodeService/CreateJoinToken": { body: { id: "t1", token, expiresAt: "2026-01-01T01:00:00Z" } } };
    const args = [
      "--role",
      "agent",
      "--name",
      "a1",
      "--label",
      "site=eu",
      "--label",
      "t=a=b",
      "--host",
      "10.0.0.1",
      "--ttl",
      "15m",
    ];
    const { status, written } = await fake.run(["nodes", "join-token", "create", ...args]);
    expect([status, written.out]).toEqual([0, `${token}\n`]);
    expect(written.err).toContain("t1");
    expect(written.err).not.toContain(token);
    expect(fake.calls[0]?.body).toEqual({
      role: "agent",
      name: "a1",
      labels: { site: "eu", t: "a=b" },
      hosts: ["10.0.0.1"],
      ttlSeconds: 900,
    });
    const json = await fake.run(["nodes", "join-token", "create", "--role", "gateway", "--json"]);
    expect(JSON.parse(json.written.out)).toEqual({ id: "t1", token, expiresAt: "2026-01-01T01:00:00.000Z" });
    expect(json.written.err).toBe("");
  });

  it.each([
    [["create"]],
    [["create", "--role", "control-plane"]],
    [["create", "--role", "agent", "--label", "novalue"]],
    [["create", "--role", "agent", "--ttl", "soon"]],
    [["revoke"]],
  ])("%j is wrong usage", async (args) => {
    expect((await fake.run(["nodes", "join-token", ...args])).status).toBe(2);
    expect(fake.calls).toEqual([]);
  });

  it("are listed and revoked", async () => {
    const used = { id: "t1", role: "agent", state: "used", usedBy: "a1", author: "ada", createdAt: "2026-01-01T00:00:00Z" };
    fake.answers = { "NodeService/ListJoinTokens": { body: { tokens: [used] } }, "NodeService/RevokeJoinToken": { body: {} } };
    expect((await fake.run(["nodes", "join-token", "list"])).written.out).toMatch(/t1 +\| agent +\| any +\| used +\| a1 +\| ada/);
    const [listed] = JSON.parse((await fake.run(["nodes", "join-token", "list", "--json"])).written.out) as unknown[]; // a list
    expect(listed).toMatchObject({ ...used, name: null, hosts: [], createdAt: "2026-01-01T00:00:00.000Z", expiresAt: null });
    expect((await fake.run(["nodes", "join-token", "revoke", "t1"])).written.out).toBe("join token t1 is revoked\n");
    expect(fake.calls.at(-1)?.body).toEqual({ id: "t1" });
  });

  it("an installation without nodes says so", async () => {
    fake.answers = {
      "NodeService/CreateJoinToken": failure(501, "unimplemented", {
        code: "unsupported",
        message: "No other process may join this installation.",
        hint: "Set controlPlane.nodes.listen.",
      }),
    };
    const { status, written } = await fake.run(["nodes", "join-token", "create", "--role", "agent"]);
    expect([status, written.out]).toEqual([1, ""]);
    expect(written.err).toBe("sluice: No other process may join this installation.\nhint: Set controlPlane.nodes.listen.\n");
  });
});

describe("authorities", () => {
  it("are listed and rotated", async () => {
    const authority = { fingerprint: "ab".repeat(32), state: "announced", expiresAt: "2036-01-01T00:00:00Z" };
    fake.answers = {
      "AuthorityService/List": { body: { authorities: [authority] } },
      "AuthorityService/Rotate": { body: { authority } },
    };
    expect((await fake.run(["ca", "list"])).written.out).toContain("abababababababab | announced");
    const { written } = await fake.run(["ca", "rotate", "--after", "10m"]);
    expect(written.out).toBe(`${authority.fingerprint}\n`);
    expect(fake.calls.at(-1)?.body).toEqual({ signAfterSeconds: 600 });
    expect((await fake.run(["ca", "rotate", "--after", "never"])).status).toBe(2);
  });
});

describe("principals", () => {
  it("are disabled, enabled and listed", async () => {
    const disabled = { subject: "mallory", reason: "left", author: "admin", since: "2026-01-01T00:00:00Z" };
    fake.answers = {
      "PrincipalService/Disable": { body: {} },
      "PrincipalService/Enable": { body: {} },
      "PrincipalService/List": { body: { principals: [disabled] } },
    };
    const first = await fake.run([
      "principals",
      "disable",
      "--subject",
      "mallory",
      "--issuer",
      "https://idp",
      "--reason",
      "left",
    ]);
    expect(first.written.out).toBe("mallory is disabled\n");
    expect(fake.calls[0]?.body).toEqual({ subject: "mallory", issuer: "https://idp", reason: "left" });
    expect((await fake.run(["principals", "enable", "--owner", "team-x"])).written.out).toBe(
      "everything of owner team-x is enabled\n",
    );
    expect(fake.calls[1]?.body).toEqual({ owner: "team-x" });
    expect(JSON.parse((await fake.run(["principals", "list", "--json"])).written.out)).toEqual([
      { ...disabled, issuer: null, owner: null, since: "2026-01-01T00:00:00.000Z" },
    ]);
    for (const args of [[], ["--subject", "a", "--owner", "b"], ["--owner", "b", "--issuer", "i"]])
      expect((await fake.run(["principals", "disable", ...args])).status).toBe(2);
  });
});

describe("history", () => {
  const revision = { revision: 7, kind: "Policy", name: "agents", change: "updated", author: "ada", at: "2026-01-01T00:00:00Z" };

  it("is listed by kind and name, and shown as a diff", async () => {
    fake.answers = {
      "ManifestService/History": { body: { revisions: [revision] } },
      "ManifestService/Diff": { body: { revision, diff: "-a\n+\u001b[31mb\n" } },
    };
    expect((await fake.run(["manifests", "history", "Policy", "agents", "--limit", "5"])).written.out).toMatch(/7 +\| Policy/);
    expect(fake.calls[0]?.body).toEqual({ kind: "Policy", name: "agents", limit: 5 });
    const diff = (await fake.run(["manifests", "diff", "7"])).written.out;
    expect(diff).toContain("-a\n+");
    expect(diff).not.toContain("\u001b");
    expect(fake.calls[1]?.body).toEqual({ revision: 7 });
    expect((await fake.run(["manifests", "diff", "last"])).status).toBe(2);
    expect((await fake.run(["manifests", "history", "--limit", "0"])).status).toBe(2);
  });
});

describe("kills", () => {
  it("end the session that is named, or the newest", async () => {
    const id = "s_AAAAAAAAAAAAAAAAAAAAAA";
    fake.answers = { "SessionService/Kill": { body: {} }, "SessionService/List": { body: { sessions: [{ id }] } } };
    expect((await fake.run(["sessions", "kill", id, "--reason", "runs wild"])).written.out).toBe(`${id} is told to end\n`);
    expect(fake.calls[0]?.body).toEqual({ id, reason: "runs wild" });
    expect((await fake.run(["sessions", "kill", "last", "--json"])).written.out).toBe(`{"id":"${id}"}\n`);
    expect(fake.calls.at(-1)?.body).toMatchObject({ id, reason: "An administrator ended this session." });
  });
});

describe("connect", () => {
  const listeners: Server[] = [];
  const listen = async (): Promise<number> => {
    // As a gateway answers a request for TLS.
    const server = createServer((socket) => socket.once("data", () => socket.end("S")));
    listeners.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port; // of TCP
  };
  afterAll(() => {
    for (const server of listeners) server.close();
  });
  const at = (name: string, port: number, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> => ({
    ...gateway,
    name,
    addresses: { callers: { postgres: `127.0.0.1:${port}` } },
    ...more,
  });

  it("chooses a gateway that answers and takes callers, and says how to connect", async () => {
    const [good, draining] = [await listen(), await listen()];
    const nodes = [
      at("gone", 1),
      at("draining", draining, { state: "draining" }),
      at("good", good),
      at("away", 2, { state: "away" }),
    ];
    fake.answers = { "NodeService/List": { body: { nodes } } };
    const { status, written } = await fake.run(["connect", "orders", "--json"]);
    expect([status, written.err]).toEqual([0, ""]);
    const choice = JSON.parse(written.out) as Record<string, unknown>; // an object
    expect(choice).toMatchObject({ gateway: "good", address: `127.0.0.1:${good}` });
    expect(choice["conninfo"]).toBe(
      `host=127.0.0.1 port=${good} dbname=orders user=tester sslmode=verify-full sslrootcert=${fake.caFile}`,
    );
    const measured = choice["measured"] as { name: string; roundTripMs: number | null }[]; // as the command prints them
    expect(measured.map(({ name }) => name)).toEqual(["good", "gone", "draining"]);
    expect(measured.map(({ roundTripMs }) => roundTripMs !== null)).toEqual([true, false, true]);
    expect((await fake.run(["connect", "orders"])).written.out).toMatch(/^psql "host=127\.0\.0\.1 port=\d+ dbname=orders/);
  });

  it("says that none answers, or that there is none", async () => {
    fake.answers = { "NodeService/List": { body: { nodes: [at("gone", 1)] } } };
    const gone = await fake.run(["connect", "orders"]);
    expect([gone.status, gone.written.err]).toEqual([1, expect.stringContaining("No gateway answers from here.")]);
    fake.answers = { "NodeService/List": { body: {} } };
    const none = await fake.run(["connect", "orders"]);
    expect([none.status, none.written.err]).toEqual([1, expect.stringContaining("no gateway that is heard of")]);
  });
});

describe("an installation of another version", () => {
  it("that does not know a call is told from one that refuses it", async () => {
    const { status, written } = await fake.run(["ca", "list"]);
    expect([status, written.err]).toEqual([1, expect.stringContaining("does not know this call")]);
  });

  it("may say more than this version knows", async () => {
    fake.answers = { "NodeService/List": { body: { nodes: [{ ...gateway, moonPhase: "full" }], more: 1 } } };
    expect((await fake.run(["nodes", "list"])).status).toBe(0);
  });
});
