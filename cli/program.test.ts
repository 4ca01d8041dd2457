/** The commands against an admin API that answers as told, over real HTTPS with a real CA. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DescMessage, fromJson, type JsonValue, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { openTestAuthorityFiles } from "@sluice/control-plane/ca/testing.ts";
import { ManifestFaultsSchema } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import { FaultSchema } from "@sluice/proto/sluice/common/v1/common_pb.ts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { runCli } from "./program.ts";
import { type ReadyFile, writeReadyFile } from "./ready-file.ts";
import { createTestContext, type TestContext, type TestContextOptions } from "./testing-context.ts";

type Answer = { readonly status?: number; readonly body: unknown; readonly raw?: Buffer };

let directory = "";
let server: Server;
let address = "";
let caFile = "";
let answers: Record<string, Answer | ((body: unknown) => Answer)> = {};
let probed: { readonly status: number; readonly date?: string } = { status: 200 };
let calls: { method: string; body: unknown; token: string | undefined }[] = [];

const session = {
  id: "s_AAAAAAAAAAAAAAAAAAAAAA",
  resource: "orders",
  principal: { subject: "ada", groups: ["agents"], issuer: "https://idp" },
  startedAt: "2026-01-01T00:00:00.000Z",
  endedAt: null,
  state: "active",
  statements: 3,
  denied: 1,
  masked: 2,
  closeCode: null,
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-cli-"));
  const authority = await openTestAuthorityFiles(join(directory, "ca"));
  const files = await authority.issueServerCertificate({ name: "admin", hosts: ["127.0.0.1"] });
  caFile = authority.caFile;
  server = createServer({ cert: await readFile(files.certFile), key: await readFile(files.keyFile) }, (request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      if (request.method === "GET") {
        response.writeHead(probed.status, { date: probed.date ?? new Date().toUTCString() }).end("{}");
        return;
      }
      const method = (request.url ?? "").replace("/sluice.admin.v1.", "");
      const isStream = request.headers["content-type"] === "application/connect+json";
      const received = Buffer.concat(parts);
      const body: unknown = JSON.parse(received.subarray(isStream ? 5 : 0).toString("utf8"));
      calls.push({ method, body, token: request.headers.authorization });
      const told = answers[method];
      const answer =
        typeof told === "function"
          ? told(body)
          : (told ?? { status: 404, body: { code: "unimplemented", message: "no such method" } });
      response.writeHead(answer.status ?? 200, { "content-type": isStream ? "application/connect+json" : "application/json" });
      response.end(answer.raw ?? JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await writeReadyFile(join(directory, ".sluice", "ready.json"), readyFile());
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(() => {
  answers = {};
  calls = [];
  probed = { status: 200 };
});

function readyFile(changes: Partial<ReadyFile> = {}): ReadyFile {
  return {
    admin: address,
    adminToken: "admin-token",
    caFile,
    listeners: [{ protocol: "postgres", address: "127.0.0.1:6543" }],
    pid: process.pid,
    ...changes,
  };
}

/** A failure as the API sends it: Connect's code, ours in the details. */
function failure(status: number, code: string, fault: Readonly<Record<string, string>>, faults?: readonly unknown[]): Answer {
  const details = [
    { type: "sluice.common.v1.Fault", value: toBase64(FaultSchema, fromJson(FaultSchema, fault)) },
    ...(faults === undefined
      ? []
      : [
          {
            type: "sluice.admin.v1.ManifestFaults",
            value: toBase64(ManifestFaultsSchema, fromJson(ManifestFaultsSchema, { faults: faults as JsonValue })),
          },
        ]),
  ];
  return { status, body: { code, message: fault["message"], details } };
}

function toBase64<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): string {
  return Buffer.from(toBinary(desc, message)).toString("base64");
}

/** Messages of a stream, the last one its end. */
function frames(...messages: readonly unknown[]): Buffer {
  return Buffer.concat(
    messages.map((message, at) => {
      const text = Buffer.from(JSON.stringify(message));
      const head = Buffer.alloc(5);
      head[0] = at === messages.length - 1 ? 2 : 0;
      head.writeUInt32BE(text.length, 1);
      return Buffer.concat([head, text]);
    }),
  );
}

async function run(
  args: readonly string[],
  options: Partial<TestContextOptions> = {},
): Promise<TestContext & { status: number }> {
  const context = createTestContext({ workingDirectory: directory, ...options });
  return { ...context, status: await runCli(args, context) };
}

describe("finding the installation", () => {
  it("says how to start one when there is no ready file", async () => {
    const { status, written } = await run(["sessions", "list", "--ready-file", "nowhere.json"]);
    expect(status).toBe(1);
    expect(written.err).toContain("nowhere.json does not exist");
    expect(written.err).toContain("npm start");
    expect(written.err).toContain("sluice up");
  });

  it("notices a ready file whose process has ended", async () => {
    await writeReadyFile(join(directory, "stale.json"), readyFile({ pid: 2 ** 22 + 1 }));
    const { status, written } = await run(["sessions", "list", "--ready-file", "stale.json"]);
    expect(status).toBe(1);
    expect(written.err).toContain("is stale");
  });

  it("refuses a file of another shape", async () => {
    await writeFile(join(directory, "other.json"), '{"admin": 1}');
    const { status, written } = await run(["sessions", "list", "--ready-file", "other.json"]);
    expect(status).toBe(1);
    expect(written.err).toContain("is not a ready file");
  });

  it("sends the token of the ready file", async () => {
    answers = { "SessionService/List": { body: { sessions: [] } } };
    expect((await run(["sessions", "list"])).written.out).toBe("No sessions yet.\n");
    expect(calls[0]?.token).toBe("Bearer admin-token");
  });

  it("takes --server with a CA and the token from the environment", async () => {
    answers = { "SessionService/List": { body: { sessions: [] } } };
    const environment = { SLUICE_TOKEN: "elsewhere" };
    const found = await run(["sessions", "list", "--json", "--server", address, "--ca-file", caFile], { environment });
    expect([found.status, found.written.out]).toEqual([0, "[]\n"]);
    expect(calls[0]?.token).toBe("Bearer elsewhere");
  });

  it("never sends the token to a server that the CA does not verify", async () => {
    const found = await run(["sessions", "list", "--server", address], { environment: { SLUICE_TOKEN: "elsewhere" } });
    expect(found.status).toBe(1);
    expect(found.written.err).toContain("certificate");
    expect(calls).toEqual([]);
  });

  it("takes https alone", async () => {
    const found = await run(["sessions", "list", "--server", address.replace("https", "http")], {
      environment: { SLUICE_TOKEN: "t" },
    });
    expect(found.status).toBe(2);
  });

  it("says that nothing answers", async () => {
    const environment = { SLUICE_TOKEN: "t" };
    const found = await run(["sessions", "list", "--server", "https://127.0.0.1:1", "--ca-file", caFile], { environment });
    expect(found.status).toBe(1);
    expect(found.written.err).toContain("Nothing answers at https://127.0.0.1:1.");
  });
});

describe("usage", () => {
  it.each([
    [["nonsense"]],
    [["sessions"]],
    [["sessions", "show"]],
    [["sessions", "list", "--nonsense"]],
    [["token"]],
    [["token", "--subject", ""]],
    [["token", "--subject", "a", "--ttl", "soon"]],
    [["token", "--subject", "a", "--claim", "novalue"]],
    [["token", "--subject", "a", "--claim", "k=1", "--claim", "k=2"]],
    [["apply"]],
    [["up"]],
    [["policy", "explain", "--resource", "r"]],
    [["policy", "explain", "--as", "{", "--resource", "r", "--sql", "s"]],
    [["policy", "explain", "--as", "{}", "--resource", "r", "--sql", "s"]],
    [["policy", "explain", "--batch", "x", "--sql", "s"]],
    [["sessions", "list", "--ca-file", "x"]],
  ])("%j is wrong usage: status 2, the reason on stderr", async (args) => {
    const { status, written } = await run(args);
    expect([status, written.out]).toEqual([2, ""]);
    expect(written.err).not.toBe("");
    expect(calls).toEqual([]);
  });

  it("prints help and version with status 0", async () => {
    const help = await run(["--help"]);
    expect([help.status, help.written.err]).toEqual([0, ""]);
    for (const command of ["up", "apply", "token", "policy", "sessions", "psql", "doctor"])
      expect(help.written.out).toContain(`  ${command}`);
    expect((await run(["--version"])).status).toBe(0);
  });
});

describe("token", () => {
  it("prints the token and nothing else", async () => {
    answers = { "TokenService/Mint": { body: { token: "eyJ.a.b" } } };
    const found = await run([
      "token",
      "--subject",
      "ada",
      "--group",
      "agents",
      "--group",
      "dba",
      "--claim",
      "team=a=b",
      "--ttl",
      "15m",
    ]);
    expect([found.status, found.written]).toEqual([0, { out: "eyJ.a.b\n", err: "" }]);
    expect(calls[0]?.body).toEqual({ subject: "ada", groups: ["agents", "dba"], claims: { team: "a=b" }, ttlSeconds: 900 });
  });

  it("shows a refusal with its hint", async () => {
    answers = {
      "TokenService/Mint": failure(501, "unimplemented", {
        code: "unsupported",
        message: "The development issuer is off.",
        hint: "Use yours.",
      }),
    };
    const found = await run(["token", "--subject", "ada"]);
    expect([found.status, found.written]).toEqual([
      1,
      { out: "", err: "sluice: The development issuer is off.\nhint: Use yours.\n" },
    ]);
  });
});

describe("apply", () => {
  it("sends files and directories in order and says what changed", async () => {
    await mkdir(join(directory, "manifests", "deep"), { recursive: true });
    for (const name of ["b.yaml", "a.yml", "deep/c.yaml", "notes.txt", ".hidden.yaml"])
      await writeFile(join(directory, "manifests", name), name);
    answers = {
      "ManifestService/Apply": { body: { version: "v1", applied: [{ kind: "Policy", name: "agents", change: "created" }] } },
    };
    const found = await run(["apply", "-f", "manifests", "-f", "manifests/b.yaml"]);
    expect([found.status, found.written.out]).toEqual([0, "Policy/agents created\npolicy version v1 is in force\n"]);
    expect(calls[0]?.body).toEqual({
      files: [
        { path: "manifests/a.yml", text: "a.yml" },
        { path: "manifests/b.yaml", text: "b.yaml" },
        { path: "manifests/deep/c.yaml", text: "deep/c.yaml" },
      ],
    });
  });

  it("prints every fault with its place", async () => {
    await writeFile(join(directory, "one.yaml"), "x");
    const faults = [
      { file: "one.yaml", line: 3, message: "unknown field" },
      { file: "one.yaml", line: 9, message: "no such group" },
    ];
    answers = {
      "ManifestService/Apply": failure(
        400,
        "invalid_argument",
        { code: "config_invalid", message: "The manifests have faults." },
        faults,
      ),
    };
    const found = await run(["apply", "-f", "one.yaml"]);
    expect(found.status).toBe(1);
    expect(found.written.err).toBe("one.yaml:3: unknown field\none.yaml:9: no such group\nsluice: The manifests have faults.\n");
  });

  it("says which path is missing", async () => {
    const found = await run(["apply", "-f", "missing.yaml"]);
    expect([found.status, found.written.err]).toEqual([1, "sluice: missing.yaml does not exist or may not be read.\n"]);
  });
});

describe("policy explain", () => {
  it("prints the decision as one line", async () => {
    answers = { "PolicyService/Explain": { body: { decision: { id: "d", effect: "allow", limit: null } } } };
    const found = await run(["policy", "explain", "--as", '{"sub":"ada"}', "--resource", "orders", "--sql", "SELECT 1"]);
    expect([found.status, found.written.out]).toEqual([0, '{"id":"d","effect":"allow","limit":null}\n']);
    expect(calls[0]?.body).toEqual({ as: { sub: "ada" }, resource: "orders", sql: ["SELECT 1"] });
  });

  it("answers a batch line by line in order, in several calls when it is long", async () => {
    const lines = Array.from({ length: 450 }, (_, n) =>
      JSON.stringify({ id: n, as: { sub: "a" }, resource: "r", sql: n % 2 === 0 ? "SELECT 1" : ["A", "B"] }),
    );
    answers = {
      "PolicyService/ExplainBatch": (body) => {
        const asked = (body as { lines: { id: number }[] }).lines;
        return { body: { lines: asked.map((line) => ({ id: line.id, effect: "allow" })) } };
      },
    };
    const found = await run(["policy", "explain", "--batch", "-"], { standardInput: `${lines.join("\n")}\n` });
    expect(found.status).toBe(0);
    const printed = found.written.out.trimEnd().split("\n");
    expect(printed.map((line) => (JSON.parse(line) as { id: number }).id)).toEqual(lines.map((_, n) => n));
    expect(calls.length).toBe(3);
  });

  it("names the line of a batch that is wrong and asks nothing", async () => {
    const standardInput =
      '{"id":1,"as":{"sub":"a"},"resource":"r","sql":"x"}\n\n{"id":2,"as":{"sub":"a"},"resource":"r","sql":[]}\n';
    const found = await run(["policy", "explain", "--batch", "-"], { standardInput });
    expect(found.status).toBe(2);
    expect(found.written.err).toContain("standard input:3:");
    expect(calls).toEqual([]);
  });
});

describe("sessions", () => {
  it("lists as JSON and as a table", async () => {
    answers = { "SessionService/List": { body: { sessions: [session] } } };
    expect((await run(["sessions", "list", "--json"])).written.out).toBe(`${JSON.stringify([session])}\n`);
    const table = (await run(["sessions", "list"])).written.out;
    expect(table).toContain("s_AAAAAAAAAAAAAAAAAAAAAA | ada | agents | orders   | 2026-01-01 00:00:00.000Z | -     | active");
  });

  it("takes `last` for the newest", async () => {
    answers = { "SessionService/List": { body: { sessions: [session] } }, "SessionService/Get": { body: { session } } };
    expect((await run(["sessions", "show", "last", "--json"])).written.out).toBe(`${JSON.stringify(session)}\n`);
    expect(calls.at(-1)?.body).toEqual({ id: session.id });
  });

  it("refuses what is no session id without asking for it", async () => {
    const found = await run(["sessions", "replay", "../../etc"]);
    expect(found.status).toBe(1);
    expect(calls).toEqual([]);
  });

  it("replays line by line as JSON, unknown kinds too", async () => {
    const items = [
      { kind: "complete", atMs: 1, tag: "SELECT 1" },
      { kind: "new", atMs: 2 },
    ];
    answers = { "SessionService/Replay": { body: null, raw: frames({ items }, {}) } };
    const found = await run(["sessions", "replay", session.id, "--json"]);
    expect(found.written.out).toBe(`${items.map((item) => JSON.stringify(item)).join("\n")}\n`);
    expect((await run(["sessions", "replay", session.id])).written.out).toBe("        SELECT 1\n");
  });

  it("fails when a replay breaks off", async () => {
    const items = [{ kind: "complete", atMs: 1, tag: "SELECT 1" }];
    const { body: error } = failure(200, "internal", { code: "internal", message: "The recording could not be read on." });
    const raw = frames({ items }, { error });
    answers = { "SessionService/Replay": { body: null, raw } };
    const found = await run(["sessions", "replay", session.id]);
    expect([found.status, found.written.err]).toEqual([1, "sluice: The recording could not be read on.\n"]);
  });

  it.each([
    [true, "complete", 0, "whole and untouched"],
    [false, "open", 1, "OPEN: whole so far"],
    [false, "broken", 1, "BROKEN"],
  ])("verify: ok %s, %s gives status %i", async (ok, state, status, text) => {
    const report = {
      sessionId: session.id,
      ok,
      state,
      chunks: 2,
      records: 9,
      head: "ab",
      faults: state === "broken" ? ["chunk 1 was changed"] : [],
    };
    answers = { "SessionService/Verify": { body: report } };
    const found = await run(["sessions", "verify", session.id]);
    expect(found.status).toBe(status);
    expect(found.written.out).toContain(text);
    expect(found.written.err).toBe(state === "broken" ? "fault: chunk 1 was changed\n" : "");
    const json = await run(["sessions", "verify", session.id, "--json"]);
    expect([json.status, JSON.parse(json.written.out)]).toEqual([status, report]);
  });
});

describe("psql", () => {
  it("verifies the server and keeps the token off the command line", async () => {
    answers = { "TokenService/Mint": { body: { token: "secret-token" } } };
    await writeFile(join(directory, "psql"), "#!/bin/sh\n", { mode: 0o755 });
    const found = await run(["psql", "orders", "--as", "o'brien", "--group", "agents", "-c", "SELECT 1", "--", "-At"], {
      environment: { PATH: directory },
    });
    expect(found.status).toBe(0);
    expect(found.programs).toEqual([
      {
        command: join(directory, "psql"),
        args: [
          `host=127.0.0.1 port=6543 dbname=orders user='o\\'brien' sslmode=verify-full sslrootcert=${caFile}`,
          "-c",
          "SELECT 1",
          "-At",
        ],
        additions: { PGPASSWORD: "secret-token" },
      },
    ]);
    expect(`${found.written.out}${found.written.err}`).not.toContain("secret-token");
  });

  it("verifies a gateway whose certificate is not the installation's by the file it is given", async () => {
    answers = { "TokenService/Mint": { body: { token: "t" } } };
    await writeFile(join(directory, "psql"), "#!/bin/sh\n", { mode: 0o755 });
    const found = await run(["psql", "orders", "--gateway-ca-file", "own.pem"], { environment: { PATH: directory } });
    expect(found.programs[0]?.args[0]).toContain(`sslmode=verify-full sslrootcert=${join(directory, "own.pem")}`);
    const missing = await run(["psql", "orders", "--builtin", "--gateway-ca-file", "nowhere.pem"]);
    expect([missing.status, missing.written.err]).toEqual([1, expect.stringContaining("nowhere.pem cannot be read")]);
  });

  it("ends with 1 when psql fails, whatever its own status", async () => {
    answers = { "TokenService/Mint": { body: { token: "t" } } };
    await writeFile(join(directory, "psql"), "#!/bin/sh\n", { mode: 0o755 });
    expect((await run(["psql", "orders"], { environment: { PATH: directory }, programStatus: 3 })).status).toBe(1);
  });
});

describe("doctor", () => {
  const now = Date.now();
  const at = (ms: number): string => new Date(now + ms).toISOString();
  const day = 24 * 3_600_000;
  const node = (role: string, name: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> => ({
    role,
    name,
    state: "connected",
    snapshot: { sequence: "7", version: "v" },
    links: role === "gateway" ? [{ name: "agent-1", sessions: 1, roundTripUs: 300 }] : [],
    lastSeenAt: at(0),
    certificateIssuedAt: at(-day / 3),
    certificateExpiresAt: at((day * 2) / 3),
    ...more,
  });
  const installation = (nodes: readonly unknown[]): typeof answers => ({
    "SessionService/List": { body: { sessions: [] } },
    "AuthorityService/List": { body: { authorities: [{ fingerprint: "ab", state: "signing", expiresAt: at(3_000 * day) }] } },
    "NodeService/List": { body: { nodes } },
  });
  const whole = [node("gateway", "g1"), node("agent", "a1"), node("recorder", "r1", { snapshot: undefined })];

  it("finds a healthy installation, and says what to mend otherwise", async () => {
    answers = installation([]);
    const healthy = await run(["doctor"]);
    expect([healthy.status, healthy.written.out]).toEqual([0, expect.stringContaining("ok    admin API: answers")]);
    expect(healthy.written.out).toContain("ok    nodes: none have joined");
    const ill = await run(["doctor", "--ready-file", "nowhere.json"]);
    expect([ill.status, ill.written.out]).toEqual([1, expect.stringContaining("MEND  ready file: No Sluice is running here")]);
  });

  it("looks at every process of an installation", async () => {
    answers = installation(whole);
    const { status, written } = await run(["doctor"]);
    expect([status, written.out]).toEqual([
      0,
      expect.stringContaining("ok    nodes: connected: 1 gateway, 1 agent, 1 recorder\n"),
    ]);
    expect(written.out).not.toContain("MEND");
  });

  it.each<[string, readonly unknown[], string]>([
    ["away", [...whole, node("agent", "a2", { state: "away" })], "agent a2: is away since"],
    ["nobody", whole.slice(0, 2), "recorder: none is connected"],
    ["refused", [...whole, node("gateway", "g2", { rejected: { sequence: "8", code: "x", message: "too new" } })], "(too new)"],
    ["behind", [...whole, node("gateway", "g2", { snapshot: { sequence: "5", version: "u" } })], "snapshot 5, others 7"],
    [
      "not renewed",
      [...whole, node("agent", "a2", { certificateIssuedAt: at(-day * 0.7), certificateExpiresAt: at(day * 0.3) })],
      "has not renewed",
    ],
    ["ended", [...whole, node("agent", "a2", { certificateExpiresAt: at(-1_000) })], "must join again"],
    ["no links", [node("gateway", "g1", { links: [] }), ...whole.slice(1)], "no agent is linked to any gateway"],
  ])("finds a node that is %s", async (_what, nodes, text) => {
    answers = installation(nodes);
    const { status, written } = await run(["doctor", "--json"]);
    const findings = JSON.parse(written.out) as { name: string; ok: boolean; text: string }[]; // as the command prints them
    expect(status).toBe(1);
    expect(findings.filter(({ ok }) => !ok).map((finding) => `${finding.name}: ${finding.text}`)).toEqual([
      expect.stringContaining(text),
    ]);
  });

  it("does not mind revoked nodes", async () => {
    answers = installation([...whole, node("agent", "a2", { state: "revoked", certificateExpiresAt: at(-1_000) })]);
    expect((await run(["doctor"])).status).toBe(0);
  });

  it("tells a store that does not answer, clocks that are apart, and an authority near its end", async () => {
    answers = installation(whole);
    probed = { status: 503 };
    const store = await run(["doctor"]);
    expect([store.status, store.written.out]).toEqual([1, expect.stringContaining("MEND  store: does not answer")]);
    expect(calls).toEqual([]);

    probed = { status: 200, date: new Date(now - 600_000).toUTCString() };
    const clock = await run(["doctor"]);
    expect([clock.status, clock.written.out]).toEqual([
      1,
      expect.stringMatching(/MEND {2}clock: this machine's is 60\d s ahead of/),
    ]);

    probed = { status: 200 };
    answers["AuthorityService/List"] = {
      body: { authorities: [{ fingerprint: "ab", state: "signing", expiresAt: at(10 * day) }] },
    };
    const authority = await run(["doctor"]);
    expect([authority.status, authority.written.out]).toEqual([1, expect.stringContaining("sluice ca rotate")]);
  });
});
