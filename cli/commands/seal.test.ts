/** `sluice seal` against an admin API over real HTTPS; what it prints is opened by a real agent's key. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSealingKey, type SealingKey } from "@sluice/agent/secrets/sealing-key.ts";
import { openTestAuthorityFiles } from "@sluice/control-plane/ca/testing.ts";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { runCli } from "../program.ts";
import { writeReadyFile } from "../ready-file.ts";
import { createTestContext, type TestContext } from "../testing-context.ts";
import { sealSecret } from "./seal.ts";

const SECRET = "s3aled-by-hand-55ad";
let directory = "";
let server: Server;
let key: SealingKey;
let answer: unknown;
let calls: { readonly path: string | undefined; readonly body: string }[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-seal-"));
  key = await openSealingKey(join(directory, "agent"));
  const authority = await openTestAuthorityFiles(join(directory, "ca"));
  const { certFile, keyFile } = await authority.issueServerCertificate({ name: "admin", hosts: ["127.0.0.1"] });
  server = createServer({ cert: await readFile(certFile), key: await readFile(keyFile) }, (request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => {
      body += part.toString("utf8");
    });
    request.on("end", () => {
      calls.push({ path: request.url, body });
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // of TCP
  await writeReadyFile(join(directory, "ready.json"), {
    admin: `https://127.0.0.1:${port}`,
    adminToken: "t",
    caFile: authority.caFile,
    listeners: [],
    pid: process.pid,
  });
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true, force: true });
});
beforeEach(() => {
  calls = [];
  answer = { recipients: [{ agent: "agent-1", jwk: key.publicJwk }] };
});

async function seal(
  standardInput: string,
  ...args: readonly string[]
): Promise<{ readonly status: number; readonly written: TestContext["written"] }> {
  const context = createTestContext({ workingDirectory: directory, standardInput });
  const status = await runCli(["seal", "--ready-file", "ready.json", ...args], context);
  return { status, written: context.written };
}

describe("sluice seal", () => {
  test("prints what the agents that carry the labels can open, and nothing else", async () => {
    const { status, written } = await seal(
      `${SECRET}\n`,
      "--target",
      "db.internal:5432",
      "--label",
      "site=eu",
      "--label",
      "tier=a=b",
    );
    expect(status).toBe(0);
    expect(calls).toEqual([
      { path: "/sluice.admin.v1.NodeService/SealingRecipients", body: '{"labels":{"site":"eu","tier":"a=b"}}' },
    ]);
    expect(written.out).toMatch(/^[A-Za-z0-9_-]+\n$/);
    expect(await key.decrypt(written.out.trim())).toEqual({ secret: SECRET, targets: "db.internal:5432" });
    expect(written.err).toBe("sealed to agent-1 for db.internal:5432\n");
  });

  test("the secret is neither sent nor told", async () => {
    const { written } = await seal(SECRET, "--target", "db.internal:5432");
    expect(JSON.stringify([calls, written])).not.toContain(SECRET);
  });

  test.each([
    ["no target", SECRET, [], "--target"],
    ["a target without port", SECRET, ["--target", "db"], "--target must be host:port"],
    ["a label without value", SECRET, ["--target", "db:1", "--label", "a="], "--label a= must have the form name=value"],
    ["a label twice", SECRET, ["--target", "db:1", "--label", "a=b", "--label", "a=c"], "--label a is given twice"],
    ["nothing on standard input", "\n", ["--target", "db:1"], "nothing on standard input"],
    ["a NUL byte", `${SECRET}\0`, ["--target", "db:1"], "cannot be a secret"],
    ["too much", SECRET.repeat(10_000), ["--target", "db:1"], "cannot be a secret"],
  ] as const)("%s is wrong usage", async (_name, input, args, text) => {
    const { status, written } = await seal(input, ...args);
    expect(status).toBe(2);
    expect(written.err).toContain(text);
    expect(written.out + written.err).not.toContain(SECRET);
    expect(calls).toEqual([]);
  });

  test.each([
    ["no agent", { recipients: [] }, "No agent of the installation carries these labels"],
    ["no list", {}, "No agent of the installation carries these labels"],
    ["no key", { recipients: [{ agent: "a" }] }, "The key of agent a cannot be sealed to"],
    ["a broken key", { recipients: [{ agent: "a", jwk: "{}" }] }, "The key of agent a cannot be sealed to"],
  ])("an answer with %s fails", async (_name, given, text) => {
    answer = given;
    const { status, written } = await seal(SECRET, "--target", "db:1");
    expect(status).toBe(1);
    expect(written.out).toBe("");
    expect(written.err).toContain(text);
    expect(written.err).not.toContain(SECRET);
  });
});

describe("sluice rotate-sealing-key", () => {
  test("adds a key to the agent's directory, and keeps what opens the secrets of before", async () => {
    const agentDirectory = join(directory, "rotating");
    const former = await openSealingKey(join(agentDirectory, "sealing"));
    const sealed = await sealSecret(SECRET, [{ agent: "a", jwk: former.publicJwk }], "*");
    const context = createTestContext({ workingDirectory: directory });
    expect(await runCli(["rotate-sealing-key", "--data-dir", "rotating"], context)).toBe(0);
    const now = await openSealingKey(join(agentDirectory, "sealing"));
    expect(context.written.out).toBe(`${now.publicJwk}\n`);
    expect(now.publicJwk).not.toBe(former.publicJwk);
    expect(await now.decrypt(sealed)).toMatchObject({ secret: SECRET });
  });
});

test("a new key goes only where an agent's data directory is", async () => {
  const context = createTestContext({ workingDirectory: directory });
  expect(await runCli(["rotate-sealing-key", "--data-dir", "agnet"], context)).toBe(2);
  expect(context.written.err).toContain(`There is no directory ${join(directory, "agnet")}`);
  await expect(readdir(join(directory, "agnet"))).rejects.toThrow("ENOENT");
});
