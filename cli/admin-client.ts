/**
 * Client of the admin API: HTTPS with the installation's CA, JSON in Connect's unary form
 * (`POST /sluice.admin.v1.<Service>/<Method>`, https://connectrpc.com/docs/protocol). It must never send the token to a server
 * whose certificate the CA does not verify, and never over plain HTTP.
 */
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { createInterface } from "node:readline";
import { GatewayError } from "@sluice/core/errors.ts";

export interface AdminAddress {
  /** `https://host:port`. */
  readonly url: string;
  readonly token: string;
  /** PEM text of the CA; the system's authorities when absent. */
  readonly ca?: string;
  /** What to do when nothing answers. */
  readonly unreachableHint: string;
}

/** A fault in something that was handed in, at its place. */
export interface AdminFault {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

/** What the API answered instead of a result. `code` is one of core's codes or a newer one. */
export class AdminError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly faults: readonly AdminFault[];

  constructor(code: string, message: string, hint: string | undefined, faults: readonly AdminFault[]) {
    super(message);
    this.name = "AdminError";
    this.code = code;
    this.hint = hint;
    this.faults = faults;
  }
}

export interface AdminClient {
  /** Calls `<Service>/<Method>`; returns the JSON answer. Throws AdminError (refused) or GatewayError (nobody there). */
  call(method: string, body: Readonly<Record<string, unknown>>): Promise<unknown>;
  /** The same for methods that answer one JSON value a line. */
  stream(method: string, body: Readonly<Record<string, unknown>>): AsyncGenerator;
}

/** Silence for this long ends a call: the first explanation may wait 10 s for a catalog and 5 s for a parse. Milliseconds. */
const IDLE_TIMEOUT_MS = 60_000;
/** Answers of unary calls; a list of all sessions is the largest. Bytes. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

export function createAdminClient(address: AdminAddress): AdminClient {
  return {
    call: async (method, body) => {
      const response = await post(address, method, body);
      const text = await readText(response);
      if (response.statusCode !== 200) throw toAdminError(response.statusCode ?? 0, text);
      return parseJson(text);
    },
    stream: async function* (method, body) {
      const response = await post(address, method, body);
      if (response.statusCode !== 200) throw toAdminError(response.statusCode ?? 0, await readText(response));
      yield* readLines(response);
    },
  };
}

async function* readLines(response: IncomingMessage): AsyncGenerator {
  const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY });
  try {
    for await (const line of lines) {
      if (line.trim() === "") continue;
      const value = parseJson(line);
      const failure = errorInStream(value);
      if (failure !== undefined) throw failure;
      yield value;
    }
    if (!response.complete) throw brokenOff();
  } finally {
    response.destroy();
  }
}

/** A stream that has begun can only report a late failure as a line `{"error":{code,message}}`. */
function errorInStream(value: unknown): AdminError | undefined {
  const error = isRecord(value) && !("kind" in value) ? value["error"] : undefined;
  return isRecord(error) ? parseAdminError(error, 500) : undefined;
}

function post(address: AdminAddress, method: string, body: Readonly<Record<string, unknown>>): Promise<IncomingMessage> {
  const url = new URL(`/sluice.admin.v1.${method}`, address.url);
  const payload = Buffer.from(JSON.stringify(body));
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        method: "POST",
        agent: false,
        ...(address.ca === undefined ? {} : { ca: address.ca }),
        timeout: IDLE_TIMEOUT_MS,
        headers: {
          authorization: `Bearer ${address.token}`,
          "content-type": "application/json",
          "content-length": payload.byteLength,
          "connect-protocol-version": "1",
        },
      },
      resolve,
    );
    outgoing.on("timeout", () =>
      outgoing.destroy(new GatewayError("internal", `${url.origin} did not answer within ${IDLE_TIMEOUT_MS / 1000} seconds.`)),
    );
    outgoing.on("error", (error) => reject(error instanceof GatewayError ? error : explainFailure(error, url, address)));
    outgoing.end(payload);
  });
}

function explainFailure(error: NodeJS.ErrnoException, url: URL, address: AdminAddress): GatewayError {
  const code = error.code ?? "";
  if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "ECONNRESET" || code === "EHOSTUNREACH") {
    return new GatewayError("not_found", `Nothing answers at ${url.origin}.`, { hint: address.unreachableHint, cause: error });
  }
  if (code.includes("CERT") || code.includes("SIGNATURE") || code.includes("ISSUER") || code.includes("ALTNAME")) {
    return new GatewayError("unauthorized", `The certificate of ${url.origin} was not accepted (${code}).`, {
      hint: "Give the installation's CA with --ca-file, or use the ready file of the running installation.",
      cause: error,
    });
  }
  return new GatewayError("internal", `The call to ${url.origin} failed (${code === "" ? "no code" : code}).`, { cause: error });
}

async function readText(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response) {
    const chunk = part as Buffer; // no encoding is set, so the stream gives buffers
    bytes += chunk.byteLength;
    if (bytes > ANSWER_BYTES_MAX) throw new GatewayError("frame_too_large", "The answer is larger than this command can take.");
    parts.push(chunk);
  }
  if (!response.complete) throw brokenOff();
  return Buffer.concat(parts).toString("utf8");
}

function brokenOff(): GatewayError {
  return new GatewayError("internal", "The answer broke off before its end.", {
    hint: "Is the installation shutting down? Try again.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new GatewayError("internal", "The answer is not JSON: this is not the admin API of Sluice.", { cause: error });
  }
}

function toAdminError(status: number, text: string): AdminError {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  return parseAdminError(isRecord(value) ? value : {}, status);
}

function parseAdminError(value: Readonly<Record<string, unknown>>, status: number): AdminError {
  const { code, message, hint, faults } = value;
  return new AdminError(
    typeof code === "string" ? code : "internal",
    typeof message === "string" ? message : `The admin API answered with HTTP status ${status}.`,
    typeof hint === "string" ? hint : undefined,
    Array.isArray(faults) ? faults.map((fault) => parseFault(fault)) : [],
  );
}

function parseFault(value: unknown): AdminFault {
  const fault = isRecord(value) ? value : {};
  return {
    file: typeof fault["file"] === "string" ? fault["file"] : "",
    line: typeof fault["line"] === "number" ? fault["line"] : 0,
    message: typeof fault["message"] === "string" ? fault["message"] : "",
  };
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
