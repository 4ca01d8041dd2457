/**
 * An OpenID provider for development and demonstrations, built in: standard discovery and keys, so that the gateway checks its
 * tokens like those of any issuer. It listens on 127.0.0.1 alone. Tokens are made only for a client whose secret never leaves
 * this process; nobody can log in here. Must never run where `developmentIssuer` is off.
 * Specs: OpenID Connect Discovery 1.0, RFC 6749 section 4.5 (extension grants), RFC 9068 (JWT access tokens).
 */
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import type { EventEmitter } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, request } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { IdentityProviderSpec } from "@sluice/core/snapshot.ts";
import Provider, { type Configuration, errors, type JWK, type KoaContextWithOIDC, type ResourceServer } from "oidc-provider";
import type { Logger } from "pino";
import { readFileIfAny, writePrivateFile } from "../ca/private-files.ts";
import type { CertificateFiles } from "../interface.ts";
import { closeServer, listenOnRemembered, readCertificate } from "../server.ts";
import { NothingKept } from "./nothing-kept.ts";

export interface DevelopmentIssuerOptions {
  /** Keys and port are kept here, so that tokens survive a restart. */
  readonly directory: string;
  /** For 127.0.0.1. */
  readonly certificate: CertificateFiles;
  readonly caFile: string;
  readonly limits: Limits;
  readonly random: Random;
  readonly log: Logger;
}

export interface MintRequest {
  readonly subject: string;
  readonly groups: readonly string[];
  /** Further claims; none may be one that the issuer sets itself. */
  readonly claims: Readonly<Record<string, unknown>>;
  readonly ttlSeconds: number;
}

export interface DevelopmentIssuer {
  /** `https://127.0.0.1:port`. */
  readonly issuer: string;
  /** What the snapshot needs so that gateways accept its tokens. */
  readonly provider: IdentityProviderSpec;
  /** A signed JWT. Throws `config_invalid` with a sentence when the request makes no sense. */
  mint(request: MintRequest): Promise<string>;
  /** Reads the certificate's files again. */
  reloadCertificate(): Promise<void>;
  close(): Promise<void>;
}

/** Name of the identity provider in the snapshot; manifests may not take it while the issuer is on. */
export const developmentProviderName = "development";
const audience = "sluice";
const grantType = "urn:sluice:grant:development-token";
const clientId = "sluice-control-plane";
const resourceServerInfo: ResourceServer = { scope: "", audience, accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } };
/** The whole of what it serves: no login pages, no sessions. */
const servedPaths: ReadonlySet<string> = new Set(["/.well-known/openid-configuration", "/jwks", "/token"]);
/** Set by the issuer, or the groups option's business. */
const ownClaims: ReadonlySet<string> = new Set([
  "iss",
  "sub",
  "aud",
  "exp",
  "nbf",
  "iat",
  "jti",
  "client_id",
  "scope",
  "groups",
  "cnf",
]);

export async function startDevelopmentIssuer(options: DevelopmentIssuerOptions): Promise<DevelopmentIssuer> {
  const { directory, log, limits } = options;
  const signingKey = await loadOrMakeKey(join(directory, "signing-key.pem"));
  const secret = Buffer.from(options.random.bytes(32)).toString("base64url");
  const server = createServer(await readCertificate(options.certificate));
  const port = await listenOnRemembered(server, "127.0.0.1", directory);
  const issuer = `https://127.0.0.1:${port}`;
  const provider = createProvider(issuer, signingKey, secret, options.random);
  provider.on("server_error", (_context, error) => log.error({ reason: error.name }, "development issuer: unexpected fault"));
  // Koa's own event, which the provider's types leave out; without a listener Koa writes to the console.
  (provider as EventEmitter).on("error", (error: Error) =>
    log.warn({ reason: error.name }, "development issuer: request failed"),
  );
  server.on("request", onlyServed(provider.callback()));
  log.info({ issuer }, "development issuer ready: tokens for development and demonstrations only");

  return {
    issuer,
    provider: {
      name: developmentProviderName,
      issuer,
      audiences: [audience],
      algorithms: ["ES256"],
      caFile: options.caFile,
      groupsClaim: "groups",
      clockToleranceMs: 0,
    },
    mint: async (wanted) => {
      checkRequest(wanted, limits);
      const ca = await readFile(options.caFile);
      return await requestToken({ port, ca, secret, wanted });
    },
    reloadCertificate: async () => server.setSecureContext(await readCertificate(options.certificate)),
    close: () => closeServer(server, 0),
  };
}

function createProvider(issuer: string, signingKey: JWK, secret: string, random: Random): Provider {
  const configuration: Configuration = {
    adapter: NothingKept,
    jwks: { keys: [signingKey] },
    clients: [
      {
        client_id: clientId,
        client_secret: secret,
        grant_types: [grantType],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: "client_secret_basic",
      },
    ],
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    cookies: { keys: [Buffer.from(random.bytes(32)).toString("base64url")] },
    findAccount: () => undefined, // nobody has an account here: tokens are made, not logged in for
    ttl: { AccessToken: (context) => wantedOf(context).ttlSeconds },
    extraTokenClaims: (context) => ({ ...wantedOf(context).claims, groups: wantedOf(context).groups }),
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      userinfo: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => `urn:${audience}`,
        useGrantedResource: () => true,
        getResourceServerInfo: () => resourceServerInfo,
      },
    },
  };
  const provider = new Provider(issuer, configuration);
  provider.registerGrantType(
    grantType,
    async (context) => {
      const { client } = context.oidc;
      if (client?.clientId !== clientId) throw new errors.InvalidClient("unknown client");
      const resourceServer = new provider.ResourceServer(`urn:${audience}`, resourceServerInfo);
      const wanted = wantedOf(context);
      const token = new provider.AccessToken({
        client,
        accountId: wanted.subject,
        grantId: grantType,
        gty: grantType,
        resourceServer,
      });
      context.body = { access_token: await token.save(), expires_in: wanted.ttlSeconds, token_type: "Bearer" };
    },
    ["token_request"],
  );
  return provider;
}

/** The request of a mint: made by `requestToken` below, since nobody else knows the client's secret. */
function wantedOf(context: KoaContextWithOIDC): MintRequest {
  return JSON.parse(String(context.oidc.params?.["token_request"])) as MintRequest; // see above
}

function checkRequest(wanted: MintRequest, limits: Limits): void {
  const refuse = (message: string): never => {
    throw new GatewayError("config_invalid", message);
  };
  if (wanted.subject === "") refuse("A token needs a subject.");
  const secondsMax = limits.mintedTokenTtlMsMax / 1000;
  if (!Number.isInteger(wanted.ttlSeconds) || wanted.ttlSeconds < 1 || wanted.ttlSeconds > secondsMax) {
    refuse(`A token's lifetime is between 1 second and ${secondsMax / 86_400} days.`);
  }
  const reserved = Object.keys(wanted.claims).find((claim) => ownClaims.has(claim));
  if (reserved !== undefined) refuse(`The claim ${reserved} is set by the issuer and cannot be given.`);
  if (JSON.stringify(wanted).length > limits.tokenBytesMax / 2)
    refuse("The claims are too large: the token would not be accepted as a password.");
}

interface TokenCall {
  readonly port: number;
  readonly ca: Buffer;
  readonly secret: string;
  readonly wanted: MintRequest;
}

function requestToken({ port, ca, secret, wanted }: TokenCall): Promise<string> {
  const body = new URLSearchParams({ grant_type: grantType, token_request: JSON.stringify(wanted) }).toString();
  const headers = {
    "content-type": "application/x-www-form-urlencoded",
    authorization: `Basic ${Buffer.from(`${clientId}:${secret}`).toString("base64")}`,
  };
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { host: "127.0.0.1", port, path: "/token", method: "POST", ca, agent: false, headers, timeout: 10_000 },
      (response) => {
        readToken(response).then(resolve, reject);
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error("the development issuer did not answer")));
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function readToken(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  const answer: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  const token = typeof answer === "object" && answer !== null && "access_token" in answer ? answer.access_token : undefined;
  if (typeof token !== "string") throw new Error(`the development issuer answered with status ${response.statusCode}`);
  return token;
}

function onlyServed(handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
  return (incoming: IncomingMessage, response: ServerResponse): void => {
    const path = (incoming.url ?? "").split("?", 1)[0] ?? "";
    if (servedPaths.has(path)) void handle(incoming, response);
    else response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
  };
}

async function loadOrMakeKey(path: string): Promise<JWK> {
  let pem = await readFileIfAny(path);
  if (pem === undefined) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    await writePrivateFile(path, pem);
  }
  return { ...createPrivateKey(pem).export({ format: "jwk" }), use: "sig", alg: "ES256" };
}
