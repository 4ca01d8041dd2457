/** The admin API's server over real TLS: as curl calls it, as gRPC clients call it, and as strangers do. What stands behind it is made up. */
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import type { ConnectRouter } from "@connectrpc/connect";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import { ApplyRequestSchema, ManifestService } from "@sluice/proto/sluice/admin/v1/manifest_pb.ts";
import {
  CreateJoinTokenRequestSchema,
  CreateJoinTokenResponseSchema,
  NodeService,
} from "@sluice/proto/sluice/admin/v1/node_pb.ts";
import { ReplayRequestSchema, ReplayResponseSchema, SessionService } from "@sluice/proto/sluice/admin/v1/session_pb.ts";
import { type Logger, pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openTestAuthorityFiles } from "../ca/testing.ts";
import type { CertificateFiles } from "../interface.ts";
import { type AdminServer, startAdminServer } from "./admin-server.ts";
import { ManifestsRefused } from "./connect-errors.ts";

const TOKEN = "the-admin-token";
const BODY_BYTES_MAX = 64 * 1024;
const REQUEST_TIMEOUT_MS = 300;

let directory = "";
let certificate: CertificateFiles;
let ca: Buffer;
let server: AdminServer;
let logged = "";
let replayed = { rows: 0, ended: Promise.withResolvers<void>() };
/** A call waits; lets it go on. */
let entered = Promise.withResolvers<void>();
let release = Promise.withResolvers<void>();
const sessions = new Set<ClientHttp2Session>();
const sockets = new Set<TLSSocket>();

const methods = (router: ConnectRouter): void => {
  router.service(NodeService, {
    createJoinToken: ({ role }) => {
      if (role === "bug") throw new TypeError(`secret detail of ${TOKEN}`);
      if (role !== "agent") throw new GatewayError("protocol_violation", "role must be agent.", { hint: "Say agent." });
      return { id: "t1", token: "join-me" };
    },
    listJoinTokens: async () => {
      entered.resolve();
      await release.promise;
      return { tokens: [] };
    },
  });
  router.service(ManifestService, {
    apply: ({ files }) => {
      throw new ManifestsRefused(files.map(({ path }, at) => ({ file: path, line: at + 1, message: "not understood" })));
    },
  });
  router.service(SessionService, {
    async *replay() {
      try {
        for (let at = 0; ; at += 1) {
          yield { items: [{ kind: "row", atMs: at, values: ["x".repeat(1_000), null] }] };
          replayed.rows = at;
        }
      } finally {
        replayed.ended.resolve();
      }
    },
  });
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-admin-"));
  const authority = await openTestAuthorityFiles(join(directory, "ca"));
  certificate = await authority.issueServerCertificate({ name: "admin", hosts: ["127.0.0.1", "localhost"] });
  ca = await readFile(authority.caFile);
  server = await start();
});

afterEach(() => {
  for (const session of sessions) session.destroy();
  for (const socket of sockets) socket.destroy();
  replayed = { rows: 0, ended: Promise.withResolvers<void>() };
  entered = Promise.withResolvers<void>();
  release = Promise.withResolvers<void>();
});

afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

function start(): Promise<AdminServer> {
  const log: Logger = pino({ level: "debug" }, { write: (line: string) => void (logged += line) });
  return startAdminServer({
    listen: { host: "127.0.0.1", port: 0 },
    certificate,
    token: TOKEN,
    methods,
    ready: () => Promise.resolve(true),
    limits: { ...defaultLimits, adminBodyBytesMax: BODY_BYTES_MAX, adminRequestTimeoutMs: REQUEST_TIMEOUT_MS },
    log,
  });
}

interface Posted {
  readonly status: number;
  readonly value: Record<string, unknown>;
}

function post(method: string, body: string, headers: Readonly<Record<string, string>> = {}): Promise<Posted> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `https://127.0.0.1:${server.port}/sluice.admin.v1.${method}`,
      {
        method: "POST",
        ca,
        agent: false,
        servername: "localhost", // whatever the header says
        headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json", ...headers },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => (text += part));
        response.on(
          "end",
          () => resolve({ status: response.statusCode ?? 0, value: JSON.parse(text) as Record<string, unknown> }), // objects alone
        );
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

function grpcClient(): Client {
  return new Client(`localhost:${server.port}`, credentials.createSsl(ca));
}

function metadata(token = TOKEN): Metadata {
  const headers = new Metadata();
  headers.set("authorization", `Bearer ${token}`);
  return headers;
}

/** A unary call with bytes as they are. */
async function grpc(method: string, bytes: Uint8Array, headers = metadata()): Promise<Buffer | ServiceError> {
  const client = grpcClient();
  try {
    return await new Promise((resolve) => {
      const asItIs = (value: Uint8Array): Buffer => Buffer.from(value);
      client.makeUnaryRequest(`/sluice.admin.v1.${method}`, asItIs, asItIs, bytes, headers, (error, answer) =>
        resolve(error ?? answer ?? Buffer.alloc(0)),
      );
    });
  } finally {
    client.close();
  }
}

async function openTls(protocols: readonly string[]): Promise<TLSSocket> {
  const socket = connectTls({ host: "127.0.0.1", port: server.port, ca, ALPNProtocols: [...protocols] });
  sockets.add(socket);
  socket.on("error", () => undefined); // being cut off is what is looked for
  await once(socket, "secureConnect");
  return socket;
}

async function openHttp2(): Promise<ClientHttp2Session> {
  const session = connectHttp2(`https://127.0.0.1:${server.port}`, { ca });
  sessions.add(session);
  session.on("error", () => undefined); // as above
  await once(session, "connect");
  return session;
}

const joinToken = (role: string): Uint8Array =>
  toBinary(CreateJoinTokenRequestSchema, create(CreateJoinTokenRequestSchema, { role }));

describe("one definition, two ways", () => {
  it("JSON over HTTP/1.1", async () => {
    const { status: code, value } = await post("NodeService/CreateJoinToken", '{"role":"agent"}');
    expect([code, value]).toEqual([200, { id: "t1", token: "join-me" }]);
  });

  it("gRPC over HTTP/2", async () => {
    const answer = await grpc("NodeService/CreateJoinToken", joinToken("agent"));
    expect(answer).toBeInstanceOf(Buffer);
    expect(fromBinary(CreateJoinTokenResponseSchema, answer as Buffer)).toMatchObject({ id: "t1", token: "join-me" }); // as asserted
  });

  it("a refusal carries our code, sentence and hint in both", async () => {
    const { status: code, value } = await post("NodeService/CreateJoinToken", '{"role":"gateway"}');
    expect(code).toBe(400);
    expect(value).toMatchObject({
      code: "invalid_argument",
      message: "role must be agent.",
      details: [{ type: "sluice.common.v1.Fault", debug: { code: "protocol_violation", hint: "Say agent." } }],
    });
    const error = (await grpc("NodeService/CreateJoinToken", joinToken("gateway"))) as ServiceError; // as asserted
    expect([error.code, error.details]).toEqual([status.INVALID_ARGUMENT, "role must be agent."]);
    expect(String(error.metadata.get("grpc-status-details-bin")[0])).toContain("protocol_violation");
  });

  it("a fault of ours is told without its cause, and logged", async () => {
    logged = "";
    const { status: code, value } = await post("NodeService/CreateJoinToken", '{"role":"bug"}');
    expect(code).toBe(500);
    expect(JSON.stringify(value)).not.toContain("secret detail");
    expect(logged).toContain("admin API: a call failed");
  });

  it("all faults of manifests over JSON, the first ones where headers carry them", async () => {
    const files = Array.from({ length: 500 }, (_, at) => ({ path: `file-${at}.yaml`, text: "" }));
    const { value } = await post("ManifestService/Apply", JSON.stringify({ files }));
    const details = value["details"] as { readonly debug: { readonly faults?: readonly unknown[] } }[]; // as Connect writes them
    expect(details[1]?.debug.faults).toHaveLength(500);
    const error = (await grpc(
      "ManifestService/Apply",
      toBinary(ApplyRequestSchema, create(ApplyRequestSchema, { files })),
    )) as ServiceError; // as asserted
    expect([error.code, error.details]).toEqual([
      status.INVALID_ARGUMENT,
      expect.stringMatching(/^The manifests have 500 faults/),
    ]);
    expect(String(error.metadata.get("grpc-status-details-bin")[0])).toContain("file-0.yaml");
  });
});

describe("what is not understood", () => {
  it.each([
    ["NodeService/CreateJoinToken", '{"role":"agent","nmae":"a1"}'],
    ["NodeService/CreateJoinToken", '{"role":1}'],
    ["NodeService/CreateJoinToken", '{"role":"agent"'],
    ["ManifestService/Apply", '{"files":[{"path":"a","txet":""}]}'],
  ])("is refused in JSON: %s %s", async (method, body) => {
    expect(await post(method, body)).toMatchObject({ status: 400, value: { code: "invalid_argument" } });
  });

  it("is refused in gRPC, nested fields too", async () => {
    const unknown = { no: 99, wireType: WireType.Varint, data: new Uint8Array([1]) };
    const outer = create(CreateJoinTokenRequestSchema, { role: "agent" });
    outer.$unknown = [unknown];
    const inner = create(ApplyRequestSchema, { files: [{ path: "a", text: "" }] });
    for (const file of inner.files) file.$unknown = [unknown];
    for (const [method, bytes] of [
      ["NodeService/CreateJoinToken", toBinary(CreateJoinTokenRequestSchema, outer)],
      ["ManifestService/Apply", toBinary(ApplyRequestSchema, inner)],
    ] as const) {
      const error = (await grpc(method, bytes)) as ServiceError; // as asserted
      expect([error.code, error.details]).toEqual([status.INVALID_ARGUMENT, "The request has a field that is not known here."]);
    }
  });

  it("a method that there is not, and one that is not served, answer as such", async () => {
    expect(await post("NodeService/Forget", "{}")).toMatchObject({ status: 404 });
    expect(await grpc("NodeService/Forget", new Uint8Array())).toMatchObject({ code: status.UNIMPLEMENTED });
  });

  it.each(["[", "a b", "127.0.0.1:99999"])("a host that is none (%s) hurts nobody", async (host) => {
    const { status: code } = await post("NodeService/CreateJoinToken", '{"role":"agent"}', { host });
    expect(code).toBe(400);
    expect((await post("NodeService/CreateJoinToken", '{"role":"agent"}')).status).toBe(200);
  });
});

describe("strangers", () => {
  it("learn nothing, in JSON and gRPC, for methods and none", async () => {
    for (const method of ["NodeService/CreateJoinToken", "NodeService/Forget"]) {
      for (const authorization of ["", "Bearer wrong", `Basic ${TOKEN}`, `Bearer ${TOKEN} `.trim() + "x"])
        expect(await post(method, "{}", { authorization })).toMatchObject({ status: 401, value: { code: "unauthenticated" } });
    }
    const error = (await grpc("NodeService/CreateJoinToken", joinToken("agent"), metadata("wrong"))) as ServiceError; // as asserted
    expect(error.code).toBe(status.UNAUTHENTICATED);
    expect(await grpc("NodeService/Forget", new Uint8Array(), metadata("wrong"))).toMatchObject({ code: status.UNAUTHENTICATED });
  });

  it("get their answer also when they are still sending on a connection that ends with it", async () => {
    const socket = await openTls(["http/1.1"]);
    socket.write(
      "POST /sluice.admin.v1.NodeService/CreateJoinToken HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n",
    );
    const [answer] = (await once(socket, "data")) as [Buffer]; // no encoding is set
    expect(answer.toString("latin1")).toMatch(/^HTTP\/1\.1 401 /);
    await delay(50); // a connection that ended with the answer would be gone by now
    expect(socket.readableEnded).toBe(false);
    socket.write("{}");
    socket.destroy();
  });

  it("are refused before their body is read, and cut off soon after", async () => {
    const socket = await openTls(["http/1.1"]);
    socket.write(
      "POST /sluice.admin.v1.ManifestService/Apply HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{",
    );
    const [answer] = (await once(socket, "data")) as [Buffer]; // no encoding is set
    expect(answer.toString("latin1")).toMatch(/^HTTP\/1\.1 401 /);
    await once(socket, "close");
  });

  it("who send headers or a body slowly are cut off", async () => {
    const [headers, body] = [await openTls(["http/1.1"]), await openTls(["http/1.1"])];
    headers.write("POST /sluice.admin.v1.ManifestService/Apply HTTP/1.1\r\nhost: x\r\n");
    body.write(
      `POST /sluice.admin.v1.ManifestService/Apply HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{`,
    );
    headers.resume();
    body.resume();
    await Promise.all([once(headers, "close"), once(body, "close")]);

    const stream = (await openHttp2()).request({
      ":method": "POST",
      ":path": "/sluice.admin.v1.ManifestService/Apply",
      authorization: `Bearer ${TOKEN}`,
      "content-type": "application/json",
    });
    stream.on("error", () => undefined); // as above
    stream.write("{");
    await once(stream, "close");
  });
});

describe("sizes", () => {
  it("a body that is too large is refused, whether it says so or not", async () => {
    const body = JSON.stringify({ files: [{ path: "a", text: "x".repeat(BODY_BYTES_MAX) }] });
    const expected = { status: 429, value: { code: "resource_exhausted" } };
    expect(await post("ManifestService/Apply", body)).toMatchObject(expected);
    expect(await post("ManifestService/Apply", body, { "transfer-encoding": "chunked" })).toMatchObject(expected);
    const large = create(ApplyRequestSchema, { files: [{ path: "a", text: "x".repeat(BODY_BYTES_MAX) }] });
    expect(await grpc("ManifestService/Apply", toBinary(ApplyRequestSchema, large))).toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
  });

  it("compressed bodies are not taken: they could be of any size", async () => {
    expect((await post("ManifestService/Apply", "x", { "content-encoding": "gzip" })).status).toBe(501);
  });
});

describe("streams", () => {
  const question = create(ReplayRequestSchema, { id: "s" });

  it("flow at the reader's pace and end when it goes away: gRPC", async () => {
    const client = grpcClient();
    const call = client.makeServerStreamRequest(
      "/sluice.admin.v1.SessionService/Replay",
      (message: typeof question) => Buffer.from(toBinary(ReplayRequestSchema, message)),
      (bytes) => fromBinary(ReplayResponseSchema, bytes),
      question,
      metadata(),
    );
    call.on("error", () => undefined); // our own cancelling
    const [first] = (await once(call, "data")) as [{ items: unknown[] }]; // as decoded above
    expect(first.items).toEqual([{ kind: "row", atMs: 0, values: ["x".repeat(1_000), null] }]);
    call.pause();
    // Nothing more is made once all buffers between are full.
    let before = -1;
    await expect
      .poll(() => [before, (before = replayed.rows)][0] === replayed.rows, { timeout: 10_000, interval: 200 })
      .toBe(true);
    call.cancel();
    await replayed.ended.promise;
    client.close();
  });

  it("end when the reader goes away: JSON", async () => {
    const body = Buffer.from('{"id":"s"}');
    const head = Buffer.from([0, 0, 0, 0, body.length]);
    const outgoing = request(`https://127.0.0.1:${server.port}/sluice.admin.v1.SessionService/Replay`, {
      method: "POST",
      ca,
      agent: false,
      headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/connect+json" },
    });
    outgoing.on("error", () => undefined); // our own breaking off
    outgoing.end(Buffer.concat([head, body]));
    const [response] = (await once(outgoing, "response")) as [NodeJS.ReadableStream]; // of node:https
    await once(response, "data");
    outgoing.destroy();
    await replayed.ended.promise;
  });
});

describe("the end", () => {
  it("lets a call that runs finish, closes idle connections at once, and cuts what does not end", async () => {
    const own = server;
    server = await start();
    const idle = await openHttp2();
    const running = post("NodeService/ListJoinTokens", "{}");
    const silent = await openTls(["http/1.1"]);
    await entered.promise;
    const startedMs = performance.now();
    const closed = server.close();
    await once(idle, "close");
    release.resolve();
    expect(await running).toMatchObject({ status: 200 });
    await closed;
    expect(performance.now() - startedMs).toBeLessThan(4_000);
    silent.destroy();
    server = own;
  });
});
