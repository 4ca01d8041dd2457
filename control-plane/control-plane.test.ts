/** The whole control plane on a temporary directory with its embedded store, used over HTTPS with its CA as a client would. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { SessionId } from "@sluice/core/ids.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { Snapshot } from "@sluice/core/snapshot.ts";
import { systemClock, systemRandom } from "@sluice/core/system.ts";
import type { SessionRecord, SessionRecordBody } from "@sluice/events/session-events.ts";
import type { ExplainRequest } from "@sluice/rpc/explain.ts";
import type { RecordingReader, ReplayItem } from "@sluice/rpc/recordings.ts";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTokenVerifier } from "../data-plane/identity/token-verifier.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import type { ManifestFile } from "./interface.ts";

const log = pino({ level: "silent" });
const directory = mkdtempSync(join(tmpdir(), "sluice-control-"));
const config: Config = {
  node: null,
  controlPlane: {
    store: { kind: "embedded" },
    listen: { host: "127.0.0.1", port: 0 },
    hosts: [],
    developmentIssuer: true,
    nodes: null,
    encryptionKey: { kind: "generated" },
    workloads: [],
    lease: { ms: 4 * 3_600_000, strictMs: 3_600_000 },
  },
  dataPlane: { listeners: [], tls: { mode: "self-signed", hosts: [] }, links: null },
  agent: { secrets: [], nearest: 2, vaults: [], kubernetes: null },
  events: { bus: "embedded" },
  recorder: { directory: join(directory, "recordings"), listen: null, advertise: null },
  operations: { listen: null },
  telemetry: { tracesEndpoint: null, sampleRatio: 0 },
  limits: {},
  manifests: [],
};
const policy = (name: string, when = "true"): string => `apiVersion: sluice/v1
kind: Policy
metadata: { name: ${name} }
spec:
  principals: { groups: [ agents ] }
  resources: { labels: { env: prod } }
  rules:
    - { name: read, effect: allow, when: "${when}" }
`;
const configured: ManifestFile = { path: "manifests/base.yaml", text: `# base\n---\n${policy("base")}` };
const sessionId = "s_BBBBBBBBBBBBBBBBBBBBBB" as SessionId; // shaped like one
const otherId = "s_CCCCCCCCCCCCCCCCCCCCCC" as SessionId; // shaped like one
const items: readonly ReplayItem[] = [
  { kind: "row", atMs: 1, values: ["1", null] },
  { kind: "complete", atMs: 2, tag: "SELECT 1" },
];
const recordings: RecordingReader = {
  async *replay(id) {
    if (id === otherId) throw new GatewayError("not_found", "There is no recording of this session.");
    yield* items;
  },
  verify: async (id) => ({ sessionId: id, ok: true, state: "complete", chunks: 1, records: 2, head: "00", faults: [] }),
};
let explained: ExplainRequest[] = [];
let plane: ControlPlane;

const start = (manifestFiles: readonly ManifestFile[] = [configured]): Promise<ControlPlane> =>
  startControlPlane({
    config,
    dataDirectory: directory,
    manifestFiles,
    limits: { ...defaultLimits, adminBodyBytesMax: 100_000 },
    clock: systemClock,
    random: systemRandom,
    log,
    explainer: () => ({
      explain: async (wanted) => {
        explained.push(wanted);
        if (wanted.resource === "unknown") throw new GatewayError("resource_unknown", "There is no such resource.");
        await new Promise((resolve) => setTimeout(resolve, wanted.sql[0] === "slow" ? 30 : 0));
        return { id: "d_x", effect: "allow", rule: "base/read", limit: null, bulkExport: false, columns: [{ n: -1 }] };
      },
    }),
    recordings,
  });

beforeAll(async () => {
  plane = await start();
}, 60_000);

afterAll(async () => {
  await plane.close();
  rmSync(directory, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly text: string;
}

function send(path: string, body: string | undefined, headers: Record<string, string> = {}): Promise<Answer> {
  const options = {
    ca: readFileSync(plane.caFile),
    method: body === undefined ? "GET" : "POST",
    agent: false as const,
    headers: { authorization: `Bearer ${plane.adminToken}`, "content-type": "application/json", ...headers },
  };
  return new Promise((resolve, reject) => {
    const outgoing = request(new URL(path, plane.adminUrl), options, (response) => {
      let text = "";
      response.setEncoding("latin1"); // every answer here is ASCII
      response.on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function call(method: string, body: unknown): Promise<{ status: number; value: Record<string, unknown> }> {
  const { status, text } = await send(`/sluice.admin.v1.${method}`, JSON.stringify(body));
  const value = JSON.parse(text) as Record<string, unknown>; // every answer of the API is an object
  return { status, value: status === 200 ? value : detailsOf(value) };
}

/** The details of a failure as people see them, with its sentence. */
function detailsOf({ message, details = [] }: Record<string, unknown>): Record<string, unknown> {
  const list = details as { readonly debug: Record<string, unknown> }[]; // as Connect writes them
  return Object.assign({ message }, ...list.map(({ debug }) => debug)) as Record<string, unknown>; // objects alone
}

describe("the door", () => {
  it("answers probes to anybody and methods to the holder of the token alone", async () => {
    expect(await send("/healthz", undefined, { authorization: "" })).toEqual({ status: 200, text: '{"status":"ok"}\n' });
    expect((await send("/readyz", undefined, { authorization: "" })).status).toBe(200);
    const path = "/sluice.admin.v1.SessionService/List";
    for (const authorization of ["", "Bearer ", "Bearer x", `Basic ${plane.adminToken}`, `Bearer ${plane.adminToken}x`]) {
      const answer = await send(path, "{}", { authorization });
      expect(answer.status).toBe(401);
      const value = JSON.parse(answer.text) as Record<string, unknown>; // every answer of the API is an object
      expect(value["code"]).toBe("unauthenticated");
      expect(detailsOf(value)).toMatchObject({ code: "unauthorized", hint: expect.any(String) });
    }
    expect((await send("/no/such", "{}", { authorization: "" })).status).toBe(401);
    expect(plane.adminToken).toMatch(/^[\w-]{43}$/);
  });

  it.each<[string, string | undefined, Record<string, string>, number, string | undefined]>([
    ["SessionService/List", "{", {}, 400, "invalid_argument"],
    ["SessionService/List", "[]", {}, 400, "invalid_argument"],
    ["SessionService/List", '{"limit":1}', {}, 400, "invalid_argument"],
    ["SessionService/List", undefined, {}, 405, undefined],
    ["SessionService/List", "{}", { "content-type": "text/plain" }, 415, undefined],
    ["SessionService/Forget", "{}", {}, 404, "unimplemented"],
    ["SessionService/List", `"${"x".repeat(200_000)}"`, {}, 429, "resource_exhausted"],
    ["ManifestService/Apply", '{"files":[{"path":"a\\u0000b","text":""}]}', {}, 400, "invalid_argument"],
    ["SessionService/Get", '{"id":"../../etc"}', {}, 404, "not_found"],
    ["PolicyService/Explain", '{"as":{"sub":"a","admin":true},"resource":"r","sql":["x"]}', {}, 400, "invalid_argument"],
    ["PolicyService/Explain", '{"as":{"sub":"a"},"resource":"r","sql":[]}', {}, 400, "invalid_argument"],
    ["PolicyService/Explain", '{"resource":"r","sql":["x"]}', {}, 400, "invalid_argument"],
  ])("refuses what it does not understand %#", async (method, body, headers, status, code) => {
    const answer = await send(`/sluice.admin.v1.${method}`, body, headers);
    expect(answer.status).toBe(status);
    if (code !== undefined) expect(JSON.parse(answer.text)).toMatchObject({ code, message: expect.any(String) });
  });
});

describe("tokens", () => {
  it("are minted, and the published provider accepts them", async () => {
    const { value } = await call("TokenService/Mint", {
      subject: "ada",
      groups: ["agents"],
      claims: { team: "x" },
      ttlSeconds: 60,
    });
    const providers = plane.snapshots.current.identityProviders;
    expect(providers).toMatchObject([{ name: "development", issuer: plane.issuerUrl }]);
    const verifier = createTokenVerifier({ providers: () => providers, clock: systemClock, limits: defaultLimits, log });
    expect((await verifier.verify(String(value["token"]))).principal).toMatchObject({ subject: "ada", groups: ["agents"] });
  });
});

describe("manifests", () => {
  it("are applied all or nothing, with every fault at its place", async () => {
    const before = plane.snapshots.current;
    const broken = `${policy("good")}---\n${policy("bad", "statement.clas == 'read'")}`;
    const { status, value } = await call("ManifestService/Apply", { files: [{ path: "team/p.yaml", text: broken }] });
    expect(status).toBe(400);
    expect(value).toMatchObject({
      code: "config_invalid",
      faults: [{ file: "team/p.yaml", line: 17, message: expect.any(String) }],
    });
    const shape = await call("ManifestService/Apply", { files: [{ path: "p.yaml", text: "kind: Polcy\n---\nkind: Policy\n" }] });
    expect((shape.value["faults"] as unknown[]).length).toBeGreaterThan(1); // a list by the assertion on its length
    expect(plane.snapshots.current).toBe(before);
  });

  it("merge by name; gateways hear of a change once; what stays the same says so", async () => {
    const heard: Snapshot[] = [];
    const stop = plane.snapshots.subscribe((snapshot) => heard.push(snapshot));
    const files = [{ path: "team/p.yaml", text: policy("team") }];
    const first = await call("ManifestService/Apply", { files, author: "grace" });
    expect(first.value).toEqual({ version: heard[0]?.version, applied: [{ kind: "Policy", name: "team", change: "created" }] });
    expect(plane.snapshots.current.policies.map(({ name }) => name).sort()).toEqual(["base", "team"]);
    const second = await call("ManifestService/Apply", { files });
    expect(second.value).toEqual({
      version: heard[0]?.version,
      applied: [{ kind: "Policy", name: "team", change: "unchanged" }],
    });
    expect(heard.length).toBe(1);
    stop();
  });

  it("may not pose as the development issuer", async () => {
    const text = `apiVersion: sluice/v1\nkind: IdentityProvider\nmetadata: { name: development }\nspec: { issuer: "https://evil.example", audiences: [ sluice ] }\n`;
    const { value } = await call("ManifestService/Apply", { files: [{ path: "idp.yaml", text }] });
    expect(value).toMatchObject({
      code: "config_invalid",
      faults: [{ file: "idp.yaml", line: 3, message: expect.stringContaining("collides") }],
    });
  });
});

describe("explanations", () => {
  it("pass the question on and answer the decision as it is", async () => {
    explained = [];
    const question = { as: { sub: "ada", groups: ["agents"] }, resource: "orders", sql: ["select 1"] };
    const decision = { id: "d_x", effect: "allow", rule: "base/read", limit: null, bulkExport: false, columns: [{ n: -1 }] };
    expect((await call("PolicyService/Explain", question)).value).toEqual({ decision });
    expect(explained).toEqual([question]);
    expect(await call("PolicyService/Explain", { ...question, resource: "unknown" })).toMatchObject({ status: 404 });
  });

  it("in a batch keep ids and order, and a line that cannot be judged is a deny", async () => {
    const as = { sub: "ada", groups: [] };
    const lines = [
      { id: "1", as, resource: "orders", sql: ["slow"] },
      { id: 2, as, resource: "unknown", sql: ["x"] },
      { id: "3", as, resource: "orders", sql: ["a", "b"] },
    ];
    const { value } = await call("PolicyService/ExplainBatch", { lines });
    expect(value["lines"]).toEqual([
      { id: "1", effect: "allow", rule: "base/read", limit: null, bulkExport: false, columns: [{ n: -1 }] },
      {
        id: 2,
        effect: "deny",
        rule: "builtin/resource-unknown",
        rules: ["builtin/resource-unknown"],
        reason: "There is no such resource.",
        error: { code: "resource_unknown", message: "There is no such resource." },
      },
      { id: "3", effect: "allow", rule: "base/read", limit: null, bulkExport: false, columns: [{ n: -1 }] },
    ]);
  });
});

const opened = (): SessionRecordBody => ({
  kind: "opened",
  opened: {
    resource: "orders",
    database: "orders",
    protocol: "postgres",
    principal: { subject: "ada", issuer: "https://idp", groups: ["agents"], owner: "", task: "" },
    clientAddress: "127.0.0.1",
    declared: {},
    policyVersion: "v",
    recording: "strict",
  },
});
const closed: SessionRecordBody = { kind: "closed", closed: { code: "terminated", statements: 4, denied: 1, masked: 2 } };
const record = (id: SessionId, sequence: number, atMs: number, body: SessionRecordBody): SessionRecord => ({
  sessionId: id,
  sequence,
  atMs,
  ...body,
});

describe("sessions", () => {
  it("are listed newest first in the contract's shape, and a batch that comes again changes nothing", async () => {
    // Within a second, so that times are written with milliseconds whenever this runs.
    const nowMs = Math.ceil(Date.now() / 1_000) * 1_000 + 1_123;
    const batch = [
      record(sessionId, 0, nowMs, opened()),
      record(otherId, 0, nowMs + 10, opened()),
      record(sessionId, 1, nowMs + 20, { kind: "released", bytes: Buffer.from("x") }),
      record(sessionId, 2, nowMs + 30, closed),
    ];
    await plane.sessionIndex.consume(batch.slice(0, 2));
    await plane.sessionIndex.consume(batch);
    await plane.sessionIndex.consume(batch);
    const { value } = await call("SessionService/List", {});
    const principal = { subject: "ada", groups: ["agents"], issuer: "https://idp" };
    expect(value["sessions"]).toEqual([
      {
        id: otherId,
        resource: "orders",
        principal,
        startedAt: new Date(nowMs + 10).toISOString(),
        state: "active",
        statements: 0,
        denied: 0,
        masked: 0,
      },
      {
        id: sessionId,
        resource: "orders",
        principal,
        startedAt: new Date(nowMs).toISOString(),
        endedAt: new Date(nowMs + 30).toISOString(),
        state: "ended",
        statements: 4,
        denied: 1,
        masked: 2,
        closeCode: "terminated",
      },
    ]);
    expect((await call("SessionService/Get", { id: sessionId })).value).toMatchObject({
      session: { id: sessionId, state: "ended" },
    });
  });

  it("replay as a stream of messages, and verify", async () => {
    const replay = async (id: string): Promise<readonly unknown[]> => {
      const request = envelope(JSON.stringify({ id }));
      const { status, text } = await send("/sluice.admin.v1.SessionService/Replay", request, {
        "content-type": "application/connect+json",
      });
      expect(status).toBe(200);
      return openEnvelopes(text);
    };
    expect(await replay(sessionId)).toEqual([{ items }, {}]);
    expect(await replay(otherId)).toMatchObject([{ error: { code: "not_found" } }]);
    expect((await call("SessionService/Verify", { id: sessionId })).value).toMatchObject({ ok: true, sessionId });
  });
});

/** Connect's framing of streams: flags, length, JSON. Texts here are ASCII. */
function envelope(text: string): string {
  return `\0${String.fromCharCode(0, 0, 0, text.length)}${text}`;
}

function openEnvelopes(text: string): readonly unknown[] {
  const bytes = Buffer.from(text, "latin1");
  const messages: unknown[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    messages.push(JSON.parse(bytes.toString("latin1", at + 5, end)));
    at = end;
  }
  return messages;
}

it("after a restart keeps address of the issuer and applied manifests, drops what the configuration dropped, and knows what was lost", async () => {
  const { issuerUrl, caFile, adminToken } = plane;
  const ca = readFileSync(caFile, "utf8");
  await plane.close();
  const faulty: ManifestFile = { path: "manifests/base.yaml", text: `${policy("base", "1 +")}---\n${policy("Base_Name")}` };
  const refusal: unknown = await start([faulty]).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: "config_invalid" });
  expect(String(refusal)).toContain("manifests/base.yaml:12: ");

  plane = await start([{ path: "manifests/other.yaml", text: policy("other") }]);
  expect(plane.issuerUrl).toBe(issuerUrl);
  expect(readFileSync(plane.caFile, "utf8")).toBe(ca);
  expect(plane.adminToken).not.toBe(adminToken);
  expect(plane.snapshots.current.policies.map(({ name }) => name).sort()).toEqual(["other", "team"]);
  const { value } = await call("SessionService/Get", { id: otherId });
  expect(value).toMatchObject({ session: { state: "lost", endedAt: expect.any(String) } });
});
