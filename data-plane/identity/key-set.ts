/**
 * The signing keys of one identity provider: discovered, fetched, kept, refreshed, rotated. Must never fetch because of a
 * token more often than the cooldown allows, and never accept a key from an address that the issuer did not name.
 * Specs: RFC 7517 (JWK Set), OpenID Connect Discovery 1.0 section 4.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { IdentityProviderSpec } from "@sluice/core/snapshot.ts";
import { createLocalJWKSet, type JSONWebKeySet, type LocalJWKSet } from "jose";
import type { Logger } from "pino";
import { isProtected, type KeyFetch } from "./key-fetch.ts";

/** More keys than any provider publishes; each may be tried for a token without a key id. */
const KEYS_MAX = 100;

export interface KeySetOptions {
  readonly provider: IdentityProviderSpec;
  readonly fetch: KeyFetch;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly log: Logger;
  /** Ends fetches that run. */
  readonly signal: AbortSignal;
}

/** Keys as of one fetch. `generation` changes when their content does. */
export interface Keys {
  readonly find: LocalJWKSet;
  readonly generation: number;
}

export interface KeySet {
  /** The keys in force without waiting; undefined when they must be fetched (or fetched again) first. */
  peek(): Keys | undefined;
  /** The keys in force, fetched when there are none or they are too old. Rejects when there are none to be had. */
  current(): Promise<Keys>;
  /** After a token named a key that is not in `seen`: newer keys when a fetch is due and gives some, else undefined. */
  newerThan(seen: Keys): Promise<Keys | undefined>;
}

export function createKeySet(options: KeySetOptions): KeySet {
  const { provider, clock, limits, log } = options;
  let keys: Keys | undefined;
  let content = "";
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let lookedForKeyAtMs = Number.NEGATIVE_INFINITY;
  let running: Promise<void> | undefined;

  const reload = (): Promise<void> => {
    // Callers that come while a fetch runs share it: a thousand reconnects are one request.
    running ??= load().finally(() => {
      running = undefined;
    });
    return running;
  };

  const load = async (): Promise<void> => {
    try {
      const set = await fetchKeySet(options);
      const text = JSON.stringify(set);
      if (keys === undefined || text !== content) {
        keys = { find: createLocalJWKSet(set), generation: (keys?.generation ?? 0) + 1 };
        content = text;
        log.info({ provider: provider.name, keys: set.keys.length }, "signing keys of the identity provider loaded");
      }
      fetchedAtMs = clock.monotonicMs();
      failedAtMs = Number.NEGATIVE_INFINITY;
    } catch (error) {
      failedAtMs = clock.monotonicMs();
      log.warn({ provider: provider.name, reason: reasonOf(error) }, "signing keys of the identity provider cannot be fetched");
      throw error;
    }
  };

  const ageMs = (): number => clock.monotonicMs() - fetchedAtMs;
  const retryDue = (): boolean => clock.monotonicMs() - failedAtMs >= limits.keySetRetryMs;

  return {
    peek: () => (keys !== undefined && ageMs() < limits.keySetRefreshMs ? keys : undefined),

    current: async () => {
      if (keys !== undefined && ageMs() < limits.keySetRefreshMs) return keys;
      if (running === undefined && !retryDue()) {
        if (keys !== undefined && ageMs() < limits.keySetStaleMs) return keys;
        throw new Error("the last fetch failed a moment ago");
      }
      try {
        await reload();
      } catch (error) {
        // Static stability: a provider that is down for a while must not lock everybody out.
        if (keys === undefined || ageMs() >= limits.keySetStaleMs) throw error;
      }
      if (keys === undefined) throw new Error("no keys were loaded");
      return keys;
    },

    newerThan: async (seen) => {
      if (keys !== undefined && keys.generation > seen.generation) return keys;
      if (running === undefined) {
        if (clock.monotonicMs() - lookedForKeyAtMs < limits.keySetCooldownMs) return undefined;
        lookedForKeyAtMs = clock.monotonicMs();
      }
      try {
        await reload();
      } catch {
        return undefined; // logged where it happened; the token's key stays unknown
      }
      return keys !== undefined && keys.generation > seen.generation ? keys : undefined;
    },
  };
}

async function fetchKeySet(options: KeySetOptions): Promise<JSONWebKeySet> {
  const keysUrl = options.provider.jwksUri ?? (await discoverKeysUrl(options));
  const set = await fetchJson(options, new URL(keysUrl));
  const keys = set["keys"];
  if (!Array.isArray(keys) || keys.length > KEYS_MAX) throw new Error("the key set has no list of keys, or too many");
  return { keys: keys as JSONWebKeySet["keys"] }; // each key is checked by jose when it is used
}

async function discoverKeysUrl(options: KeySetOptions): Promise<string> {
  const issuer = options.provider.issuer;
  const document = await fetchJson(options, new URL(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`));
  if (document["issuer"] !== issuer) throw new Error("the discovery document is for another issuer");
  const url = document["jwks_uri"];
  if (typeof url !== "string" || !URL.canParse(url) || !isProtected(new URL(url))) {
    throw new Error("the discovery document names no protected jwks_uri");
  }
  return url;
}

async function fetchJson(options: KeySetOptions, url: URL): Promise<Readonly<Record<string, unknown>>> {
  const { provider, limits } = options;
  const body = await options.fetch(url, {
    ...(provider.caFile === undefined ? {} : { caFile: provider.caFile }),
    ...(provider.caPem === undefined ? {} : { caPem: provider.caPem }),
    bytesMax: limits.keySetBytesMax,
    signal: AbortSignal.any([options.signal, AbortSignal.timeout(limits.keySetTimeoutMs)]),
  });
  const value: unknown = JSON.parse(body);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("the answer is no JSON object");
  return value as Record<string, unknown>; // an object by the check above
}

/** A word for the log: a code or a message of ours or of Node, never the provider's text. */
function reasonOf(error: unknown): string {
  if (error instanceof SyntaxError) return "the answer is not JSON";
  if (!(error instanceof Error)) return "unknown";
  const code = (error as NodeJS.ErrnoException).code;
  return typeof code === "string" ? code : error.message;
}
