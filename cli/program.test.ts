/** The commands against an admin API that answers as told, over real HTTPS with a real CA. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { writeReadyFile } from "./ready-file.ts";
import { type FakeAdmin, failure, frames, startFakeAdmin } from "./testing-admin.ts";

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

let fake: FakeAdmin;

beforeAll(async () => {
  fake = await startFakeAdmin();
});
afterAll(() => fake.close());
beforeEach(() => fake.reset());

describe("finding the installation", () => {
  it("says how to start one when there is no ready file", async () => {
    const { status, written } = await fake.run(["sessions", "list", "--ready-file", "nowhere.json"]);
    expect(status).toBe(1);
    expect(written.err).toContain("nowhere.json does not exist");
    expect(written.err).toContain("npm start");
    expect(written.err).toContain("sluice up");
  });

  it("notices a ready file whose process has ended", async () => {
    await writeReadyFile(join(fake.directory, "stale.json"), fake.readyFile({ pid: 2 ** 22 + 1 }));
    const { status, written } = await fake.run(["sessions", "list", "--ready-file", "stale.json"]);
    expect(status).toBe(1);
    expect(written.err).toContain("is stale");
  });

  it("refuses a file of another shape", async () => {
    await writeFile(join(fake.directory, "other.json"), '{"admin": 1}');
    const { status, written } = await fake.run(["sessions", "list", "--ready-file", "other.json"]);
    expect(status).toBe(1);
    expect(written.err).toContain("is not a ready file");
  });

  it("sends the token of the ready file", async () => {
    fake.answers = { "SessionService/List": { body: { sessions: [] } } };
    expect((await fake.run(["sessions", "list"])).written.out).toBe("No sessions yet.\n");
    expect(fake.calls[0]?.token).toBe("Bearer admin-token");
  });

  it("takes --server with a CA and the token from the environment", async () => {
    fake.answers = { "SessionService/List": { body: { sessions: [] } } };
    const environment = { SLUICE_TOKEN: "elsewhere" };
    const found = await fake.run(["sessions", "list", "--json", "--server", fake.address, "--ca-file", fake.caFile], {
      environment,
    });
    expect([found.status, found.written.out]).toEqual([0, "[]\n"]);
    expect(fake.calls[0]?.token).toBe("Bearer elsewhere");
  });

  it("never sends the token to a server that the CA does not verify", async () => {
    const found = await fake.run(["sessions", "list", "--server", fake.address], { environment: { SLUICE_TOKEN: "elsewhere" } });
    expect(found.status).toBe(1);
    expect(found.written.err).toContain("certificate");
    expect(fake.calls).toEqual([]);
  });

  it("takes https alone", async () => {
    const found = await fake.run(["sessions", "list", "--server", fake.address.replace("https", "http")], {
      environment: { SLUICE_TOKEN: "t" },
    });
    expect(found.status).toBe(2);
  });

  it("says that nothing answers", async () => {
    const environment = { SLUICE_TOKEN: "t" };
    const found = await fake.run(["sessions", "list", "--server", "https://127.0.0.1:1", "--ca-file", fake.caFile], {
      environment,
    });
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
    const { status, written } = await fake.run(args);
    expect([status, written.out]).toEqual([2, ""]);
    expect(written.err).not.toBe("");
    expect(fake.calls).toEqual([]);
  });

  it("prints help and version with status 0", async () => {
    const help = await fake.run(["--help"]);
    expect([help.status, help.written.err]).toEqual([0, ""]);
    for (const command of ["up", "apply", "token", "policy", "sessions", "psql", "doctor"])
      expect(help.written.out).toContain(`  ${command}`);
    expect((await fake.run(["--version"])).status).toBe(0);
  });
});

describe("token", () => {
  it("prints the token and nothing else", async () => {
    fake.answers = { "TokenService/Mint": { body: { token: "eyJ.a.b" } } };
    const found = await fake.run([
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
    expect(fake.calls[0]?.body).toEqual({ subject: "ada", groups: ["agents", "dba"], claims: { team: "a=b" }, ttlSeconds: 900 });
  });

  it("shows a refusal with its hint", async () => {
    fake.answers = {
      "TokenService/Mint": failure(501, "unimplemented", {
        code: "unsupported",
        message: "The development issuer is off.",
        hint: "Use yours.",
      }),
    };
    const found = await fake.run(["token", "--subject", "ada"]);
    expect([found.status, found.written]).toEqual([
      1,
      { out: "", err: "sluice: The development issuer is off.\nhint: Use yours.\n" },
    ]);
  });
});

describe("apply", () => {
  it("sends files and directories in order and says what changed", async () => {
    await mkdir(join(fake.directory, "manifests", "deep"), { recursive: true });
    for (const name of ["b.yaml", "a.yml", "deep/c.yaml", "notes.txt", ".hidden.yaml"])
      await writeFile(join(fake.directory, "manifests", name), name);
    fake.answers = {
      "ManifestService/Apply": { body: { version: "v1", applied: [{ kind: "Policy", name: "agents", change: "created" }] } },
    };
    const found = await fake.run(["apply", "-f", "manifests", "-f", "manifests/b.yaml"]);
    expect([found.status, found.written.out]).toEqual([0, "Policy/agents created\npolicy version v1 is in force\n"]);
    expect(fake.calls[0]?.body).toEqual({
      files: [
        { path: "manifests/a.yml", text: "a.yml" },
        { path: "manifests/b.yaml", text: "b.yaml" },
        { path: "manifests/deep/c.yaml", text: "deep/c.yaml" },
      ],
    });
  });

  it("prints every fault with its place", async () => {
    await writeFile(join(fake.directory, "one.yaml"), "x");
    const faults = [
      { file: "one.yaml", line: 3, message: "unknown field" },
      { file: "one.yaml", line: 9, message: "no such group" },
    ];
    fake.answers = {
      "ManifestService/Apply": failure(
        400,
        "invalid_argument",
        { code: "config_invalid", message: "The manifests have faults." },
        faults,
      ),
    };
    const found = await fake.run(["apply", "-f", "one.yaml"]);
    expect(found.status).toBe(1);
    expect(found.written.err).toBe("one.yaml:3: unknown field\none.yaml:9: no such group\nsluice: The manifests have faults.\n");
  });

  it("says which path is missing", async () => {
    const found = await fake.run(["apply", "-f", "missing.yaml"]);
    expect([found.status, found.written.err]).toEqual([1, "sluice: missing.yaml does not exist or may not be read.\n"]);
  });
});

describe("policy explain", () => {
  it("prints the decision as one line", async () => {
    fake.answers = { "PolicyService/Explain": { body: { decision: { id: "d", effect: "allow", limit: null } } } };
    const found = await fake.run(["policy", "explain", "--as", '{"sub":"ada"}', "--resource", "orders", "--sql", "SELECT 1"]);
    expect([found.status, found.written.out]).toEqual([0, '{"id":"d","effect":"allow","limit":null}\n']);
    expect(fake.calls[0]?.body).toEqual({ as: { sub: "ada" }, resource: "orders", sql: ["SELECT 1"] });
  });

  it("answers a batch line by line in order, in several calls when it is long", async () => {
    const lines = Array.from({ length: 450 }, (_, n) =>
      JSON.stringify({ id: n, as: { sub: "a" }, resource: "r", sql: n % 2 === 0 ? "SELECT 1" : ["A", "B"] }),
    );
    fake.answers = {
      "PolicyService/ExplainBatch": (body) => {
        const asked = (body as { lines: { id: number }[] }).lines;
        return { body: { lines: asked.map((line) => ({ id: line.id, effect: "allow" })) } };
      },
    };
    const found = await fake.run(["policy", "explain", "--batch", "-"], { standardInput: `${lines.join("\n")}\n` });
    expect(found.status).toBe(0);
    const printed = found.written.out.trimEnd().split("\n");
    expect(printed.map((line) => (JSON.parse(line) as { id: number }).id)).toEqual(lines.map((_, n) => n));
    expect(fake.calls.length).toBe(3);
  });

  it("refuses what is no text on its own line, since no wire carries it; the others are asked", async () => {
    fake.answers = { "PolicyService/ExplainBatch": { body: { lines: [{ id: "b", effect: "allow" }] } } };
    const standardInput =
      '{"id":"a","as":{"sub":"a"},"resource":"r","sql":"SELECT \\ud800"}\n{"id":"b","as":{"sub":"a"},"resource":"r","sql":"x"}\n';
    const found = await fake.run(["policy", "explain", "--batch", "-"], { standardInput });
    const lines = found.written.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    expect(found.status).toBe(0);
    expect(lines).toMatchObject([
      { id: "a", effect: "deny", rule: "builtin/statement-invalid", error: { code: "statement_invalid" } },
      { id: "b", effect: "allow" },
    ]);
    expect(fake.calls.map(({ body }) => body)).toEqual([{ lines: [{ id: "b", as: { sub: "a" }, resource: "r", sql: ["x"] }] }]);
  });

  it("names what is wrong with a line in its answer and asks the others", async () => {
    fake.answers = {
      "PolicyService/ExplainBatch": (body) => {
        const asked = (body as { lines: { id: number }[] }).lines;
        return { body: { lines: asked.map(({ id }) => ({ id, effect: "allow" })) } };
      },
    };
    const wrong = [
      '{"id":2,"as":{"sub":"a"},"resource":"r","sql":[]}',
      '{"id":2,"as":{"sub":"a"},"resource":"r"',
      '"SELECT 1"',
      '{"id":{"a":1},"as":{"sub":"a"},"resource":"r","sql":"x"}',
      '{"as":{"sub":"a"},"resource":"r","sql":"x"}',
      '{"id":2,"as":{"sub":"a","groups":"agents"},"resource":"r","sql":"x"}',
      '{"id":2,"as":{"sub":"a","claims":[]},"resource":"r","sql":"x"}',
      '{"id":2,"as":{"sub":"a","iss":5},"resource":"r","sql":"x"}',
      '{"id":2,"as":{"sub":"a","roles":[]},"resource":"r","sql":"x"}',
      '{"id":2,"resource":"r","sql":"x"}',
      '{"id":2,"as":{"sub":"a"},"resource":["r"],"sql":"x"}',
      '{"id":2,"as":{"sub":"a"},"resource":"r","sql":[1]}',
    ];
    const right = (id: number): string => `{"id":${id},"as":{"sub":"a","groups":["g"]},"resource":"r","sql":"x"}`;
    const standardInput = `${right(1)}\n\n${wrong.join("\n")}\n${right(3)}`;
    const found = await fake.run(["policy", "explain", "--batch", "-"], { standardInput });
    expect(found.status).toBe(0);
    expect(found.written.err).toContain("could not be judged");
    const answers = found.written.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(answers.map(({ id }) => id)).toEqual([1, 2, null, null, { a: 1 }, null, 2, 2, 2, 2, 2, 2, 2, 3]);
    for (const [at, answer] of answers.slice(1, -1).entries()) {
      expect(answer).toMatchObject({ effect: "deny", error: { code: "statement_invalid" } });
      expect(answer["reason"]).toContain(`standard input:${at + 3}`);
    }
    expect(fake.calls.map(({ body }) => (body as { lines: unknown[] }).lines.length)).toEqual([2]);
  });
});

describe("sessions", () => {
  it("lists as JSON and as a table", async () => {
    fake.answers = { "SessionService/List": { body: { sessions: [session] } } };
    expect((await fake.run(["sessions", "list", "--json"])).written.out).toBe(`${JSON.stringify([session])}\n`);
    const table = (await fake.run(["sessions", "list"])).written.out;
    expect(table).toContain("s_AAAAAAAAAAAAAAAAAAAAAA | ada | agents | orders   | 2026-01-01 00:00:00.000Z | -     | active");
  });

  it("takes `last` for the newest", async () => {
    fake.answers = { "SessionService/List": { body: { sessions: [session] } }, "SessionService/Get": { body: { session } } };
    expect((await fake.run(["sessions", "show", "last", "--json"])).written.out).toBe(`${JSON.stringify(session)}\n`);
    expect(fake.calls.at(-1)?.body).toEqual({ id: session.id });
  });

  it("refuses what is no session id without asking for it", async () => {
    const found = await fake.run(["sessions", "replay", "../../etc"]);
    expect(found.status).toBe(1);
    expect(fake.calls).toEqual([]);
  });

  it("replays line by line as JSON, unknown kinds too", async () => {
    const items = [
      { kind: "complete", atMs: 1, tag: "SELECT 1" },
      { kind: "new", atMs: 2 },
    ];
    fake.answers = { "SessionService/Replay": { body: null, raw: frames({ items }, {}) } };
    const found = await fake.run(["sessions", "replay", session.id, "--json"]);
    expect(found.written.out).toBe(`${items.map((item) => JSON.stringify(item)).join("\n")}\n`);
    expect((await fake.run(["sessions", "replay", session.id])).written.out).toBe("        SELECT 1\n");
  });

  it("fails when a replay breaks off", async () => {
    const items = [{ kind: "complete", atMs: 1, tag: "SELECT 1" }];
    const { body: error } = failure(200, "internal", { code: "internal", message: "The recording could not be read on." });
    const raw = frames({ items }, { error });
    fake.answers = { "SessionService/Replay": { body: null, raw } };
    const found = await fake.run(["sessions", "replay", session.id]);
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
    fake.answers = { "SessionService/Verify": { body: report } };
    const found = await fake.run(["sessions", "verify", session.id]);
    expect(found.status).toBe(status);
    expect(found.written.out).toContain(text);
    expect(found.written.err).toBe(state === "broken" ? "fault: chunk 1 was changed\n" : "");
    const json = await fake.run(["sessions", "verify", session.id, "--json"]);
    expect([json.status, JSON.parse(json.written.out)]).toEqual([status, report]);
  });
});

describe("psql", () => {
  it("verifies the server and keeps the token off the command line", async () => {
    fake.answers = { "TokenService/Mint": { body: { token: "secret-token" } } };
    await writeFile(join(fake.directory, "psql"), "#!/bin/sh\n", { mode: 0o755 });
    const found = await fake.run(["psql", "orders", "--as", "o'brien", "--group", "agents", "-c", "SELECT 1", "--", "-At"], {
      environment: { PATH: fake.directory },
    });
    expect(found.status).toBe(0);
    expect(found.programs).toEqual([
      {
        command: join(fake.directory, "psql"),
        args: [
          `host=127.0.0.1 port=6543 dbname=orders user='o\\'brien' sslmode=verify-full sslrootcert=${fake.caFile}`,
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
    fake.answers = { "TokenService/Mint": { body: { token: "t" } } };
    await writeFile(join(fake.directory, "psql"), "#!/bin/sh\n", { mode: 0o755 });
    const found = await fake.run(["psql", "orders", "--gateway-ca-file", "own.pem"], { environment: { PATH: fake.directory } });
    expect(found.programs[0]?.args[0]).toContain(`sslmode=verify-full sslrootcert=${join(fake.directory, "own.pem")}`);
    const missing = await fake.run(["psql", "orders", "--builtin", "--gateway-ca-file", "nowhere.pem"]);
    expect([missing.status, missing.written.err]).toEqual([1, expect.stringContaining("nowhere.pem cannot be read")]);
  });

  it("ends with 1 when psql fails, whatever its own status", async () => {
    fake.answers = { "TokenService/Mint": { body: { token: "t" } } };
    await writeFile(join(fake.directory, "psql"), "#!/bin/sh\n", { mode: 0o755 });
    expect((await fake.run(["psql", "orders"], { environment: { PATH: fake.directory }, programStatus: 3 })).status).toBe(1);
  });
});
