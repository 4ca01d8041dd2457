/**
 * The admin API over HTTPS: JSON in Connect's unary form (`POST /sluice.admin.v1.<Service>/<Method>`), streams as one JSON value
 * a line, health for probes. Bounded in size, time and connections; every method wants the bearer token. Must never write a
 * token, a statement or an answer to the log. Spec: https://connectrpc.com/docs/protocol
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import { once } from "node:events";
import type { ListenAddress } from "@sluice/core/config.ts";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Logger } from "pino";
import type { CertificateFiles } from "../interface.ts";
import { closeServer, listenOn, readCertificate } from "../server.ts";
import { httpStatusOf } from "./http-status.ts";
import type { Method } from "./method.ts";
import { ManifestsRefused } from "./methods.ts";

export interface AdminServerOptions {
  readonly listen: ListenAddress;
  readonly certificate: CertificateFiles;
  readonly token: string;
  readonly methods: ReadonlyMap<string, Method>;
  /** For `/readyz`. */
  readonly ready: () => Promise<boolean>;
  readonly limits: Limits;
  readonly log: Logger;
}

export interface AdminServer {
  /** The port that it got. */
  readonly port: number;
  reloadCertificate(): Promise<void>;
  close(): Promise<void>;
}

/** People, a console and a few scripts. */
const CONNECTIONS_MAX = 256;
const HEADERS_TIMEOUT_MS = 10_000;
/** Requests that run may finish this long after `close`. */
const CLOSE_GRACE_MS = 2_000;

/** Rejects with `config_invalid` when the address cannot be had. */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { limits, log } = options;
  const server: Server = createServer({
    ...(await readCertificate(options.certificate)),
    minVersion: "TLSv1.2",
    requestTimeout: limits.adminRequestTimeoutMs,
    headersTimeout: HEADERS_TIMEOUT_MS,
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.on("request", (request, response) => {
    respond(options, request, response).catch((error: unknown) => {
      log.error({ err: error }, "admin API: a response could not be finished");
      response.destroy();
    });
  });
  const port = await listenOn(server, options.listen, "controlPlane.listen");
  return {
    port,
    reloadCertificate: async () => server.setSecureContext(await readCertificate(options.certificate)),
    close: () => closeServer(server, CLOSE_GRACE_MS),
  };
}

async function respond(options: AdminServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.setHeader("cache-control", "no-store");
  try {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (path === "/healthz") return sendJson(response, 200, { status: "ok" });
    if (path === "/readyz") {
      const ready = await options.ready();
      return sendJson(response, ready ? 200 : 503, { status: ready ? "ready" : "not ready" });
    }
    // Who is not allowed in learns nothing about which methods there are.
    authorize(request, options.token);
    const method = methodOf(options, request, path);
    const body = await readJson(request, options.limits.adminBodyBytesMax);
    if (method.kind === "unary") sendJson(response, 200, await method.call(body));
    else await sendLines(response, method.call(body));
  } catch (error) {
    sendError(response, toGatewayError(error), options.log);
  }
}

function authorize(request: IncomingMessage, token: string): void {
  const given = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  // Digests have one length, so that neither length nor content shows in the time it takes.
  if (timingSafeEqual(digest(given), digest(token))) return;
  throw new GatewayError("unauthorized", "The admin API wants the installation's admin token.", {
    hint: "It stands in the ready file of the running installation, as adminToken.",
  });
}

function methodOf(options: AdminServerOptions, request: IncomingMessage, path: string): Method {
  const method = options.methods.get(path.slice(1));
  if (method === undefined) throw new GatewayError("not_found", "The admin API has no such method.");
  if (request.method !== "POST") throw new GatewayError("protocol_violation", "Methods of the admin API are called with POST.");
  if (!/^application\/json\s*(;|$)/i.test(request.headers["content-type"] ?? "")) {
    throw new GatewayError("protocol_violation", "The admin API takes Content-Type: application/json.");
  }
  return method;
}

async function readJson(request: IncomingMessage, bytesMax: number): Promise<unknown> {
  const tooLarge = (): GatewayError =>
    new GatewayError("frame_too_large", `A request of the admin API has at most ${bytesMax} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > bytesMax) throw tooLarge();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)));
  } catch (error) {
    throw new GatewayError("protocol_violation", "The request's body is not JSON in UTF-8.", { cause: error });
  }
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(value)}\n`);
}

/** The status is sent once the first value is there, so that a recording that does not exist is a plain 404. */
async function sendLines(response: ServerResponse, values: AsyncIterable<unknown>): Promise<void> {
  const iterator = values[Symbol.asyncIterator]();
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  try {
    let step = await iterator.next();
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    while (step.done !== true && !gone.signal.aborted) {
      // The reader sets the pace: a slow one must not make us hold a recording.
      if (!response.write(`${JSON.stringify(step.value)}\n`)) await once(response, "drain", { signal: gone.signal });
      step = await iterator.next();
    }
    response.end();
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    await iterator.return?.();
  }
}

function sendError(response: ServerResponse, error: GatewayError, log: Logger): void {
  if (error.code === "internal") log.error({ err: error }, "admin API: a request failed");
  const { code, message, hint } = error;
  const faults = error instanceof ManifestsRefused ? { faults: error.faults } : {};
  const answer = { code, message, ...(hint === undefined ? {} : { hint }), ...faults };
  if (response.headersSent) {
    // Too late for a status: the last line says that the stream broke off, and why.
    response.end(`${JSON.stringify({ error: answer })}\n`);
    return;
  }
  // A body that was not read to its end would be taken for the next request.
  response.setHeader("connection", "close");
  sendJson(response, httpStatusOf(code), answer);
}
