/**
 * Remembers verified tokens by SHA-256, so that a reconnect costs one hash and not one signature check. Keeps digests and
 * principals, never tokens. Bounded: the entry that was used longest ago goes first.
 */
import type { IdentityProviderSpec } from "@sluice/core/snapshot.ts";
import type { VerifiedToken } from "./verified-token.ts";

export interface CachedToken {
  readonly verified: VerifiedToken;
  /** The provider as it was in force when the token was checked; compared by identity. */
  readonly provider: IdentityProviderSpec;
  /** Generation of the keys that checked it: other keys mean checking again. */
  readonly generation: number;
}

export interface TokenCache {
  get(digest: string): CachedToken | undefined;
  set(digest: string, entry: CachedToken): void;
  delete(digest: string): void;
}

export function createTokenCache(entriesMax: number): TokenCache {
  // A Map iterates in order of insertion: taking an entry out and putting it back makes it the youngest.
  const entries = new Map<string, CachedToken>();
  return {
    get: (digest) => {
      const entry = entries.get(digest);
      if (entry === undefined) return undefined;
      entries.delete(digest);
      entries.set(digest, entry);
      return entry;
    },
    set: (digest, entry) => {
      entries.set(digest, entry);
      if (entries.size <= entriesMax) return;
      const oldest = entries.keys().next();
      if (oldest.done !== true) entries.delete(oldest.value);
    },
    delete: (digest) => {
      entries.delete(digest);
    },
  };
}
