/**
 * One JSON request to a server of secrets, with a deadline and a bound. Redirects are not followed: they could lead elsewhere.
 * Never puts a header or a body into an error.
 */
import { readFile } from "node:fs/promises";
import { Agent as HttpAgent, type IncomingMessage, request as httpRequest, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { GatewayError } from "@sluice/core/errors.ts";

export interface JsonServer {
  /** For people: `Vault server default`. */
  readonly name: string;
  /** https://host:port, or http on loopback. */
  readonly address: string;
  /** PEM; read again at each request. Null: the system's. */
  readonly caFile: string | null;
  readonly timeoutMs: number;
  readonly answerBytesMax: number;
}

export interface JsonRequest {
  readonly method: "GET" | "PUT" | "POST";
  /** Encoded already. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Ends it sooner than its deadline. */
  readonly signal?: AbortSignal;
}

export interface JsonAnswer {
  readonly status: number;
  /** Undefined where the body is no JSON. */
  readonly body: unknown;
}

export interface JsonClient {
  /** Resolves with any answer but a redirect. Throws GatewayError `secret_unavailable` where there is none. */
  send(request: JsonRequest): Promise<JsonAnswer>;
  close(): void;
}

/** Connections are kept between requests. */
export function createJsonClient(server: JsonServer): JsonClient {
  const secure = server.address.startsWith("https:");
  const sockets = { keepAlive: true, keepAliveMsecs: 1_000, maxSockets: 8, timeout: server.timeoutMs };
  const agent = secure ? new HttpsAgent(sockets) : new HttpAgent(sockets);
  return {
    send: async (request) => {
      const deadline = AbortSignal.timeout(server.timeoutMs);
      const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal]);
      const ca = secure && server.caFile !== null ? await readAuthority(server.caFile, server.name) : undefined;
      const body = request.body === undefined ? undefined : JSON.stringify(request.body);
      const options: RequestOptions & { readonly ca?: string } = {
        agent,
        signal,
        method: request.method,
        headers: {
          ...request.headers,
          accept: "application/json",
          ...(body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
        },
        ...(ca === undefined ? {} : { ca }),
      };
      try {
        const answer = await exchange(new URL(request.path, server.address), options, body);
        const text = await readBounded(answer, server.answerBytesMax);
        return { status: answer.statusCode ?? 0, body: parsed(text) };
      } catch (cause) {
        throw deadline.aborted ? tooSlow(server) : unreachable(server, cause);
      }
    },
    close: () => agent.destroy(),
  };
}

function exchange(url: URL, options: RequestOptions, body: string | undefined, isRetry = false): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = url.protocol === "https:" ? httpsRequest(url, options) : httpRequest(url, options);
  request.once("error", (error: NodeJS.ErrnoException) => {
    // A kept connection that the server closes just now tells nothing about the server.
    if (request.reusedSocket && error.code === "ECONNRESET" && !isRetry) resolve(exchange(url, options, body, true));
    else reject(error);
  });
  request.once("response", resolve);
  request.end(body);
  return promise;
}

async function readBounded(answer: IncomingMessage, bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    const part = chunk as Buffer; // no encoding is set, so chunks are buffers
    bytes += part.length;
    if (bytes > bytesMax) throw new Error("the answer is too long");
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** What the parser would say of a text that is no JSON repeats the text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

async function readAuthority(path: string, server: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new GatewayError("secret_unavailable", `The agent cannot read ${path}, the CA of its ${server}.`, {
      hint: "Check caFile in the agent's configuration, and that the agent's account may read it.",
      cause,
    });
  }
}

function tooSlow({ name, timeoutMs }: JsonServer): GatewayError {
  return new GatewayError("secret_unavailable", `The agent's ${name} did not answer within ${timeoutMs} ms.`, {
    hint: "Check that it runs and is not overloaded, and that nothing between drops packets.",
  });
}

function unreachable({ name, address }: JsonServer, cause: unknown): GatewayError {
  if (cause instanceof GatewayError) return cause;
  return new GatewayError("secret_unavailable", `The agent cannot reach its ${name}.`, {
    hint: `Check that ${address} is its address, that it runs, and that caFile holds the CA of its certificate.`,
    cause: describe(cause),
  });
}

/** Connection and TLS errors tell addresses and certificates; anything else is told by its kind alone. */
function describe(cause: unknown): Error {
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
  if (cause instanceof Error && cause.message === "the answer is too long") return cause;
  return new Error(code === undefined ? "the connection failed" : `the connection failed: ${code}`);
}
