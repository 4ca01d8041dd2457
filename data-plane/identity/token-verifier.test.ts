/** Every way in which a token can be wrong, against a real HTTPS key server that this test runs; and that a good one gets in. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { defaultLimits } from "@sluice/core/limits.ts";
import type { IdentityProviderSpec } from "@sluice/core/snapshot.ts";
import { exportJWK, exportSPKI, generateKeyPair, type GenerateKeyPairResult, type JWK, SignJWT } from "jose";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openTestAuthorityFiles } from "../../control-plane/ca/testing.ts";
import { createTokenVerifier, type TokenVerifier } from "./token-verifier.ts";

const log = pino({ level: "silent" });
let server: Server;
let provider: IdentityProviderSpec;
let published: JWK[] = [];
let requests: string[] = [];
let answering = true;
let keyA: GenerateKeyPairResult;
let keyB: GenerateKeyPairResult;
let jwkA: JWK;
let jwkB: JWK;
let nowMs = 0;
let monotonicMs = 0;
const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => monotonicMs };
let verifier: TokenVerifier;

beforeAll(async () => {
  const directory = mkdtempSync(join(tmpdir(), "sluice-verifier-"));
  const authority = await openTestAuthorityFiles(directory);
  const { certFile, keyFile } = await authority.issueServerCertificate({ name: "idp", hosts: ["127.0.0.1"] });
  server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (request, response) => {
    requests.push(request.url ?? "");
    const base = provider.issuer;
    if (!answering) response.writeHead(503).end();
    else if (request.url === "/.well-known/openid-configuration") {
      response.end(JSON.stringify({ issuer: base, jwks_uri: `${base}/keys` }));
    } else response.end(JSON.stringify({ keys: published }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  provider = {
    name: "idp",
    issuer: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, // listening on TCP, so not a pipe name
    audiences: ["sluice", "other-name"],
    algorithms: ["ES256", "RS256", "HS256", "none"],
    caFile: authority.caFile,
    groupsClaim: "groups",
  };
  keyA = await generateKeyPair("ES256", { extractable: true });
  keyB = await generateKeyPair("ES256", { extractable: true });
  jwkA = { ...(await exportJWK(keyA.publicKey)), kid: "a", alg: "ES256" };
  jwkB = { ...(await exportJWK(keyB.publicKey)), kid: "b", alg: "ES256" };
});

afterAll(() => server.close());

beforeEach(() => {
  published = [jwkA];
  requests = [];
  answering = true;
  nowMs = Date.now();
  monotonicMs = 1_000_000;
  verifier = createTokenVerifier({ providers: () => [provider], clock, limits: defaultLimits, log });
});

interface TokenParts {
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
  readonly key?: GenerateKeyPairResult["privateKey"] | Uint8Array;
}

async function token({ claims = {}, header = {}, key = keyA.privateKey }: TokenParts = {}): Promise<string> {
  const nowSeconds = Math.floor(nowMs / 1000);
  const payload = {
    iss: provider.issuer,
    aud: "sluice",
    sub: "ada",
    iat: nowSeconds,
    nbf: nowSeconds,
    exp: nowSeconds + 600,
    ...claims,
  };
  return await new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid: "a", ...header }).sign(key);
}

function unsigned(header: object, claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part(header)}.${part(claims)}.`;
}

async function refusalOf(text: string): Promise<GatewayError> {
  const error: unknown = await verifier.verify(text).catch((thrown: unknown) => thrown);
  if (!(error instanceof GatewayError)) throw new Error("the token was accepted", { cause: error });
  expect(error.code).toBe("login_failed");
  expect(error.message).not.toContain(text.slice(0, 20));
  return error;
}

describe("a good token", () => {
  it("becomes a principal with everything from its claims", async () => {
    const text = await token({
      claims: { groups: ["agents", "agents", "dev"], sluice_kind: "agent", sluice_owner: "grace", sluice_task: "T-1", team: "x" },
    });
    const verified = await verifier.verify(text);
    expect(verified.expiresAtMs).toBe((Math.floor(nowMs / 1000) + 600) * 1000);
    expect(verified.principal).toMatchObject({
      subject: "ada",
      issuer: provider.issuer,
      groups: ["agents", "dev"],
      kind: "agent",
      owner: "grace",
      task: "T-1",
    });
    expect(verified.principal.claims["team"]).toBe("x");
  });

  it("without groups has none; one group as text is one; the kind is user", async () => {
    const bare = await verifier.verify(await token());
    expect(bare.principal).toMatchObject({ groups: [], kind: "user", owner: "", task: "" });
    expect((await verifier.verify(await token({ claims: { groups: "dba" } }))).principal.groups).toEqual(["dba"]);
  });

  it("may name one of several audiences and be an access token by type", async () => {
    const text = await token({ claims: { aud: ["x", "other-name"] }, header: { typ: "at+jwt" } });
    expect((await verifier.verify(text)).principal.subject).toBe("ada");
  });

  it("without a key id is tried with every published key", async () => {
    published = [jwkB, jwkA];
    expect((await verifier.verify(await token({ header: { kid: undefined } }))).principal.subject).toBe("ada");
  });
});

describe("a wrong token is refused in kind", () => {
  it.each<[string, TokenParts]>([
    ["expired", { claims: { exp: 1_000 } }],
    ["not_yet_valid", { claims: { nbf: 99_999_999_999, exp: 99_999_999_999 } }],
    ["audience", { claims: { aud: "somebody-else" } }],
    ["audience", { claims: { aud: undefined } }],
    ["issuer", { claims: { iss: "https://evil.example" } }],
    ["issuer", { claims: { iss: undefined } }],
    ["malformed", { claims: { exp: undefined } }],
    ["malformed", { claims: { exp: "tomorrow" } }],
    ["malformed", { claims: { sub: undefined } }],
    ["malformed", { claims: { sub: "" } }],
    ["malformed", { claims: { sub: "a\nb" } }],
    ["malformed", { claims: { groups: [1] } }],
    ["malformed", { claims: { groups: { a: true } } }],
    ["malformed", { claims: { sluice_owner: 7 } }],
    ["malformed", { header: { typ: "logout+jwt" } }],
  ])("%s %#", async (reason, parts) => {
    const error = await refusalOf(await token(parts));
    expect(error.detail).toEqual({ reason });
    expect(error.hint).toBeTruthy();
  });

  it("accepts an issuer's clock that is 20 s apart, not one that is 40 s apart; the built-in issuer's not at all", async () => {
    const late = await token({ claims: { exp: Math.floor(nowMs / 1000) - 20 } });
    expect((await verifier.verify(late)).principal.subject).toBe("ada");
    expect((await refusalOf(await token({ claims: { exp: Math.floor(nowMs / 1000) - 40 } }))).detail).toEqual({
      reason: "expired",
    });
    const exact = { ...provider, clockToleranceMs: 0 };
    verifier = createTokenVerifier({ providers: () => [exact], clock, limits: defaultLimits, log });
    expect((await refusalOf(late)).detail).toEqual({ reason: "expired" });
  });

  it("alg none, with and without letter tricks", async () => {
    const claims = { iss: provider.issuer, aud: "sluice", sub: "ada", exp: Math.floor(nowMs / 1000) + 600 };
    for (const alg of ["none", "None", "NONE"]) {
      expect((await refusalOf(unsigned({ alg }, claims))).detail).toEqual({ reason: "algorithm" });
    }
  });

  it("HS256 made with the public key as the secret", async () => {
    const secret = new TextEncoder().encode(await exportSPKI(keyA.publicKey));
    const text = await token({ header: { alg: "HS256" }, key: secret });
    expect((await refusalOf(text)).detail).toEqual({ reason: "algorithm" });
  });

  it("signed by a stranger under a known key id, or with a changed payload", async () => {
    expect((await refusalOf(await token({ key: keyB.privateKey }))).detail).toEqual({ reason: "signature" });
    const [head, , signature] = (await token()).split(".");
    const [, payload] = (await token({ claims: { sub: "root" } })).split(".");
    expect((await refusalOf(`${head}.${payload}.${signature}`)).detail).toEqual({ reason: "signature" });
  });

  it.each(["", "hunter2", "a.b.c", "....", "{}", "x".repeat(20_000)])("not a token: %#", async (text) => {
    const error: unknown = await verifier.verify(text).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "login_failed", detail: { reason: "malformed" } });
  });
});

describe("keys", () => {
  it("are fetched once for many tokens, and a verified token needs none of it", async () => {
    const texts = await Promise.all(["a", "b", "c"].map((sub) => token({ claims: { sub } })));
    await Promise.all(texts.map((text) => verifier.verify(text)));
    const again = await verifier.verify(texts[0] as string); // three were made above
    expect(again.principal.subject).toBe("a");
    expect(requests).toEqual(["/.well-known/openid-configuration", "/keys"]);
  });

  it("rotate: an unknown key id fetches again, at most once per cooldown", async () => {
    await verifier.verify(await token());
    published = [jwkA, jwkB];
    const rotated = await token({ key: keyB.privateKey, header: { kid: "b" } });
    expect((await verifier.verify(rotated)).principal.subject).toBe("ada");
    const fetched = requests.length;
    for (const kid of ["x", "y", "z"]) {
      expect((await refusalOf(await token({ header: { kid } }))).detail).toEqual({ reason: "signature" });
    }
    expect(requests.length).toBe(fetched);
    monotonicMs += defaultLimits.keySetCooldownMs;
    await refusalOf(await token({ header: { kid: "x" } }));
    expect(requests.length).toBe(fetched + 2);
  });

  it("that were withdrawn stop being accepted after the refresh, also for a remembered token", async () => {
    const text = await token();
    await verifier.verify(text);
    published = [jwkB];
    await verifier.verify(text);
    monotonicMs += defaultLimits.keySetRefreshMs;
    expect((await refusalOf(text)).detail).toEqual({ reason: "signature" });
  });

  it("outlive a provider that is down, but not for ever; without any the reason says so and nobody hammers", async () => {
    await verifier.verify(await token());
    answering = false;
    monotonicMs += defaultLimits.keySetRefreshMs;
    expect((await verifier.verify(await token())).principal.subject).toBe("ada");
    monotonicMs += defaultLimits.keySetStaleMs;
    expect((await refusalOf(await token())).detail).toEqual({ reason: "keys_unavailable" });
    const fetched = requests.length;
    await refusalOf(await token());
    expect(requests.length).toBe(fetched);
    answering = true;
    monotonicMs += defaultLimits.keySetRetryMs;
    expect((await verifier.verify(await token())).principal.subject).toBe("ada");
  });

  it("are not taken from a server whose certificate another CA signed, nor over plain http", async () => {
    const { caFile: _removed, ...withoutCa } = provider;
    verifier = createTokenVerifier({ providers: () => [withoutCa], clock, limits: defaultLimits, log });
    expect((await refusalOf(await token())).detail).toEqual({ reason: "keys_unavailable" });
    const plain = { ...provider, jwksUri: "http://idp.example/keys" };
    verifier = createTokenVerifier({ providers: () => [plain], clock, limits: defaultLimits, log });
    expect((await refusalOf(await token())).detail).toEqual({ reason: "keys_unavailable" });
  });

  it("larger than the bound are not read", async () => {
    published = Array.from({ length: 50 }, (_, at) => ({ ...jwkA, kid: `${at}` }));
    verifier = createTokenVerifier({
      providers: () => [provider],
      clock,
      limits: { ...defaultLimits, keySetBytesMax: 2_000 },
      log,
    });
    expect((await refusalOf(await token())).detail).toEqual({ reason: "keys_unavailable" });
  });
});

it("a remembered token ends with its own time, and with its provider", async () => {
  let providers: IdentityProviderSpec[] = [provider];
  verifier = createTokenVerifier({ providers: () => providers, clock, limits: defaultLimits, log });
  const text = await token();
  await verifier.verify(text);
  providers = [{ ...provider, audiences: ["new-audience"] }];
  expect((await refusalOf(text)).detail).toEqual({ reason: "audience" });
  providers = [];
  expect((await refusalOf(text)).detail).toEqual({ reason: "issuer" });
  providers = [provider];
  await verifier.verify(text);
  nowMs += 700_000;
  expect((await refusalOf(text)).detail).toEqual({ reason: "expired" });
});

it("a provider's files are read from disk at each fetch", async () => {
  const caFile = join(mkdtempSync(join(tmpdir(), "sluice-verifier-")), "ca.pem");
  writeFileSync(caFile, "not a certificate");
  verifier = createTokenVerifier({ providers: () => [{ ...provider, caFile }], clock, limits: defaultLimits, log });
  expect((await refusalOf(await token())).detail).toEqual({ reason: "keys_unavailable" });
});
