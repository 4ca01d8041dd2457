/**
 * Says whether a workload's own token (a JWT of Kubernetes, a CI or a cloud) may enrol a node: issuer, audience, time and signature,
 * then exactly the configured claims. Nothing of the token is believed before its signature is, and none of it reaches a log.
 * Specs: RFC 7519, RFC 8725; OpenID Connect Discovery 1.0 where no address of the keys is configured.
 */
import type { Clock } from "@sluice/core/clock.ts";
import type { WorkloadEnrolment } from "@sluice/core/config.ts";
import type { Limits } from "@sluice/core/limits.ts";
import { createRemoteJWKSet, customFetch, decodeJwt, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import type { EnrollingRole } from "../api/services.ts";
import { fetchText } from "./key-fetch.ts";
import { refuse, refuseStranger } from "./refusal.ts";

export type WorkloadLimits = Pick<
  Limits,
  "tokenBytesMax" | "tokenClockToleranceMs" | "keySetTimeoutMs" | "keySetBytesMax" | "keySetRefreshMs" | "keySetCooldownMs"
>;

export interface WorkloadVerifierOptions {
  readonly workloads: readonly WorkloadEnrolment[];
  readonly clock: Clock;
  readonly limits: WorkloadLimits;
}

export interface WorkloadVerifier {
  /** The workload that may enrol a node of this role and name. Throws a Refusal. */
  verify(token: string, wanted: { readonly role: EnrollingRole; readonly name: string }): Promise<WorkloadEnrolment>;
}

/** Asymmetric ones; never `none`, never HMAC with a key that many know. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

export function createWorkloadVerifier(options: WorkloadVerifierOptions): WorkloadVerifier {
  const { workloads, clock, limits } = options;
  const keySets = new Map<string, JWTVerifyGetKey>();
  const keysOf = (workload: WorkloadEnrolment): JWTVerifyGetKey => {
    const key = JSON.stringify([workload.issuer, workload.jwksUri, workload.caFile, workload.tokenFile]);
    const known = keySets.get(key) ?? keySource(workload, limits);
    keySets.set(key, known);
    return known;
  };

  return {
    verify: async (token, { role, name }) => {
      if (token.length > limits.tokenBytesMax) throw refuseStranger("the workload token is larger than any real one");
      const issuer = issuerOf(token);
      const candidates = workloads.filter((workload) => workload.issuer === issuer);
      if (candidates.length === 0) throw refuseStranger("no workloads of this token's issuer are configured");
      const verified: { workload: WorkloadEnrolment; payload: JWTPayload }[] = [];
      let failure: unknown;
      for (const workload of candidates) {
        try {
          const { payload } = await jwtVerify(token, keysOf(workload), {
            issuer: workload.issuer,
            audience: workload.audience,
            algorithms,
            requiredClaims: ["exp"],
            clockTolerance: limits.tokenClockToleranceMs / 1_000,
            currentDate: new Date(clock.nowMs()),
          });
          verified.push({ workload, payload });
        } catch (error) {
          failure = error;
        }
      }
      if (verified.length === 0) throw refuseStranger(`the workload token does not verify (${reasonOf(failure)})`);
      return choose(verified, role, name);
    },
  };
}

/** From here on the token is genuine, so its holder is told. */
function choose(
  verified: readonly { readonly workload: WorkloadEnrolment; readonly payload: JWTPayload }[],
  role: EnrollingRole,
  name: string,
): WorkloadEnrolment {
  const hint = "controlPlane.workloads of the control plane's configuration says which workloads enrol which nodes.";
  const claimed = verified.filter(({ workload: { claims }, payload }) => {
    const wanted = Object.entries(claims);
    // Without a claim every token of the issuer would do: a workload that names none enrols nobody.
    return wanted.length > 0 && wanted.every(([claim, value]) => Object.hasOwn(payload, claim) && payload[claim] === value);
  });
  if (claimed.length === 0) throw refuse("This workload's claims are not those of a workload that may enrol nodes.", hint);
  const ofRole = claimed.filter(({ workload }) => workload.role === role);
  if (ofRole.length === 0) {
    const [first] = claimed;
    throw refuse(`This workload enrols nodes of the role ${first?.workload.role}, not ${role}.`, hint);
  }
  const named = ofRole.find(({ workload }) => name.startsWith(workload.namePrefix));
  if (named === undefined)
    throw refuse(`This workload enrols nodes whose names begin with ${ofRole[0]?.workload.namePrefix}.`, hint);
  return named.workload;
}

function issuerOf(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    throw refuseStranger("the workload token is no JWT");
  }
}

/** Keys are fetched when first needed; a discovery that failed is tried again at the next token. */
function keySource({ issuer, jwksUri, caFile, tokenFile }: WorkloadEnrolment, limits: WorkloadLimits): JWTVerifyGetKey {
  const fetchWith = async (address: string, signal: AbortSignal): Promise<string> => {
    // To the configured address alone: what is discovered, others may have written.
    const ours = jwksUri !== null && address === new URL(jwksUri).href ? (tokenFile ?? null) : null;
    return await fetchText(address, { caFile, tokenFile: ours, bytesMax: limits.keySetBytesMax, signal });
  };
  const open = (address: string): JWTVerifyGetKey =>
    createRemoteJWKSet(new URL(address), {
      timeoutDuration: limits.keySetTimeoutMs,
      cooldownDuration: limits.keySetCooldownMs,
      cacheMaxAge: limits.keySetRefreshMs,
      [customFetch]: async (url, { signal }) => new Response(await fetchWith(url, signal), { status: 200 }),
    });
  let keys: JWTVerifyGetKey | undefined = jwksUri === null ? undefined : open(jwksUri);
  return async (header, token) => {
    keys ??= open(await discover(issuer, (address) => fetchWith(address, AbortSignal.timeout(limits.keySetTimeoutMs))));
    return await keys(header, token);
  };
}

async function discover(issuer: string, fetchDocument: (address: string) => Promise<string>): Promise<string> {
  const text = await fetchDocument(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  const document: unknown = JSON.parse(text);
  if (typeof document !== "object" || document === null) throw new Error("the discovery document is no object");
  const { issuer: said, jwks_uri: address } = document as Readonly<Record<string, unknown>>; // an object, both fields checked below
  if (said !== issuer || typeof address !== "string")
    throw new Error("the discovery document is another issuer's, or names no keys");
  return address;
}

/** A code of jose or of the fetch: never text of the token. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTClaimValidationFailed) return `${error.code}: ${error.claim} ${error.reason}`;
  if (error instanceof errors.JOSEError) return error.code;
  return error instanceof Error ? error.message : "unknown";
}
