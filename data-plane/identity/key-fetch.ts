/**
 * One bounded GET to an identity provider: https only (http on loopback), no redirects, no cookies, the provider's own CA.
 * Must never send anything about a caller, and never return more than the given bytes.
 */
import { readFile } from "node:fs/promises";
import { request as requestHttp, type IncomingMessage, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";

export interface KeyFetchOptions {
  /** PEM file of the CA that the provider's certificate must chain to; the system's CAs when absent. Read at each call. */
  readonly caFile?: string;
  /** The same as text; goes before the file. */
  readonly caPem?: string;
  readonly bytesMax: number;
  readonly signal: AbortSignal;
}

/** Returns the body of a 200 answer. Rejects with a plain Error for anything else; its message is for the log only. */
export type KeyFetch = (url: URL, options: KeyFetchOptions) => Promise<string>;

export const fetchKeys: KeyFetch = async (url, options) => {
  if (!isProtected(url)) throw new Error("keys are fetched over https only (http on a loopback address)");
  const ca = options.caPem ?? (options.caFile === undefined ? undefined : await readFile(options.caFile));
  const requestOptions: RequestOptions = {
    method: "GET",
    headers: { accept: "application/json" },
    signal: options.signal,
    agent: false,
  };
  return await new Promise<string>((resolve, reject) => {
    const onResponse = (response: IncomingMessage): void => {
      readBody(response, options.bytesMax).then(resolve, reject);
    };
    const request =
      url.protocol === "https:"
        ? requestHttps(url, ca === undefined ? requestOptions : { ...requestOptions, ca }, onResponse)
        : requestHttp(url, requestOptions, onResponse);
    request.on("error", reject);
    request.end();
  });
};

/** True for https, and for http to this very machine (nobody stands between). */
export function isProtected(url: URL): boolean {
  if (url.protocol === "https:") return true;
  return url.protocol === "http:" && /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
}

async function readBody(response: IncomingMessage, bytesMax: number): Promise<string> {
  if (response.statusCode !== 200) {
    response.destroy();
    throw new Error(`the provider answered with status ${response.statusCode}`);
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      response.destroy();
      throw new Error(`the provider's answer is larger than ${bytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
