/**
 * Turns a bearer token into a principal, or says in kind what is wrong with it. Identity is the token and nothing else. Must
 * never trust a claim before the signature is checked, never accept `none` or HMAC, never echo the token or a claim of it.
 * Specs: RFC 7519 (JWT), RFC 8725 (JWT best current practice), RFC 9068 (JWT access tokens).
 */
import { createHash } from "node:crypto";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { IdentityProviderSpec } from "@sluice/core/snapshot.ts";
import { decodeJwt, errors, type JWTPayload, jwtVerify, type JWTVerifyOptions } from "jose";
import type { Logger } from "pino";
import { principalOf } from "./claims.ts";
import { type KeyFetch, fetchKeys } from "./key-fetch.ts";
import { createKeySet, type Keys, type KeySet } from "./key-set.ts";
import { refusal } from "./refusal.ts";
import { createTokenCache } from "./token-cache.ts";
import type { VerifiedToken } from "./verified-token.ts";

export type { VerifiedToken } from "./verified-token.ts";

export interface TokenVerifierOptions {
  /** The providers in force; asked at each login, so that a new snapshot counts at once. */
  readonly providers: () => readonly IdentityProviderSpec[];
  /** How keys are fetched; for tests. */
  readonly fetch?: KeyFetch;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly log: Logger;
}

export interface TokenVerifier {
  /**
   * Rejects with GatewayError `login_failed`; `detail.reason` is one of malformed, issuer, algorithm, signature, audience,
   * expired, not_yet_valid, keys_unavailable.
   */
  verify(token: string): Promise<VerifiedToken>;
  close(): void;
}

/** Signing algorithms that prove who signed: asymmetric ones alone, whatever a provider's manifest says. */
const asymmetricAlgorithm = /^(RS|PS|ES)(256|384|512)$|^EdDSA$|^Ed25519$/;
/** Keys tried for a token that names none. */
const KEYS_TRIED_MAX = 8;
/** Kinds of JWT that are credentials. Others (logout tokens, DPoP proofs, events) are signed by the same keys but say something else. */
const credentialTypes: ReadonlySet<string> = new Set(["jwt", "at+jwt", "application/at+jwt", "jose"]);

export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const { clock, limits } = options;
  const closing = new AbortController();
  const keySets = new Map<string, KeySet>();
  const cache = createTokenCache(limits.verifiedTokensMax);

  const keySetOf = (provider: IdentityProviderSpec): KeySet => {
    const key = JSON.stringify([provider.issuer, provider.jwksUri, provider.caFile, provider.caPem]);
    let keySet = keySets.get(key);
    if (keySet === undefined) {
      const { log, fetch = fetchKeys } = options;
      // Providers come and go with snapshots; forgetting all of them costs one fetch each.
      if (keySets.size > 2 * options.providers().length) keySets.clear();
      keySet = createKeySet({ provider, fetch, clock, limits, log, signal: closing.signal });
      keySets.set(key, keySet);
    }
    return keySet;
  };

  return {
    verify: async (token) => {
      if (token.length > limits.tokenBytesMax) throw refusal("malformed", "The token is too long to be one.");
      const digest = createHash("sha256").update(token).digest("base64url");
      const known = cache.get(digest);
      if (known !== undefined) {
        const keys = keySetOf(known.provider).peek();
        const stillTrusted = options.providers().includes(known.provider) && keys?.generation === known.generation;
        const inTime = clock.nowMs() < known.verified.expiresAtMs + toleranceMs(known.provider, limits);
        if (stillTrusted && inTime) return known.verified;
        cache.delete(digest);
      }
      const provider = providerOf(token, options.providers());
      const { payload, generation } = await verifySignature(token, provider, keySetOf(provider), clock, limits);
      const verified = { principal: principalOf(payload, provider), expiresAtMs: expiryOf(payload) };
      cache.set(digest, { verified, provider, generation });
      return verified;
    },
    close: () => closing.abort(),
  };
}

/** Chooses by the issuer that the token claims: a choice among configured ones, proven by the signature afterwards. */
function providerOf(token: string, providers: readonly IdentityProviderSpec[]): IdentityProviderSpec {
  let claimed: JWTPayload;
  try {
    claimed = decodeJwt(token);
  } catch (error) {
    throw refusal("malformed", "The password is not a token: a JWT of three parts is expected.", error);
  }
  const candidates = providers.filter((provider) => provider.issuer === claimed.iss);
  const audiences = Array.isArray(claimed.aud) ? claimed.aud : [claimed.aud];
  const chosen =
    candidates.find((provider) => provider.audiences.some((audience) => audiences.includes(audience))) ?? candidates[0];
  if (chosen === undefined) throw refusal("issuer", "The token comes from an issuer that is not configured here.");
  return chosen;
}

async function verifySignature(
  token: string,
  provider: IdentityProviderSpec,
  keySet: KeySet,
  clock: Clock,
  limits: Limits,
): Promise<{ payload: JWTPayload; generation: number }> {
  let keys: Keys;
  try {
    keys = await keySet.current();
  } catch (error) {
    throw refusal(
      "keys_unavailable",
      "The issuer's signing keys cannot be fetched at the moment, so the token cannot be checked.",
      error,
    );
  }
  const verifyOptions: JWTVerifyOptions = {
    issuer: provider.issuer,
    audience: [...provider.audiences],
    algorithms: provider.algorithms.filter((name) => asymmetricAlgorithm.test(name)),
    clockTolerance: toleranceMs(provider, limits) / 1000,
    currentDate: new Date(clock.nowMs()),
    requiredClaims: ["sub", "exp"],
  };
  try {
    return { payload: await verifyWith(keys, token, verifyOptions), generation: keys.generation };
  } catch (error) {
    if (!(error instanceof errors.JWKSNoMatchingKey)) throw explain(error);
  }
  // The provider may have begun to sign with a new key since we looked.
  const newer = await keySet.newerThan(keys);
  if (newer === undefined) throw refusal("signature", "The token is not signed by a key that its issuer publishes.");
  try {
    return { payload: await verifyWith(newer, token, verifyOptions), generation: newer.generation };
  } catch (error) {
    throw explain(error);
  }
}

async function verifyWith(keys: Keys, token: string, options: JWTVerifyOptions): Promise<JWTPayload> {
  const checked = (result: { payload: JWTPayload; protectedHeader: { typ?: string } }): JWTPayload => {
    const type = result.protectedHeader.typ;
    if (type !== undefined && !credentialTypes.has(type.toLowerCase())) {
      throw refusal("malformed", "The token is signed, but it is not an access or identity token.");
    }
    return result.payload;
  };
  try {
    return checked(await jwtVerify(token, keys.find, options));
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let tried = 0;
    for await (const key of error) {
      if (++tried > KEYS_TRIED_MAX) break;
      try {
        return checked(await jwtVerify(token, key, options));
      } catch (inner) {
        if (!(inner instanceof errors.JWSSignatureVerificationFailed)) throw inner;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** Says what a failed check means, in kind. jose's own text is kept as the private cause. */
function explain(error: unknown): GatewayError {
  if (error instanceof errors.JWTExpired) return refusal("expired", "The token has expired.", error);
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === "aud") return refusal("audience", "The token was issued for another audience.", error);
    if (error.claim === "nbf" && error.reason === "check_failed") {
      return refusal("not_yet_valid", "The token is not valid yet.", error);
    }
    if (error.claim === "iss") return refusal("issuer", "The token comes from an issuer that is not configured here.", error);
    return refusal("malformed", "The token lacks a claim that is needed (sub, exp), or one has the wrong form.", error);
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return refusal("algorithm", "The token is signed with an algorithm that is not accepted for its issuer.", error);
  }
  if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSNoMatchingKey) {
    return refusal("signature", "The token is not signed by a key that its issuer publishes.", error);
  }
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) {
    return refusal("malformed", "The password is not a token: a JWT of three parts is expected.", error);
  }
  if (error instanceof GatewayError) return error;
  // A published key that cannot be used, or a form of token that jose does not support.
  return refusal("signature", "The token's signature cannot be checked with the keys that its issuer publishes.", error);
}

function expiryOf(payload: JWTPayload): number {
  const expiresAtMs = (payload.exp ?? 0) * 1000;
  if (!Number.isFinite(expiresAtMs)) throw refusal("malformed", "The token's exp is not a time.");
  return expiresAtMs;
}

function toleranceMs(provider: IdentityProviderSpec, limits: Limits): number {
  return provider.clockToleranceMs ?? limits.tokenClockToleranceMs;
}
