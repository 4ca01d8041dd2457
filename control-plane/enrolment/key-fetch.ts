/**
 * Fetches the keys of a workload platform: https only (http on loopback), no redirects, bounded in bytes, the platform's own CA when
 * one is configured. For jose, which asks for a fetch of its caller's.
 */
import { readFile } from "node:fs/promises";
import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

export interface KeyFetchOptions {
  /** PEM; read at each fetch, since platforms replace it. Null: the system's authorities. */
  readonly caFile: string | null;
  /** A bearer token for this address; read at each fetch too. Null: none is sent. */
  readonly tokenFile: string | null;
  readonly bytesMax: number;
  readonly signal: AbortSignal;
}

/** The body of a 200 answer. Rejects with a plain Error that is for the log only. */
export async function fetchText(address: string, options: KeyFetchOptions): Promise<string> {
  const url = new URL(address);
  if (!isProtected(url)) throw new Error("keys are fetched over https only (http on a loopback address)");
  const ca = options.caFile === null ? undefined : await readFile(options.caFile);
  const token = options.tokenFile === null ? undefined : (await readFile(options.tokenFile, "utf8")).trim();
  const headers = { accept: "application/json", ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
  const common = { headers, agent: false as const, signal: options.signal };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing =
      url.protocol === "https:"
        ? requestHttps(url, ca === undefined ? common : { ...common, ca }, resolve)
        : requestHttp(url, common, resolve);
    outgoing.on("error", reject);
    outgoing.end();
  });
  if (response.statusCode !== 200) {
    response.destroy();
    throw new Error(`the platform answered with status ${response.statusCode}`);
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > options.bytesMax) throw new Error(`the platform's answer is larger than ${options.bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function isProtected(url: URL): boolean {
  if (url.protocol === "https:") return true;
  return url.protocol === "http:" && /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
}
