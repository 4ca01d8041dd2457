/**
 * The admin API on one TLS port: Connect's JSON over HTTP/1.1 (curl, the command line) and gRPC over HTTP/2, by the contracts in
 * proto/sluice/admin/v1, and health for probes. Bounded in size, time and connections; every method wants the bearer token, checked
 * before anything of the body is read. Must never write a token, a statement or an answer to the log.
 * Spec: https://connectrpc.com/docs/protocol
 */
import { createHash, timingSafeEqual } from "node:crypto";
import {
  constants,
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type SecureServerOptions,
} from "node:http2";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { ListenAddress } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Logger } from "pino";
import type { CertificateFiles } from "../interface.ts";
import { listenOn, readCertificate } from "../server.ts";
import { toConnectError } from "./connect-errors.ts";
import { convertFailures, refuseUnknownFields } from "./interceptors.ts";

export interface AdminServerOptions {
  readonly listen: ListenAddress;
  readonly certificate: CertificateFiles;
  readonly token: string;
  /** As `adminMethods` gives it. */
  readonly methods: (router: ConnectRouter) => void;
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

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;
type Handler = (request: Request, response: Response) => void;

/** People, a console and a few scripts. */
const CONNECTIONS_MAX = 256;
/** Calls of one HTTP/2 connection at a time. */
const STREAMS_MAX = 32;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const HEADERS_TIMEOUT_MS = 10_000;
/** How often connections are looked at for requests that came too late. */
const CHECK_INTERVAL_MS = 2_000;
/** Nothing at all in either direction for this long ends a connection: the longest silent call, a batch of explanations, takes less. */
const SILENCE_MS = 300_000;
/** Requests that run may finish this long after `close`. */
const CLOSE_GRACE_MS = 2_000;
/** What is left of a refused request's body is thrown away for this long. */
const LINGER_MS = 1_000;

/** Rejects with `config_invalid` when the address cannot be had. */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { limits } = options;
  const server = createSecureServer({ ...(await readCertificate(options.certificate)), ...boundsOf(limits) });
  server.maxConnections = CONNECTIONS_MAX;
  server.setTimeout(SILENCE_MS);
  const sockets = new Set<TLSSocket>();
  server.on("secureConnection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("request", handlerOf(options));
  const port = await listenOn(server, options.listen, "controlPlane.listen");
  return {
    port,
    reloadCertificate: async () => server.setSecureContext(await readCertificate(options.certificate)),
    close: () => closeServer(server, sockets),
  };
}

function boundsOf(limits: Limits): SecureServerOptions {
  const times = {
    requestTimeout: limits.adminRequestTimeoutMs,
    headersTimeout: Math.min(HEADERS_TIMEOUT_MS, limits.adminRequestTimeoutMs),
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
  };
  return {
    minVersion: "TLSv1.2",
    allowHTTP1: true,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    settings: { maxConcurrentStreams: STREAMS_MAX, enablePush: false },
    // Node takes them for HTTP/1.1, though its types do not say so; `receiveInTime` and `SILENCE_MS` are for both.
    ...times,
  };
}

function handlerOf(options: AdminServerOptions): Handler {
  const { token, limits, ready } = options;
  const authorized = authorizer(token);
  const call = callerOf(options, authorized);
  return (request, response) => {
    response.setHeader("cache-control", "no-store");
    receiveInTime(request, response, limits.adminRequestTimeoutMs);
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (path === "/healthz") {
      sendJson(response, 200, { status: "ok" });
    } else if (path === "/readyz") {
      ready().then(
        (isReady) => sendJson(response, isReady ? 200 : 503, { status: isReady ? "ready" : "not ready" }),
        () => sendJson(response, 503, { status: "not ready" }),
      );
    } else if (!call(path, request, response)) {
      // Who is not allowed in learns nothing about which methods there are.
      if (authorized(request.headers.authorization ?? null)) {
        sendJson(response, 404, { code: "unimplemented", message: "The admin API has no such method." });
      } else {
        sendJson(response, 401, { code: "unauthenticated", message: unauthorized().message });
      }
    }
  };
}

/** Answers false when there is no such method. */
function callerOf(
  { methods, limits, log }: AdminServerOptions,
  authorized: (header: string | null) => boolean,
): (path: string, request: Request, response: Response) => boolean {
  const router = createConnectRouter({
    grpcWeb: false,
    acceptCompression: [],
    readMaxBytes: limits.adminBodyBytesMax,
    jsonOptions: { ignoreUnknownFields: false, alwaysEmitImplicit: true },
    interceptors: [convertFailures(log), refuseUnknownFields],
    requestGate: ({ requestHeader, protocolName }) => {
      if (!authorized(requestHeader.get("authorization"))) throw toConnectError(unauthorized(), protocolName);
    },
  });
  methods(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (path, request, response) => {
    const handler = handlers.get(path);
    if (handler === undefined) return false;
    // Node ends a connection that is not kept alive with the answer: who still sends its body would not get it. `receiveInTime` ends it.
    if (!("stream" in request) && !authorized(request.headers.authorization ?? null) && "shouldKeepAlive" in response) {
      response.shouldKeepAlive = true;
    }
    answer(handler, request, response).catch((error: unknown) => {
      log.debug({ err: error, path }, "admin API: a call was not answered to its end");
      cut(request);
    });
    return true;
  };
}

async function answer(handler: UniversalHandler, request: Request, response: Response): Promise<void> {
  let call: ReturnType<typeof universalRequestFromNodeRequest>;
  try {
    call = universalRequestFromNodeRequest(request, response, undefined, undefined);
  } catch {
    return sendJson(response, 400, { code: "invalid_argument", message: "The request names us by what is no host." });
  }
  await universalResponseToNodeResponse(await handler(call), response);
}

/** Compares digests: they have one length, so that neither length nor content shows in the time it takes. */
function authorizer(token: string): (header: string | null) => boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digest(token);
  return (header) => timingSafeEqual(digest(/^Bearer (\S+)$/i.exec(header ?? "")?.[1] ?? ""), expected);
}

function unauthorized(): GatewayError {
  return new GatewayError("unauthorized", "The admin API wants the installation's admin token.", {
    hint: "It stands in the ready file of the running installation, as adminToken.",
  });
}

/**
 * A body that is not here in time ends its connection or stream. So does one that nobody reads to its end (a request that was
 * refused), after a moment in which it is thrown away: who cuts a sender off at once takes the answer from it.
 */
function receiveInTime(request: Request, response: Response, timeoutMs: number): void {
  let timer = setTimeout(() => cut(request), timeoutMs);
  request.once("end", () => clearTimeout(timer));
  request.once("close", () => clearTimeout(timer));
  response.once("finish", () => {
    clearTimeout(timer);
    if (request.complete || request.destroyed) return;
    timer = setTimeout(() => cut(request), LINGER_MS);
    request.resume();
  });
}

function cut(request: Request): void {
  if ("stream" in request) request.stream.close(constants.NGHTTP2_CANCEL);
  else request.socket.destroy();
}

function sendJson(response: Response, status: number, value: unknown): void {
  const text = `${JSON.stringify(value)}\n`;
  response.statusCode = status;
  response.setHeader("content-type", "application/json");
  response.setHeader("content-length", Buffer.byteLength(text));
  response.end(text);
}

/** No new connections; requests that run may finish within the grace, then their connections are cut. */
async function closeServer(server: Http2SecureServer, sockets: ReadonlySet<TLSSocket>): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  const cutAll = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, CLOSE_GRACE_MS);
  await closed;
  clearTimeout(cutAll);
}
