/** Asks a process what it says to probes: whether it is ready, and why not. Needs no token and must never send one. */
import { get as getPlain, type IncomingMessage } from "node:http";
import { get as getOverTls } from "node:https";
import { text } from "node:stream/consumers";

export interface Readiness {
  readonly ready: boolean;
  /** As the process says it; may be empty. */
  readonly reasons: readonly string[];
  /** How far this machine's clock is ahead of the process's, within a second. Milliseconds; null: it did not say. */
  readonly clockAheadMs: number | null;
}

/** A process that is ready answers at once, one that is not within its own bounds. Milliseconds. */
const TIMEOUT_MS = 5_000;

/** `url` is of `/readyz`. `ca` is PEM, for HTTPS. Throws what the connection threw. */
export async function probe(url: URL, ca?: string): Promise<Readiness> {
  const askedMs = Date.now();
  const response = await get(url, ca);
  const answeredMs = Date.now();
  const { reasons } = parse(await text(response));
  // The header counts whole seconds, so its moment is in the middle of one.
  const theirsMs = Date.parse(response.headers.date ?? "") + 500;
  return {
    ready: response.statusCode === 200,
    reasons,
    clockAheadMs: Number.isNaN(theirsMs) ? null : (askedMs + answeredMs) / 2 - theirsMs,
  };
}

function get(url: URL, ca: string | undefined): Promise<IncomingMessage> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return new Promise((resolve, reject) => {
    const outgoing =
      url.protocol === "https:"
        ? getOverTls(url, { agent: false, signal, ...(ca === undefined ? {} : { ca }) }, resolve)
        : getPlain(url, { agent: false, signal }, resolve);
    outgoing.on("error", reject);
  });
}

function parse(answer: string): { readonly reasons: readonly string[] } {
  try {
    const value: unknown = JSON.parse(answer);
    const reasons: unknown = typeof value === "object" && value !== null && "reasons" in value ? value.reasons : [];
    return { reasons: Array.isArray(reasons) ? reasons.map(String) : [] };
  } catch {
    return { reasons: [] };
  }
}
