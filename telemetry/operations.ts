/**
 * Health, readiness and metrics of one process over plain HTTP, for probes and Prometheus. Answers three paths and nothing else; holds
 * no data, so it has no authentication: bind it where only the platform reaches it.
 */
import { createServer, type ServerResponse } from "node:http";
import type { ListenAddress } from "@sluice/core/config.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Logger } from "pino";
import type { Meter } from "./meter.ts";

export interface Readiness {
  readonly ready: boolean;
  /** Why not: short sentences without data. */
  readonly reasons: readonly string[];
}

export interface OperationsOptions {
  readonly listen: ListenAddress;
  readonly meter: Meter;
  readonly readiness: () => Promise<Readiness> | Readiness;
  readonly log: Pick<Logger, "info" | "warn">;
}

export interface Operations {
  /** `host:port` as bound. */
  readonly address: string;
  close(): Promise<void>;
}

/** Probes and a few scrapers. */
const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 10_000;
/** A probe that waits longer than this has its answer: no. Milliseconds. */
const READINESS_TIMEOUT_MS = 3_000;

/** Rejects with `config_invalid` when the address cannot be had. */
export async function serveOperations(options: OperationsOptions): Promise<Operations> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    respond(options, request.method ?? "", request.url ?? "", response).catch((error: unknown) => {
      options.log.warn({ err: error }, "a probe could not be answered");
      response.destroy();
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  const { host, port } = options.listen;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new GatewayError("config_invalid", `Cannot listen on ${host}:${port} for health and metrics.`, {
          cause,
          hint: "Change operations.listen in the configuration; port 0 takes any free one.",
        }),
      ),
    );
    server.listen({ host, port }, () => resolve());
  });
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new GatewayError("internal", "The listener has no address.");
  return {
    address: `${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}

async function respond(options: OperationsOptions, method: string, url: string, response: ServerResponse): Promise<void> {
  const path = url.split("?", 1)[0];
  if (method !== "GET" && method !== "HEAD") return send(response, 405, "text/plain", "GET only\n");
  switch (path) {
    case "/healthz":
      return send(response, 200, "application/json", `${JSON.stringify({ status: "ok" })}\n`);
    case "/readyz": {
      const { ready, reasons } = await withinTime(options.readiness());
      return send(
        response,
        ready ? 200 : 503,
        "application/json",
        `${JSON.stringify({ status: ready ? "ready" : "not ready", reasons })}\n`,
      );
    }
    case "/metrics":
      return send(response, 200, options.meter.contentType, await options.meter.text());
    default:
      return send(response, 404, "text/plain", "/healthz, /readyz or /metrics\n");
  }
}

async function withinTime(readiness: Promise<Readiness> | Readiness): Promise<Readiness> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Readiness>((resolve) => {
    timer = setTimeout(() => resolve({ ready: false, reasons: ["the check itself took too long"] }), READINESS_TIMEOUT_MS);
  });
  try {
    return await Promise.race([readiness, late]);
  } finally {
    clearTimeout(timer);
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body);
}
