/** The published commands with the published examples: what tools outside the project rely on. Shapes may grow, never shrink. */
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { contractConfig, contractManifests, type Orders, startOrders } from "./support/orders.ts";
import { planted } from "./support/orders-schema.ts";
import { startSluice } from "./support/sluice.ts";
import { APP_PASSWORD } from "./support/targets.ts";

const AGENT = JSON.stringify({ sub: "ada", groups: ["agents"] });

describe("the contract's commands", () => {
  let orders: Orders;
  beforeAll(async () => {
    orders = await startOrders();
  });
  afterAll(async () => {
    await orders?.stop();
  });

  const explain = async (sql: string): Promise<Record<string, unknown>> => {
    const result = await orders.sluice.cli("policy", "explain", "--as", AGENT, "--resource", "orders", "--sql", sql);
    expect(result.stderr).toBe("");
    expect(result.status).toBe(0);
    expect(result.stdout.trim().split("\n")).toHaveLength(1);
    return JSON.parse(result.stdout) as Record<string, unknown>; // one JSON object a line, by the contract
  };

  it("writes a ready file of the published shape, for its owner alone", async () => {
    const { ready, readyFile } = orders.sluice;
    expect(ready).toMatchObject({
      admin: expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+$/),
      adminToken: expect.stringMatching(/^\S{16,}$/),
      caFile: expect.stringMatching(/^\//),
      listeners: [{ protocol: "postgres", address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) }],
      issuer: expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+/),
      pid: expect.any(Number),
    });
    expect((await stat(readyFile)).mode & 0o777).toBe(0o600);
  });

  it("prints a token and nothing else", async () => {
    const result = await orders.sluice.cli(
      "token",
      "--subject",
      "ada",
      "--group",
      "agents",
      "--group",
      "staff",
      "--ttl",
      "5m",
      "--claim",
      "team=blue",
    );
    expect(result).toMatchObject({ status: 0, stderr: "", stdout: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+\n$/) });
    const claims = JSON.parse(Buffer.from(result.stdout.split(".")[1]!, "base64url").toString()) as Record<string, unknown>; // a JWT's middle part
    expect(claims).toMatchObject({ sub: "ada", groups: ["agents", "staff"], team: "blue", iss: orders.sluice.ready.issuer });
    expect(Number(claims["exp"]) - Number(claims["iat"])).toBe(300);
  });

  it("explains a masked read", async () => {
    expect(await explain("SELECT ssn AS x, id FROM customers WHERE id = 1")).toMatchObject({
      id: expect.stringMatching(/./),
      effect: "mask",
      rule: "agents/mask-pii",
      rules: expect.arrayContaining(["agents/read", "agents/mask-pii", "agents/row-cap"]),
      reason: expect.stringMatching(/./),
      policyVersion: expect.stringMatching(/./),
      statement: {
        class: "read",
        effects: ["select"],
        relations: [{ name: "public.customers", access: "read" }],
        influences: [],
        bulkExport: false,
        hasWhere: true,
        limit: null,
        undecided: [],
      },
      columns: [
        { name: "x", origins: ["public.customers.ssn"], exact: true, mask: { entity: "US_SSN", operator: "partial" } },
        { name: "id", origins: ["public.customers.id"], exact: true },
      ],
    });
  });

  it.each([
    ["SELECT * FROM customers", "deny", "agents/no-bulk-export"],
    ["TABLE customers", "deny", "agents/no-bulk-export"],
    ["SELECT count(*) FROM customers", "limit", "agents/row-cap"],
    ["UPDATE customers SET name = 'x' WHERE id = 1", "approve", "agents/writes-need-a-dba"],
    ["DROP TABLE orders", "deny", /./],
    ["SELECT id FROM customers WHERE ssn LIKE '5%'", "deny", "builtin/protected-influence"],
    ["SELECT ssn FROM customers WHERE ssn = '521-44-9382'", "mask", "agents/mask-pii"],
    ["DO $$ BEGIN END $$", "deny", /./],
    ["SELEC 1", "deny", /^builtin\//],
  ])("decides %s: %s", async (sql, effect, rule) => {
    expect(await explain(sql)).toMatchObject({ effect, rule: typeof rule === "string" ? rule : expect.stringMatching(rule) });
  });

  it("explains a batch: order and ids kept, sessions in order, a fault in one line is that line's", async () => {
    const lines = [
      { id: "b", as: { sub: "ada", groups: ["agents"] }, resource: "orders", sql: "SELECT 1" },
      { id: 7, as: { sub: "dora", groups: ["dba"] }, resource: "orders", sql: "DELETE FROM orders" },
      {
        id: "s",
        as: { sub: "ada", groups: ["agents"] },
        resource: "orders",
        sql: ["PREPARE p AS SELECT ssn FROM customers WHERE id = 1", "EXECUTE p"],
      },
      { id: "n", as: { sub: "eve", groups: [] }, resource: "orders", sql: "SELECT 1" },
      { id: "u", as: { sub: "ada", groups: ["agents"] }, resource: "nowhere", sql: "SELECT 1" },
    ];
    const file = join(orders.sluice.directory, "batch.jsonl");
    await writeFile(file, lines.map((line) => JSON.stringify(line)).join("\n"));
    const result = await orders.sluice.cli("policy", "explain", "--batch", file);
    const answers = result.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>); // JSON lines, by the contract
    expect(answers.map(({ id }) => id)).toEqual(["b", 7, "s", "n", "u"]);
    expect(answers.slice(0, 3).map(({ effect }) => effect)).toEqual(["limit", "allow", "mask"]);
    // Nobody lets eve reach the resource: that is a decision. A name that nothing has is none.
    expect(answers[3]).toMatchObject({ effect: "deny", rule: "builtin/default-deny", statement: { class: "read" } });
    expect(answers[3]).not.toHaveProperty("error");
    expect(answers[4]).toMatchObject({ error: expect.anything() });
    expect(result).toMatchObject({ status: 0, stderr: expect.stringContaining("could not be judged") });
  });

  it("explains five hundred mixed lines, what is wrong with one being that one's alone", { timeout: 120_000 }, async () => {
    const file = join(orders.sluice.directory, "down.yaml");
    const manifests = (await contractManifests(orders.target.port)).split("---")[0]!;
    await writeFile(file, manifests.replace("name: orders,", "name: down,").replace(/127\.0\.0\.1:\d+/, "127.0.0.1:1"));
    expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
    const ada = { sub: "ada", groups: ["agents"] };
    const line = (id: number, sql: unknown, resource = "orders"): string => JSON.stringify({ id, as: ada, resource, sql });
    /** By its place in the round: the line, and what must come of it. */
    const round: readonly (readonly [line: (id: number) => string, expected: Record<string, unknown>])[] = [
      [(id) => line(id, `SELECT ssn, ${id} FROM customers WHERE id = 1`), { effect: "mask" }],
      [(id) => line(id, ["BEGIN", "PREPARE p AS DELETE FROM orders", "EXECUTE p"]), { effect: "approve" }],
      [(id) => line(id, "SELECT 1", "down"), { effect: "deny", error: { code: "catalog_unavailable" } }],
      [(id) => line(id, "SELECT 1", "nowhere"), { effect: "deny", error: { code: "resource_unknown" } }],
      [(id) => line(id, "SELEC 1"), { effect: "deny", statement: { class: "unknown" } }],
      [(id) => `{"id":${id},"as":`, { id: null, effect: "deny", error: { code: "statement_invalid" } }],
      [(id) => line(id, "SELECT 1 \0"), { effect: "deny", error: { code: "statement_invalid" } }],
      [(id) => line(id, `SELECT ${"(".repeat(10_000)}1${")".repeat(10_000)}`), { error: { code: "statement_too_long" } }],
      [(id) => line(id, ""), { effect: "deny", error: { code: "statement_invalid" } }],
      [(id) => line(id, `COPY customers TO STDOUT -- ${id}`), { effect: "deny", statement: { class: "export" } }],
    ];
    const batch = Array.from({ length: 500 }, (_, at) => round[at % round.length]![0](at));
    const batchFile = join(orders.sluice.directory, "mixed.jsonl");
    await writeFile(batchFile, batch.join("\n"));
    const startedMs = performance.now();
    const result = await orders.sluice.cli("policy", "explain", "--batch", batchFile);
    const tookMs = performance.now() - startedMs;
    const answers = result.stdout
      .trim()
      .split("\n")
      .map((answer) => JSON.parse(answer) as Record<string, unknown>); // JSON lines, by the contract
    expect(answers).toHaveLength(500);
    for (const [at, answer] of answers.entries()) {
      expect(answer).toMatchObject({ id: at, ...round[at % round.length]![1] });
    }
    expect(result).toMatchObject({ status: 0, stderr: expect.stringContaining("could not be judged") });
    process.stdout.write(`500 mixed lines, one in ten for a target that is down: ${tookMs.toFixed(0)} ms\n`);
    expect(tookMs).toBeLessThan(60_000);
  });

  it("applies manifests, all or nothing, every fault with its place", async () => {
    const file = join(orders.sluice.directory, "change.yaml");
    const good = await contractManifests(orders.target.port);
    await writeFile(file, good);
    expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0, stderr: "" });

    const bad = good
      .replace("effect: deny, when", "effect: refuse, when")
      .replace("entities: [US_SSN, EMAIL_ADDRESS, CREDIT_CARD]", "entities: [US_SSN, EMAIL_ADRESS]")
      .replace("metadata: { name: card }", "metadata: { name: card, colour: red }");
    expect(bad).not.toBe(good);
    await writeFile(file, bad);
    const refused = await orders.sluice.cli("apply", "-f", file);
    expect(refused.status).toBe(1);
    const lineOf = (part: string): number => bad.split("\n").findIndex((line) => line.includes(part)) + 1;
    for (const part of ["colour: red", "EMAIL_ADRESS", "effect: refuse"])
      expect(refused.stderr).toMatch(new RegExp(`change\\.yaml:${lineOf(part)}\\b`));
    const misspelt = good.replace("statement.class in [", "statement.clas in [");
    await writeFile(file, misspelt);
    expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/change\.yaml:46\b.*clas/),
    });
    expect(await explain("SELECT ssn FROM customers WHERE id = 1")).toMatchObject({ effect: "mask" });
  });

  it("puts an applied change into force for running sessions", async () => {
    const client = await orders.connect(orders.agent);
    const file = join(orders.sluice.directory, "stricter.yaml");
    await writeFile(
      file,
      `apiVersion: sluice/v1
kind: Policy
metadata: { name: freeze }
spec:
  principals: { groups: [ agents ] }
  resources: { names: [ orders ] }
  rules:
    - { name: no-orders, effect: deny, when: "'public.orders' in statement.relations.map(r, r.name)", reason: "orders are frozen" }
`,
    );
    await client.query("SELECT total FROM orders WHERE id = 1");
    expect(await orders.sluice.cli("apply", "-f", file)).toMatchObject({ status: 0 });
    await expect(client.query("SELECT total FROM orders WHERE id = 1")).rejects.toMatchObject({
      code: "42501",
      message: "orders are frozen",
    });
    await client.end();
  });

  it("lists, shows, replays and verifies a session", async () => {
    const client = await orders.connect(orders.agent);
    await client.query("SELECT id, ssn FROM customers WHERE id = 1");
    await expect(client.query("SELECT * FROM customers")).rejects.toMatchObject({ code: "42501" });
    await expect(client.query("SELEC 1")).rejects.toMatchObject({ code: "42601" });
    await client.end();

    const ended = async (): Promise<Record<string, unknown>> => {
      for (let tries = 0; tries < 50; tries++) {
        const listed = await orders.sluice.cli("sessions", "list", "--json");
        const newest = (JSON.parse(listed.stdout) as Record<string, unknown>[])[0]; // an array, by the contract
        if (newest?.["endedAt"] !== null && newest?.["endedAt"] !== undefined) return newest;
      }
      throw new Error("the session never ended in the list");
    };
    const session = await ended();
    expect(session).toMatchObject({
      id: expect.stringMatching(/^s_/),
      resource: "orders",
      principal: { subject: "ada", groups: ["agents"] },
      startedAt: expect.anything(),
      endedAt: expect.anything(),
      state: expect.any(String),
      statements: 3,
      denied: 2,
      masked: 1,
    });
    const id = String(session["id"]);
    const show = await orders.sluice.cli("sessions", "show", id, "--json");
    expect(JSON.parse(show.stdout)).toMatchObject({ id, statements: 3 });

    const replay = await orders.sluice.cli("sessions", "replay", id, "--json");
    const items = replay.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>); // JSON lines
    expect(items[0]).toMatchObject({ kind: "opened" });
    expect(items.at(-1)).toMatchObject({ kind: "closed" });
    expect(items.filter(({ kind }) => kind === "row").map(({ values }) => values)).toEqual([["1", "***-**-9382"]]);
    expect(replay.stdout).not.toContain(planted[0]!.ssn);
    const readable = await orders.sluice.cli("sessions", "replay", id);
    expect(readable.stdout).toContain("***-**-9382");
    expect(readable.stdout).toContain("bulk export is not allowed for agents");

    const verify = await orders.sluice.cli("sessions", "verify", id, "--json");
    expect(verify.status).toBe(0);
    expect(JSON.parse(verify.stdout)).toMatchObject({ sessionId: id, ok: true, state: "complete", faults: [] });
  });

  it.each([
    ["no such session", ["sessions", "show", "s_AAAAAAAAAAAAAAAAAAAAAA"], 1],
    ["no such command", ["dance"], 2],
    ["a missing option", ["token"], 2],
    ["a broken --as", ["policy", "explain", "--as", "{", "--resource", "orders", "--sql", "SELECT 1"], 2],
    ["a file that is not there", ["apply", "-f", "nowhere.yaml"], 1],
  ])("says on stderr what is wrong: %s", async (_, args, status) => {
    const result = await orders.sluice.cli(...args);
    expect(result.status).toBe(status);
    expect(result.stdout).toBe("");
    expect(result.stderr).toMatch(/\w+ \w+/);
    expect(result.stderr).not.toMatch(/^\s+at /m);
  });

  it("is found by nobody once it has stopped", async () => {
    const directory = orders.sluice.directory;
    const client = await orders.connect(orders.agent);
    const stopping = orders.sluice.stop();
    await client.end();
    expect(await stopping).toBe(0);
    const result = await orders.sluice.cli("sessions", "list");
    expect(result.status).toBe(1);
    expect(result.stderr).toContain("No Sluice is running here");
    const again = await startSluice({
      config: await contractConfig(),
      manifests: {},
      environment: { ORDERS_PASSWORD: APP_PASSWORD },
      directory,
    });
    const listed = await again.cli("sessions", "list", "--json");
    expect((JSON.parse(listed.stdout) as unknown[]).length).toBeGreaterThan(1); // an array, by the contract
    expect(await again.stop()).toBe(0);
  });
});

describe("an installation that cannot start", () => {
  it("names every fault with its file and line and leaves no ready file", async () => {
    const config = (await contractConfig())
      .replace("bus: embedded", "bus: carrier-pigeon")
      .replace("kind: Config", "kind: Config\ncolour: red");
    const failure = await startSluice({ config, manifests: {} }).then(
      () => "it started",
      (error: unknown) => String(error),
    );
    expect(failure).toMatch(/status 1 before it was ready/);
    expect(failure).toMatch(/config\.yaml:3\b.*colour/);
    expect(failure).toMatch(/config\.yaml:\d+.*(bus|carrier-pigeon)/);
  });
});
